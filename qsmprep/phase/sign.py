"""The sign of the phase: GE's slice alternation, the vendor's convention, and a test on the finished map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qsmprep.numerics.arrays import ComplexImage
from qsmprep.numerics.volume import bounding_box

GE = re.compile(r"^\s*(ge\b|general\s+electric)", re.IGNORECASE)
KEPT = re.compile(r"^\s*(siemens|philips)\b", re.IGNORECASE)  # the paper's example keeps theirs


@dataclass(frozen=True)
class SliceAlternation:
    """Whether neighbouring slices have opposite sign, and along which axis.

    Attributes
    ----------
    axis : the slice axis if the sign alternates along it, counted from the end (-3, -2, -1), so that it also names it
        in an array with echoes in front; else None.
    mean_cosine : magnitude-weighted mean of cos(phase difference of neighbouring slices), one for each axis.
    """

    axis: int | None
    mean_cosine: tuple[float, ...]


@dataclass(frozen=True)
class SignCheck:
    """Whether iron-rich tissue (brightest R2*) is more paramagnetic than the rest, as it must be.

    Attributes
    ----------
    plausible : False if the sign of the phase is probably wrong.
    mean_chi_high_r2star : mean susceptibility, in ppm, of the deep voxels in the top decile of R2*.
    mean_chi_rest : mean susceptibility, in ppm, of the other deep voxels.
    voxels : number of voxels in the top decile.
    reason : one sentence for the report.
    """

    plausible: bool
    mean_chi_high_r2star: float
    mean_chi_rest: float
    voxels: int
    reason: str


def slice_alternation(phase: np.ndarray, magnitude: np.ndarray | None = None) -> SliceAlternation:
    """Find GE's alternating slice sign (a 3D transform without its shift) in the first echo's phase.

    Neighbouring slices of a head agree, so that the mean cosine of their phase difference is positive; with the
    alternation it is strongly negative.

    Parameters
    ----------
    phase : (n0, n1, n2) in rad, the earliest echo.
    magnitude : same shape, or None for equal weights.
    """
    cosines = tuple(_mean_cosine(_thinned(phase, magnitude, axis), axis) for axis in range(phase.ndim))
    lowest = int(np.argmin(cosines))
    return SliceAlternation(lowest - phase.ndim if cosines[lowest] < -0.3 else None, cosines)


def remove_slice_alternation(data: np.ndarray, axis: int) -> np.ndarray:
    """Turn every second slice along `axis` by pi: complex data times -1, or phase in rad plus pi, wrapped.

    The input is left as it is.
    """
    fixed = np.array(data)
    index = [slice(None)] * fixed.ndim
    index[axis] = slice(1, None, 2)
    odd = fixed[tuple(index)]
    if np.iscomplexobj(fixed):
        fixed[tuple(index)] = -odd
    else:
        fixed[tuple(index)] = odd - np.copysign(np.asarray(np.pi, fixed.dtype), odd)
    return fixed


class SignDecision(NamedTuple):
    """Whether to invert the phase, why, and whether a known convention or the user says so."""

    inverted: bool
    reason: str
    known: bool = True


def decide_sign(manufacturer: str = "", setting: str = "auto") -> SignDecision:
    """Whether to invert the phase, and why.

    The pipeline wants phase = +2 pi f TE with f > 0 where the field is stronger. The phase itself cannot tell its sign
    from the sign of the field, so that the vendor's convention or the user decides.

    Parameters
    ----------
    manufacturer : DICOM manufacturer; may be empty.
    setting : "auto" (invert GE, keep others: of these only Siemens and Philips are known), "keep" or "invert".

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 2024, supporting information S2: GE phase is inverted.
    """
    if setting == "keep":
        return SignDecision(False, "kept, as the user asked")
    if setting == "invert":
        return SignDecision(True, "inverted, as the user asked")
    if setting != "auto":
        raise ValueError(f"Phase sign setting is {setting!r}; choose one of auto, keep, invert.")
    name = manufacturer.strip()
    if GE.match(name):
        return SignDecision(True, f"inverted: {name} stores phase that falls with a stronger field")
    if KEPT.match(name):
        return SignDecision(False, f"kept: {name} stores phase that rises with a stronger field")
    whose = f"the convention of {name}" if name else "the manufacturer"
    return SignDecision(
        False, f"kept: {whose} is not known; the sign test of the map tells whether it fits", known=False
    )


def chi_sign_is_plausible(chi_ppm: np.ndarray, r2star: np.ndarray, mask: np.ndarray) -> SignCheck:
    """Test the sign of a susceptibility map: deep voxels of the brightest R2* (iron) must lie above the others.

    Deep voxels are those further from the mask's edge than 0.4 of its greatest depth, which leaves out the sinuses.

    Parameters
    ----------
    chi_ppm : susceptibility (n0, n1, n2) in ppm.
    r2star : effective transverse relaxation rate in 1/s, same shape.
    mask : where both are valid, same shape.

    Raises
    ------
    ValueError : if the mask is empty.
    """
    usable = _deep_part(np.asarray(mask, bool)) & np.isfinite(chi_ppm) & np.isfinite(r2star) & (r2star > 0)
    if not usable.any():
        return SignCheck(True, 0.0, 0.0, 0, "not tested: no voxel with a relaxation rate deep in the mask")
    rate, chi = r2star[usable], chi_ppm[usable].astype(np.float64)
    brightest = rate >= np.percentile(rate, 90)
    if brightest.all():
        return SignCheck(True, float(chi.mean()), float(chi.mean()), 0, "not tested: R2* is the same everywhere")
    high, rest = float(chi[brightest].mean()), float(chi[~brightest].mean())
    words = f"mean susceptibility {high:+.4f} ppm where R2* is highest, {rest:+.4f} ppm elsewhere"
    verdict = "as expected of iron" if high >= rest else "iron would be diamagnetic: the sign of the phase may be wrong"
    return SignCheck(high >= rest, high, rest, int(brightest.sum()), f"{words}: {verdict}")


def _thinned(phase: np.ndarray, magnitude: np.ndarray | None, axis: int) -> np.ndarray:
    """The complex signal on every second line along `axis`: a quarter of the voxels is plenty for a mean."""
    lines = tuple(slice(None, None, 1 if a == axis else 2) for a in range(phase.ndim))
    signal: ComplexImage = np.exp(1j * np.asarray(phase[lines], np.float32))
    if magnitude is not None:
        signal *= np.nan_to_num(np.asarray(magnitude[lines], np.float32), posinf=0)
    return signal


def _mean_cosine(signal: np.ndarray, axis: int) -> float:
    """Weighted mean cosine of the phase difference of neighbouring slices; 0 for a single slice."""
    moved = np.moveaxis(signal, axis, 0)
    first, second = moved[:-1], moved[1:]
    weight = float(np.sum(np.abs(first) * np.abs(second), dtype=np.float64))
    return float(np.sum((first * second.conj()).real, dtype=np.float64)) / weight if weight else 0.0


def _deep_part(mask: np.ndarray) -> np.ndarray:
    """Voxels further from the edge than 0.4 of the greatest depth, found on every second voxel for speed."""
    from scipy.ndimage import distance_transform_edt

    box = bounding_box(mask)
    coarse = np.pad(mask[box][::2, ::2, ::2], 1)
    depth = distance_transform_edt(coarse)[1:-1, 1:-1, 1:-1]
    deep = depth > 0.4 * depth.max()
    for axis in range(mask.ndim):
        deep = deep.repeat(2, axis)
    inside = np.zeros(mask.shape, bool)
    inside[box] = deep[tuple(slice(0, s.stop - s.start) for s in box)] & mask[box]
    return inside
