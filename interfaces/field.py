"""Nodes that make the total field from the echoes, and the weights of the inversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.field.nonlinear import increment_to_field, increment_to_hz
from qsmprep.field.snr import scan_snr
from qsmprep.field.weights import WeightOptions, data_weights, relative_residual
from qsmprep.findings import Fact, Note
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import (
    PEAK_SNR,
    MethodInputSpec,
    MethodStep,
    Record,
    Step,
    StepInputSpec,
    StepOutputSpec,
    parameters,
)


class FieldOutputSpec(StepOutputSpec):
    """The total field."""

    field = File(exists=True, desc="in Hz")
    noise = File(exists=True, desc="standard deviation in Hz for unit noise of the signal")


class EchoesInputSpec(MethodInputSpec):
    """Inputs of `CombineEchoes` and `FitField`."""

    phase = File(exists=True, mandatory=True, desc="in rad, echoes as the fourth axis")
    magnitude = File(exists=True, mandatory=True, desc="of the echoes")
    mask = File(exists=True)
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")


class CombineEchoes(MethodStep):
    """Unwrapped phase of the echoes to the total field."""

    input_spec = EchoesInputSpec
    output_spec = FieldOutputSpec
    stage = "echo-combination"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.phase)
        phase, magnitude, mask = _echoes(self.inputs.phase), _echoes(self.inputs.magnitude), _mask(self.inputs.mask)
        result, record = self._run_method(
            unwrapped_phase=phase,
            magnitude=magnitude,
            mask=mask,
            scan=scan_of(grid, self.inputs),
        )
        snr = scan_snr(
            phase, magnitude, _everywhere(mask, result.field_hz), field_hz=result.field_hz, noise_hz=result.noise_hz,
            echo_times_s=self.inputs.echo_times,
        )  # fmt: skip
        record.state(*_snr(snr))
        self._results["field"] = write_volume(folder / "total_field.nii", result.field_hz, grid)
        self._results["noise"] = write_volume(folder / "noise.nii", result.noise_hz, grid)
        return record


class FitFieldOutputSpec(StepOutputSpec):
    """Outputs of `FitField`."""

    phase_per_spacing = File(exists=True, desc="fitted phase per echo spacing in rad, wrapped")
    noise = File(exists=True, desc="its standard deviation in Hz for unit noise of the signal")
    spacing_s = traits.Float(desc="time over which that phase is gained")


class FitField(MethodStep):
    """Complex echoes to the phase per echo spacing, still wrapped."""

    input_spec = EchoesInputSpec
    output_spec = FitFieldOutputSpec
    stage = "echo-combination"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.phase)
        phase, magnitude, mask = _echoes(self.inputs.phase), _echoes(self.inputs.magnitude), _mask(self.inputs.mask)
        result, record = self._run_method(
            phase=phase,
            magnitude=magnitude,
            mask=mask,
            scan=scan_of(grid, self.inputs),
        )
        record.state(Fact("voxels_unfinished", "voxels that used up the iterations", "", result.unfinished))
        record.add_curve(result.convergence)
        field = increment_to_field(result.increment_rad, result)
        snr = scan_snr(
            phase, magnitude, _everywhere(mask, field.field_hz), field_hz=field.field_hz, noise_hz=field.noise_hz,
            echo_times_s=self.inputs.echo_times, period_hz=1 / float(result.spacing_s),
        )  # fmt: skip
        record.state(*_snr(snr))
        self._results["phase_per_spacing"] = write_volume(folder / "fitted.nii", result.increment_rad, grid)
        self._results["noise"] = write_volume(folder / "noise.nii", field.noise_hz, grid)
        self._results["spacing_s"] = float(result.spacing_s)
        return record


class FieldOfFitInputSpec(StepInputSpec):
    """Inputs of `FieldOfFit`."""

    phase = File(exists=True, mandatory=True, desc="unwrapped phase per echo spacing in rad")
    noise = File(exists=True, mandatory=True)
    echo_spacing = traits.Float(mandatory=True, desc="time over which the phase is gained, in seconds")


class FieldOfFit(Step):
    """Unwrapped phase per echo spacing to the total field in Hz."""

    input_spec = FieldOfFitInputSpec
    output_spec = FieldOutputSpec
    stage = "field-scaling"

    def _compute(self, folder: Path) -> Record:
        field = increment_to_hz(read_volume(self.inputs.phase), self.inputs.echo_spacing)
        grid = read_grid(self.inputs.phase)
        self._results["field"] = write_volume(folder / "total_field.nii", field, grid)
        self._results["noise"] = self.inputs.noise
        return Record(self.stage, "scaled", "dividing the unwrapped phase by the echo spacing")


class DataWeightsInputSpec(StepInputSpec):
    """Inputs of `DataWeights`."""

    noise = File(exists=True, mandatory=True, desc="noise of the field in Hz")
    total_field = File(exists=True, mandatory=True, desc="in Hz")
    magnitude = File(exists=True, mandatory=True, desc="of the echoes")
    phase = File(exists=True, mandatory=True, desc="of the echoes in rad, offset removed")
    mask = File(exists=True, mandatory=True)
    r2star = File(exists=True, desc="in 1/s; without it there is no residual")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    options = traits.Dict()


class DataWeightsOutputSpec(StepOutputSpec):
    """Outputs of `DataWeights`."""

    weights = File(exists=True, desc="data weights, at most 1")
    residual = File(exists=True, desc="relative residual of the signal model")


WEIGHT_TITLES = {
    "noise": "the inverse of the field's noise",
    "noise-median": "the inverse of the field's noise, scaled by its median",
    "magnitude": "the magnitude",
    "none": "one everywhere",
}


class DataWeights(Step):
    """How far the inversion shall trust each voxel.

    The residual is handed on, not applied: which voxels get no weight for it is an option of each inversion.
    """

    input_spec = DataWeightsInputSpec
    output_spec = DataWeightsOutputSpec
    stage = "weights"

    def _compute(self, folder: Path) -> Record:
        options = WeightOptions(**(self.inputs.options or {}))
        grid, mask = read_grid(self.inputs.noise), read_mask(self.inputs.mask)
        magnitude = _echoes(self.inputs.magnitude)
        record = Record(self.stage, options.kind, WEIGHT_TITLES[options.kind], [], parameters(options))
        if isdefined(self.inputs.r2star):
            residual = relative_residual(
                _echoes(self.inputs.phase),
                magnitude,
                r2star=read_volume(self.inputs.r2star),
                field_hz=read_volume(self.inputs.total_field),
                echo_times_s=self.inputs.echo_times,
                mask=mask,
            )
            median = float(np.median(residual[mask]))
            record.state(Fact("median_residual", "median relative residual of the signal model", "", median))
            self._results["residual"] = write_volume(folder / "residual.nii", residual, grid)
        else:
            text = "No relaxation map: no voxel is excluded from the inversion for its residual."
            record.note(Note("no-residual", text))
        weights = data_weights(
            noise_hz=read_volume(self.inputs.noise),
            magnitude=magnitude,
            mask=mask,
            options=options,
        )
        self._results["weights"] = write_volume(folder / "weights.nii", weights, grid)
        return record


def _snr(snr: float | None) -> tuple[Fact, ...]:
    """The scan's peak signal-to-noise ratio; nothing where it cannot be told."""
    return () if snr is None else (Fact(PEAK_SNR, "peak signal-to-noise ratio of the first echo", "", snr),)


def _everywhere(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, bool) if mask is None else mask


def _echoes(path: str) -> np.ndarray:
    return as_echoes(read_volume(path))


def _mask(path: str) -> np.ndarray | None:
    return read_mask(path) if isdefined(path) else None
