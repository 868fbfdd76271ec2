"""Slices of a 2D acquisition that each have a phase offset of their own: found, and taken off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Warning
from qsmprep.masking.robust import signal_threshold
from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.phasors import angle
from qsmprep.scan import Scan

CHOICES = ("auto", "align", "keep")
# rms change of the step from slice to slice above which offsets are told from a smooth phase; of a single echo, whose
# steps hold the field too, near the 1.8 rad of slices that know nothing of each other.
JUMP_RAD, JUMP_OF_SINGLE_ECHO_RAD = 0.3, 1.5
LEAST_VOXELS = 20  # that two slices must share for their offsets to be compared


@dataclass(frozen=True)
class SliceOffsets:
    """Phase offsets of the slices.

    Attributes
    ----------
    axis : voxel axis across the slices.
    offsets_rad : (n_slice,), of each slice relative to the first, a multiple of 2 pi left open.
    jump_rad : root mean square of how much the step from slice to slice changes: near 0 for a smooth phase.
    by_echoes : whether two echoes told the offset from the field; else the field's mean step is a part of it.
    """

    axis: int
    offsets_rad: DoubleArray
    jump_rad: float
    by_echoes: bool

    @property
    def are_there(self) -> bool:
        """Whether the slices jump."""
        return self.jump_rad > (JUMP_RAD if self.by_echoes else JUMP_OF_SINGLE_ECHO_RAD)


def find_slice_offsets(phase: RealArray, magnitude: RealArray, *, scan: Scan, axis: int) -> SliceOffsets:
    """Offsets by the phase steps between neighbouring slices, which need no unwrapping.

    The step d_e from one slice to the next at echo e is offset + 2 pi TE_e df, with df the small change of the field.
    Two echoes give the offset without the field: d_1 - TE1 / (TE2 - TE1) (d_2 - d_1), of which the mean over the
    slice is taken, weighted by the signal. Of a single echo the mean of d_1 itself is taken.

    Parameters
    ----------
    phase, magnitude : (n_echo, n0, n1, n2), the phase in rad.
    scan : its echo times.
    axis : across the slices, 0 to 2.

    Examples
    --------
    >>> field_hz = 20 * np.sin(np.linspace(0, 3, 12)) + np.zeros((12, 12, 12))
    >>> own = np.random.default_rng(0).uniform(-3, 3, 12)
    >>> scan = Scan((2, 2, 4), echo_times_s=(0.005, 0.012))
    >>> phase = np.stack([2 * np.pi * field_hz * te + own for te in scan.echo_times_s])
    >>> found = find_slice_offsets(phase, np.ones_like(phase), scan=scan, axis=2)
    >>> error = np.angle(np.exp(1j * (found.offsets_rad - own + own[0])))
    >>> found.are_there, bool(abs(error).max() < 1e-6)
    (True, True)
    """
    shown = np.moveaxis(magnitude[0], axis, 0)
    head = shown > signal_threshold(magnitude[0])
    steps = [_steps(phase[echo], axis) for echo in range(min(len(phase), 2))]
    step = steps[0]
    if len(steps) > 1:
        first, second = scan.known_echo_times_s[:2]
        step = step - first / (second - first) * _wrapped(steps[1] - steps[0])
    mean, told = _mean_step(step, shown, head)
    change = _wrapped(np.diff(mean))[told[1:] & told[:-1]]
    jump = float(np.sqrt(np.mean(change**2))) if change.size else 0.0
    return SliceOffsets(axis, np.concatenate([[0.0], np.cumsum(mean)]), jump, len(steps) > 1)


def remove_slice_offsets(phase: RealArray, found: SliceOffsets) -> None:
    """Take the offsets off every echo, in place; the phase is wrapped to [-pi, pi] again."""
    offsets = np.expand_dims(found.offsets_rad, [other for other in range(3) if other != found.axis])
    for echo in phase:
        echo[...] = _wrapped(echo - offsets)


def slice_warnings(found: SliceOffsets, *, aligned: bool) -> tuple[Warning, ...]:
    """What the reader must know of slices that jump."""
    size = f"by {found.jump_rad:.1f} rad (rms)"
    if found.are_there and not aligned:
        return (Warning("slices-jump", f"The phase of the slices jumps {size}, and stays so: the map has stripes.",
                        "Take --slice-phase align."),)  # fmt: skip
    if aligned and not found.by_echoes:
        text = (
            f"The phase of the slices jumps {size}; of a single echo the offset of a slice cannot be told from its "
            "field, so that the slices were aligned and what the field changes in the mean from slice to slice is lost."
        )
        return (Warning("slices-aligned-by-field", text, "Acquire two echoes or more, or in 3D; trust differences "
                        "within a slice alone."),)  # fmt: skip
    return ()


def _steps(echo: RealArray, axis: int) -> RealArray:
    """Phase of each slice less that of the one before, wrapped, slices first."""
    return _wrapped(np.diff(np.moveaxis(echo, axis, 0).astype(np.float64), axis=0))


def _mean_step(step: RealArray, magnitude: RealArray, head: Mask) -> tuple[DoubleArray, Mask]:
    """Mean of a step over each pair of slices by the direction of the summed signal; 0 where nothing tells it."""
    both = head[1:] & head[:-1]
    weight = np.where(both, magnitude[1:].astype(np.float64) * magnitude[:-1], 0)
    total = (weight * np.exp(1j * step)).sum(axis=(1, 2))
    told = both.sum(axis=(1, 2)) >= LEAST_VOXELS
    return np.where(told, angle(total), 0.0), told


def _wrapped(angle: RealArray) -> RealArray:
    return np.asarray(angle - 2 * np.pi * np.rint(angle / (2 * np.pi)))
