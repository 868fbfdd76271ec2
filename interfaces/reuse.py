"""Nodes that take over a result another program made: checked against the scan, brought to the unit of the pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.bids.grid import grid_of
from qsmprep.bids.images import open_image
from qsmprep.bids.masks import grid_problem
from qsmprep.field.agreement import phase_agreement
from qsmprep.findings import Fact, Note
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec
from qsmprep.numerics.arrays import FloatImage, Mask

LEAST_AGREEMENT = 0.6  # of a field with the phase; that of the scan has 0.9 and more
CLEARLY = 0.1  # by which another unit may agree better before this one is refused
TISSUE_FIELD_PPM = (0.002, 0.5)  # standard deviation in a brain; 0.01 to 0.05 is usual
RATES = (3.0, 300.0)  # median of R2* in a brain in 1/s, from 0.5 T to 14 T
REMEDY = 'Write its unit as "Units" into the sidecar beside it, convert it, or leave it out of --reuse'

UNCHECKED = Note("reused-unchecked", "A single echo: unit and sign could not be held against the phase of the scan.")


class ReuseInputSpec(StepInputSpec):
    """Inputs of the nodes that take over a result."""

    in_file = File(exists=True, mandatory=True, desc="image made elsewhere")
    unit = traits.Str(mandatory=True)
    told = traits.Bool(False, usedefault=True, desc="whether a sidecar told the unit")
    origin = traits.Str(mandatory=True, desc="where the image comes from, in words")
    mask = File(exists=True, mandatory=True, desc="where it is wanted")


class ReuseFieldInputSpec(ReuseInputSpec):
    """Inputs of `ReuseTotalField`, `ReuseTissueField` and `ReuseUnwrapped`."""

    phase = File(exists=True, desc="of the echoes in rad; without it the field cannot be held against the scan")
    magnitude = File(exists=True, desc="of the echoes")
    echo_times = traits.List(traits.Float, desc="in seconds")
    centre_frequency = traits.Float(desc="in MHz")


class ReuseTotalFieldOutputSpec(StepOutputSpec):
    """Outputs of `ReuseTotalField`."""

    field = File(exists=True, desc="in Hz")


class ReuseTotalField(Step):
    """Total field made elsewhere, in Hz; refused where it does not explain the phase of the scan."""

    input_spec = ReuseFieldInputSpec
    output_spec = ReuseTotalFieldOutputSpec
    stage = "field-scaling"

    def _compute(self, folder: Path) -> Record:
        values, mask = _values(self.inputs), read_mask(self.inputs.mask)
        factors = _factors_to_hz(self.inputs.centre_frequency)
        record = _record(
            self.stage, "the total field", self.inputs, "the combination of the echoes tells its noise alone"
        )
        if len(self.inputs.echo_times) > 1:
            agreement = _checked(self.inputs, {name: values * factor for name, factor in factors.items()}, mask)
            record.state(Fact("phase_agreement", "agreement with the phase from first to last echo", "", agreement))
        else:
            record.note(UNCHECKED)
        field = np.where(mask & np.isfinite(values), values * factors[self.inputs.unit], 0)
        self._results["field"] = write_volume(folder / "total_field.nii", field, read_grid(self.inputs.mask))
        return record


class ReuseUnwrappedOutputSpec(StepOutputSpec):
    """Outputs of `ReuseUnwrapped`."""

    unwrapped = File(exists=True, desc="in rad")


class ReuseUnwrapped(Step):
    """Unwrapped phase made elsewhere; refused where the echoes do not gain the phase that the scan's gain."""

    input_spec = ReuseFieldInputSpec
    output_spec = ReuseUnwrappedOutputSpec
    stage = "unwrapping"

    def _compute(self, folder: Path) -> Record:
        phase, mask, times = as_echoes(_values(self.inputs)), read_mask(self.inputs.mask), self.inputs.echo_times
        if len(phase) != len(times):
            raise ValueError(f"{self.inputs.in_file}: it has {len(phase)} echoes, the scan has {len(times)}. Leave it "
                             "out of --reuse, or choose the same by --echoes.")  # fmt: skip
        record = _record(
            self.stage, "the unwrapped phase", self.inputs, "the unwrapping here tells its quality map alone"
        )
        if len(times) > 1:
            gained = (phase[-1] - phase[0]) / (2 * math.pi * (times[-1] - times[0]))
            agreement = _checked(self.inputs, {"rad": gained, "-rad": -gained}, mask)
            record.state(Fact("phase_agreement", "agreement with the phase from first to last echo", "", agreement))
        else:
            record.note(UNCHECKED)
        inside = np.where(mask & np.isfinite(phase), phase, 0).astype(np.float32)
        inside = inside[0] if len(inside) == 1 else inside
        self._results["unwrapped"] = write_volume(folder / "unwrapped.nii", inside, read_grid(self.inputs.mask))
        return record


class ReuseTissueFieldOutputSpec(StepOutputSpec):
    """Outputs of `ReuseTissueField`."""

    local_field = File(exists=True, desc="tissue field in Hz")
    mask = File(exists=True, desc="consensus mask 4: where there is a tissue field")


