"""Nodes of dipole inversion and referencing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.interfaces.images import read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import (
    MethodInputSpec,
    MethodStep,
    Record,
    Step,
    StepInputSpec,
    StepOutputSpec,
    parameters,
)
from qsmprep.inversion.reference import reference_to
from qsmprep.phase.sign import chi_sign_is_plausible
from qsmprep.settings import ReferenceOptions
from qsmprep.units import check_susceptibility_ppm, hz_to_ppm


class InvertInputSpec(MethodInputSpec):
    """Inputs of `Invert`."""

    local_field = File(exists=True, mandatory=True, desc="tissue field in Hz")
    mask = File(exists=True, mandatory=True, desc="consensus mask 4")
    weights = File(exists=True, desc="data weights")
    noise = File(exists=True, desc="noise of the field in Hz")
    residual = File(exists=True, desc="relative residual of the signal model")
    magnitude = File(exists=True, desc="root sum of squares of the echoes")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")


class ChiOutputSpec(StepOutputSpec):
    """Susceptibility."""

    chi = File(exists=True, desc="susceptibility in ppm")


class InvertOutputSpec(ChiOutputSpec):
    """Outputs of `Invert`."""

    mask = File(exists=True, desc="where the susceptibility is valid")


class Invert(MethodStep):
    """Tissue field to susceptibility."""

    input_spec = InvertInputSpec
    output_spec = InvertOutputSpec
    stage = "inversion"
    source_modules = ("qsmprep.inversion",)

    def _compute(self, folder: Path) -> Record:
        inputs, grid, mask = self.inputs, read_grid(self.inputs.local_field), read_mask(self.inputs.mask)
        if not mask.any():
            raise ValueError("No voxel is left after background field removal: use smaller radii or check the mask.")
        field_hz = read_volume(inputs.local_field)
        result, record = self._run_method(
            field_ppm=hz_to_ppm(field_hz, inputs.centre_frequency),
            mask=mask,
            voxel_size_mm=grid.voxel_size_mm,
            b0_direction=tuple(inputs.b0_direction or grid.b0_direction),
            weights=_volume(inputs.weights),
            noise_hz=_volume(inputs.noise),
            relative_residual=_volume(inputs.residual),
            magnitude=_volume(inputs.magnitude),
            echo_times_s=tuple(inputs.echo_times),
            centre_frequency_mhz=inputs.centre_frequency,
        )
        check_susceptibility_ppm(result.chi_ppm, result.mask)
        record.add_convergence(result.convergence)
        record.warnings += result.warnings
        self._results["chi"] = write_volume(folder / "chi.nii", result.chi_ppm, grid)
        self._results["mask"] = write_volume(folder / "mask.nii", result.mask, grid)
        return record


class ReferenceInputSpec(StepInputSpec):
    """Inputs of `Reference`."""

    chi = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    r2star = File(exists=True, desc="in 1/s; where given, the map's sign is tested against it")
    label = traits.Str("", usedefault=True, desc="which of several maps this is")
    options = traits.Dict()


REFERENCE_TITLES = {
    "whole-brain": "the mean of the whole-brain mask",
    "none": "no region (the mean is as the inversion left it)",
}


class Reference(Step):
    """Set where susceptibility is zero."""

    input_spec = ReferenceInputSpec
    output_spec = ChiOutputSpec
    stage = "reference"
    source_modules = ("qsmprep.inversion", "qsmprep.phase.sign")

    def _compute(self, folder: Path) -> Record:
        options = ReferenceOptions(**(self.inputs.options or {}))
        chi, mask = read_volume(self.inputs.chi), read_mask(self.inputs.mask)
        result = reference_to(chi, mask)
        title = REFERENCE_TITLES[options.region] + (f" ({self.inputs.label})" if self.inputs.label else "")
        record = Record(self.stage, options.region, title, [], parameters(options))
        record.facts = {
            "region": options.region,
            "mean before subtraction (ppm)": result.mean_ppm,
            "standard deviation (ppm)": result.sd_ppm,
        }
        if isdefined(self.inputs.r2star):
            check = chi_sign_is_plausible(chi, read_volume(self.inputs.r2star), mask)
            (record.notes if check.plausible else record.warnings).append(f"Sign test: {check.reason}.")
        chi = chi if options.region == "none" else result.chi_ppm
        self._results["chi"] = write_volume(folder / "chi.nii", chi, read_grid(self.inputs.chi))
        return record


def _volume(path) -> np.ndarray | None:
    return read_volume(path) if isdefined(path) else None
