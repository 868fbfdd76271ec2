"""Node that writes a derivative under its final name, with its sidecar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, traits

from qsmprep.bids.grid import grid_of
from qsmprep.bids.images import open_image
from qsmprep.bids.outputs import OUTPUTS, output_path, sidecar, transform_path, write_image, write_json, write_text
from qsmprep.files.checksum import sha256_of
from qsmprep.interfaces.step import records_behind


class SaveOutputInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveOutput`."""

    in_file = File(exists=True, mandatory=True)
    key = traits.Str(mandatory=True, desc="key of the table of outputs")
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")
    desc = traits.Str(desc="replaces the table's desc")
    raw_sources = traits.List(traits.Str, desc="input files relative to the dataset")
    sources = traits.List(traits.Str, desc="BIDS URIs of direct parents, where those of several runs")
    available = traits.List(traits.Str, desc="keys of the outputs that the run writes")
    software = traits.Dict(desc="name -> version")


class SaveOutputOutputSpec(TraitedSpec):
    """Outputs of `SaveOutput`."""

    out_file = File(exists=True)


class SaveOutput(SimpleInterface):
    """Write one derivative and its sidecar, each whole."""

    input_spec = SaveOutputInputSpec
    output_spec = SaveOutputOutputSpec
    _always_run = True  # an output that somebody deleted is written again

    def _run_interface(self, runtime):
        inputs = self.inputs
        relative = output_path(inputs.key, inputs.prefix, desc=inputs.desc or None)
        path = Path(inputs.output_dir) / relative
        image = open_image(inputs.in_file)
        write_image(path, np.asanyarray(image.dataobj), grid_of(image), mask=OUTPUTS[inputs.key].is_mask)
        document = sidecar(
            inputs.key,
            inputs.prefix,
            raw_sources=tuple(inputs.raw_sources or ()),
            steps=records_behind([inputs.in_file]),
            available=frozenset(inputs.available or ()),
            software=inputs.software,
            sources=tuple(inputs.sources or ()),
        )
        document["Digest"] = {"sha256": sha256_of(path)}
        write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), document)
        self._results["out_file"] = str(path)
        return runtime


class SaveTransformInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveTransform`."""

    in_file = File(exists=True, mandatory=True)
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")
    moving = traits.Str(mandatory=True, desc="spin echo image relative to the dataset")
    reference = traits.Str(mandatory=True, desc="gradient echo image relative to the dataset")


class SaveTransform(SimpleInterface):
    """Write how the spin echo scan lies to the gradient echoes, as an ITK text file with a sidecar."""

    input_spec = SaveTransformInputSpec
    output_spec = SaveOutputOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        path = Path(inputs.output_dir) / transform_path(inputs.prefix)
        write_text(path, Path(inputs.in_file).read_text("utf-8"))
        document = {
            "Description": "Rigid transform that takes a point of the gradient echo scan to one of the spin echo scan.",
            "Sources": [f"bids:raw:{inputs.moving}", f"bids:raw:{inputs.reference}"],
        }
        write_json(path.with_suffix(".json"), document)
        self._results["out_file"] = str(path)
        return runtime