class ReuseTissueField(Step):
    """Tissue field made elsewhere, in Hz, and where it is valid; refused where no brain has such values."""

    input_spec = ReuseFieldInputSpec
    output_spec = ReuseTissueFieldOutputSpec
    stage = "background"

    def _compute(self, folder: Path) -> Record:
        grid, values = read_grid(self.inputs.mask), _values(self.inputs)
        inside = read_mask(self.inputs.mask) & np.isfinite(values) & (values != 0)
        factors = _factors_to_hz(self.inputs.centre_frequency)
        spread = float(values[inside].std()) / self.inputs.centre_frequency if inside.any() else 0.0
        low, high = TISSUE_FIELD_PPM
        if not low <= (own := spread * factors[self.inputs.unit]) <= high:
            others = [name for name in ("Hz", "rad/s", "ppm") if low <= spread * factors[name] <= high]
            fits = f"as {' or '.join(others)} they would be usual" if others else "they fit no unit"
            raise ValueError(
                f"{self.inputs.in_file}: as {self.inputs.unit} its values in the brain have a standard deviation of "
                f"{own:.2g} ppm, while {low:g} to {high:g} is possible; {fits}. {REMEDY}."
            )
        record = _record(self.stage, "the tissue field", self.inputs)
        record.state(
            Fact("spread", "standard deviation", "ppm", own),
            Fact("mask_voxels", "voxels of mask 4", "", int(inside.sum())),
        )
        field = np.where(inside, values * factors[self.inputs.unit], 0)
        self._results["local_field"] = write_volume(folder / "local_field.nii", field, grid)
        self._results["mask"] = write_volume(folder / "qsm_mask.nii", inside, grid)
        return record


class ReuseR2starOutputSpec(StepOutputSpec):
    """Outputs of `ReuseR2star`."""

    r2star = File(exists=True, desc="in 1/s")
    t2star = File(exists=True, desc="its inverse in s")


class ReuseR2star(Step):
    """R2* made elsewhere, in 1/s; refused where no brain has such values."""

    input_spec = ReuseInputSpec
    output_spec = ReuseR2starOutputSpec
    stage = "relaxometry"

    def _compute(self, folder: Path) -> Record:
        grid, values = read_grid(self.inputs.mask), _values(self.inputs)
        inside = read_mask(self.inputs.mask) & np.isfinite(values) & (values > 0)
        rates = np.where(inside, values * (1000.0 if self.inputs.unit == "1/ms" else 1.0), 0).astype(np.float32)
        median = float(np.median(rates[inside])) if inside.any() else 0.0
        low, high = RATES
        if not low <= median <= high:
            raise ValueError(f"{self.inputs.in_file}: as {self.inputs.unit} the median of R2* in the brain is "
                             f"{median:.3g} 1/s, while {low:g} to {high:g} is possible. {REMEDY}.")  # fmt: skip
        record = _record(self.stage, "R2*", self.inputs, "S0 and misfit are those of the fit here")
        record.state(Fact("median", "median", "1/s", median))
        times = np.divide(1, rates, out=np.zeros_like(rates), where=rates > 0)
        self._results["r2star"] = write_volume(folder / "r2star.nii", rates, grid)
        self._results["t2star"] = write_volume(folder / "t2star.nii", times, grid)
        return record


def _values(inputs: ReuseInputSpec) -> FloatImage:
    """Values of the given image, on the grid of the mask."""
    path = Path(inputs.in_file)
    if problem := grid_problem(path, grid_of(open_image(path)), read_grid(inputs.mask), what="image"):
        raise ValueError(str(problem))
    return read_volume(path)


def _factors_to_hz(centre_frequency_mhz: float) -> dict[str, float]:
    """What the values are multiplied by to be in Hz; those of the opposite sign bear a minus."""
    factors = {"Hz": 1.0, "rad/s": 1 / (2 * math.pi), "ppm": centre_frequency_mhz}
    return factors | {f"-{name}": -factor for name, factor in factors.items()}


def _checked(inputs: ReuseFieldInputSpec, fields_hz: Mapping[str, FloatImage], mask: Mask) -> float:
    """Agreement with the scan of the field in the unit that was told; ValueError where it is too low."""
    phase, magnitude = (as_echoes(read_volume(path)) for path in (inputs.phase, inputs.magnitude))
    found = {
        unit: phase_agreement(field, phase, magnitude, mask, inputs.echo_times) for unit, field in fields_hz.items()
    }
    own, best = found[inputs.unit], max(found, key=lambda unit: np.nan_to_num(found[unit]))
    if own >= max(LEAST_AGREEMENT, found[best] - CLEARLY):
        return own
    sign = " with the opposite sign" if best.startswith("-") else ""
    fits = f"; as {best.removeprefix('-')}{sign} it would be {found[best]:.2f}"
    raise ValueError(
        f"{inputs.in_file}: as {inputs.unit} it does not explain the phase of the scan between first and last echo "
        f"(agreement {own:.2f} of 1){fits if found[best] >= LEAST_AGREEMENT else ''}. {REMEDY}."
    )


def _record(stage: str, what: str, inputs: ReuseInputSpec, beside: str = "") -> Record:
    """The record of a result taken over; `beside` says what of this program's own step is still used."""
    title = f"another program, whose result was taken over: {inputs.origin}"
    record = Record(stage, "imported", f"{title} ({beside})" if beside else title)
    unit = "as its sidecar says" if isdefined(inputs.told) and inputs.told else "assumed, as no sidecar tells"
    record.note(Note("reused", f"Taken over for {what}: {inputs.origin}; unit {inputs.unit}, {unit}."))
    return record
