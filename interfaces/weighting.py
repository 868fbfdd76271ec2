"""Nodes of susceptibility-weighted images."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import File, traits

from qsmprep.findings import Fact, Note
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, Step, StepInputSpec, StepOutputSpec, parameters
from qsmprep.weighting.minip import MinipOptions, minimum_projection, slices_of
from qsmprep.weighting.smwi import SmwiOptions, smwi

AXES = ("first", "second", "third")


class WeightByFieldInputSpec(MethodInputSpec):
    """Inputs of `WeightByField`."""

    magnitude = File(exists=True, mandatory=True, desc="of the echoes")
    phase = File(exists=True, mandatory=True, desc="of the echoes in rad, growing with the field")
    field = File(exists=True, mandatory=True, desc="in Hz: that which the options of the method ask for")
    field_mask = File(exists=True, mandatory=True, desc="where it is known")
    mask = File(exists=True, mandatory=True, desc="of the brain")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    slice_axis = traits.Int(2, usedefault=True, desc="voxel axis across the slices")
    slice_axis_source = traits.Str(desc="how it is known")
    projection = traits.Dict(desc="options of the minimum-intensity projection")


class WeightByFieldOutputSpec(StepOutputSpec):
    """Outputs of `WeightByField`."""

    swi = File(exists=True)
    minip = File(exists=True, desc="minimum over a slab, 0 outside the brain")


class WeightByField(MethodStep):
    """Magnitude and field or phase to a susceptibility-weighted image and its minimum-intensity projection."""

    input_spec = WeightByFieldInputSpec
    output_spec = WeightByFieldOutputSpec
    stage = "swi"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.magnitude)
        mask, options = read_mask(inputs.mask), MinipOptions(**(inputs.projection or {}))
        result, record = self._run_method(
            magnitude=as_echoes(read_volume(inputs.magnitude)),
            phase=as_echoes(read_volume(inputs.phase)),
            mask=mask,
            field_hz=read_volume(inputs.field),
            field_mask=read_mask(inputs.field_mask),
            echo_times_s=list(inputs.echo_times),
            centre_frequency_mhz=inputs.centre_frequency,
            voxel_size_mm=grid.voxel_size_mm,
            slice_axis=inputs.slice_axis,
        )
        spacing = grid.voxel_size_mm[inputs.slice_axis]
        slices = slices_of(options.thickness, spacing)
        lowest = minimum_projection(result.image, mask, slices=slices, slice_axis=inputs.slice_axis)
        record.parameters += parameters(options)
        record.state(Fact("slab", "thickness of the projection", "mm", slices * spacing))
        text = f"Slices lie across the {AXES[inputs.slice_axis]} voxel axis ({inputs.slice_axis_source or 'given'})."
        record.note(Note("slice-axis", text))
        for name, image in (("swi", result.image), ("minip", lowest)):
            self._results[name] = write_volume(folder / f"{name}.nii", image, grid)
        return record


class WeightBySusceptibilityInputSpec(StepInputSpec):
    """Inputs of `WeightBySusceptibility`."""

    magnitude_rss = File(exists=True, mandatory=True, desc="root sum of squares of the echoes")
    chi = File(exists=True, mandatory=True, desc="referenced susceptibility in ppm")
    chi_mask = File(exists=True, mandatory=True, desc="where it is valid")
    options = traits.Dict()


class WeightBySusceptibilityOutputSpec(StepOutputSpec):
    """Outputs of `WeightBySusceptibility`."""

    smwi = File(exists=True)


class WeightBySusceptibility(Step):
    """Magnitude and susceptibility to a susceptibility map-weighted image."""

    input_spec = WeightBySusceptibilityInputSpec
    output_spec = WeightBySusceptibilityOutputSpec
    stage = "smwi"

    def _compute(self, folder: Path) -> Record:
        inputs, options = self.inputs, SmwiOptions(**(self.inputs.options or {}))
        mask = read_mask(inputs.chi_mask)
        result = smwi(read_volume(inputs.magnitude_rss), read_volume(inputs.chi), mask, options=options)
        title = "the susceptibility mask of SMWI"
        record = Record(self.stage, "smwi", title, ["gho2014"], parameters(options))
        record.state(Fact("mean_weight", "mean weight in the mask", "", float(result.weights[mask].mean())))
        self._results["smwi"] = write_volume(folder / "smwi.nii", result.image, read_grid(inputs.magnitude_rss))
        return record
