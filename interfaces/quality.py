"""Nodes of quality numbers: compute them for one run, and write them under their final name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from qsmprep.bids.images import open_image
from qsmprep.bids.outputs import quality_path, write_json
from qsmprep.findings import Fact, Warning, code_of, fact_values
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, scan_of
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec, snr_of
from qsmprep.quality.assessment import VERDICTS, Images, assess, document

MASKS = ("brain_mask", "reliable_mask", "background_mask", "qsm_mask")
VOLUMES = ("unwrapped", "total_field_hz", "noise_hz", "tissue_field_hz", "chi_ppm", "r2star")
ECHOES = ("magnitude", "phase")


class AssessQualityInputSpec(StepInputSpec):
    """Inputs of `AssessQuality`: images named as in `Images`; what is not connected gives no number."""

    brain_mask = File(exists=True, mandatory=True)
    reliable_mask = File(exists=True)
    background_mask = File(exists=True)
    qsm_mask = File(exists=True)
    magnitude = File(exists=True, desc="of the echoes used")
    phase = File(exists=True, desc="of the echoes used, offset removed")
    unwrapped = File(exists=True)
    input_phase = File(exists=True, desc="of all echoes as the scanner gave it; the first is looked at")
    total_field_hz = File(exists=True)
    noise_hz = File(exists=True)
    tissue_field_hz = File(exists=True)
    chi_ppm = File(exists=True)
    r2star = File(exists=True)
    echo_times = traits.List(traits.Float, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")
    for_results = traits.Bool(True, usedefault=True, desc="whether the pipeline is one that gives maps for use at all")


class AssessQualityOutputSpec(StepOutputSpec):
    """Outputs of `AssessQuality`."""

    out_file = File(exists=True, desc="JSON: metrics, definitions, flags, verdict")


class AssessQuality(Step):
    """Quality numbers of a run; a warning for each that lies beyond its limits."""

    input_spec = AssessQualityInputSpec
    output_spec = AssessQualityOutputSpec
    stage = "quality"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.brain_mask)
        given = {
            name: getattr(inputs, name) for name in (*MASKS, *VOLUMES, *ECHOES) if isdefined(getattr(inputs, name))
        }
        images: dict[str, np.ndarray] = {
            name: read_mask(path) if name in MASKS else read_volume(path) for name, path in given.items()
        }
        images |= {name: as_echoes(images[name]) for name in ECHOES if name in images}
        if isdefined(inputs.input_phase):
            images["input_phase"] = _first_echo(inputs.input_phase)
        quality = assess(Images(**images), scan_of(grid, inputs), **self._known())
        if not inputs.for_results:
            quality = replace(quality, verdict=VERDICTS[-1])
        record = Record(self.stage, "numbers", "quality metrics, each compared with its limits", ["qsmconsensus2024"])
        record.state(Fact("verdict", "verdict", "", quality.verdict))
        record.warn(*(Warning(code_of(flag.metric), flag.message, flag.remedy) for flag in quality.flags))
        path = folder / "quality.json"
        path.write_text(json.dumps(document(quality), allow_nan=False), encoding="utf-8")
        self._results["out_file"] = str(path)
        return record

    def _known(self) -> dict[str, float]:
        """What earlier steps told, by the names that `assess` has for it."""
        records = self._records_before()
        reference = fact_values(next((r["facts"] for r in records if r["stage"] == "reference"), None))
        known = {
            "peak_snr": snr_of(records),
            "reference_mean_ppm": reference.get("mean_before"),
            "reference_sd_ppm": reference.get("sd"),
        }
        return {name: value for name, value in known.items() if value is not None}


class SaveQualityInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveQuality`."""

    in_file = File(exists=True, mandatory=True)
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")
    subject = traits.Str(mandatory=True)
    session = traits.Either(None, traits.Str, usedefault=True)
    software = traits.Dict(desc="name -> version")


class SaveQualityOutputSpec(TraitedSpec):
    """Outputs of `SaveQuality`."""

    out_file = File(exists=True)


class SaveQuality(SimpleInterface):
    """Write the numbers of a run beside its maps."""

    input_spec = SaveQualityInputSpec
    output_spec = SaveQualityOutputSpec
    _always_run = True  # a file that somebody deleted is written again

    def _run_interface(self, runtime):
        inputs = self.inputs
        head = {"run": inputs.prefix, "subject": inputs.subject, "session": inputs.session or None,
                "software": {"qsmprep": inputs.software.get("qsmprep", "")}}  # fmt: skip
        path = Path(inputs.output_dir) / quality_path(inputs.prefix)
        write_json(path, head | json.loads(Path(inputs.in_file).read_text("utf-8")))
        self._results["out_file"] = str(path)
        return runtime


def _first_echo(path: str) -> np.ndarray:
    """The first echo alone, the others left on disk."""
    data = open_image(path).dataobj
    return np.ascontiguousarray(data[..., 0] if len(data.shape) == 4 else data, np.float32)
