"""Choice of a regularisation parameter without a truth: the L-curve of data misfit against penalty.

Seen with logarithmic axes, the curve falls steeply where a stronger penalty costs little fit, and runs out flat where
it costs much. The corner between the two has the largest curvature. With variational penalties such as total variation
the corner lies at too strong a penalty, and the nearest point of zero curvature before it, where the curve turns from
bending outwards to bending inwards, is closer to the least error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qsmprep.findings import Warning
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient
from qsmprep.numerics.volume import frame_around
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from scipy.interpolate import BSpline

NORMS = ("l1", "l2", "image")
FINE = 1000  # points of the interpolated curve
STANDSTILL = 0.1  # of its greatest pace: slower, the curve stands still, and its curvature means nothing
FLAT = 1e-6  # of the curvature of the corner: less is that of the spline's ends, which is 0 but for its rounding
SHORT = 0.5  # length in logarithmic units of a curve that is hardly there


def data_misfit(
    chi_ppm: np.ndarray,
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    weights: np.ndarray | None = None,
    padding: int = 16,
) -> float:
    """|w (D chi - f)|^2 over the mask, both sides without their weighted mean, which no method fits.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm, 0 outside the mask.
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where both are valid.
    scan : voxel size and direction of B0.
    weights : (n0, n1, n2) data weights w >= 0; None: 1.
    padding : zeros added to each axis before the transform.
    """
    inside = (np.asarray(mask) > 0) & np.isfinite(field_ppm)
    frame = frame_around(inside, padding=padding)
    kernel = dipole_kernel(frame.padded_shape, scan.voxel_size_mm, scan.b0_direction)
    spectrum = rfftn(frame.crop(np.where(inside, chi_ppm, 0).astype(np.float32)))
    found = frame.restore(irfftn(spectrum * kernel, frame.padded_shape))
    residual = (found[inside] - field_ppm[inside]).astype(np.float64)
    trust = np.ones_like(residual) if weights is None else np.asarray(weights, np.float64)[inside] ** 2
    if not trust.any():
        raise ValueError("The data weights are 0 everywhere in the mask.")
    residual -= np.average(residual, weights=trust)
    return float((trust * residual**2).sum())


def penalty(chi_ppm: np.ndarray, mask: np.ndarray, *, voxel_size_mm: tuple[float, float, float], norm: str) -> float:
    """What a method penalises, summed over the mask.

    Norm "l1": |grad chi|, component by component; "l2": its square; "image": the square of chi less its mean. Gradients
    are per mm. Differences across the mask's rim are left out: they hold the reference, not the tissue.
    """
    inside = np.asarray(mask) > 0
    if norm == "image":
        chosen = np.asarray(chi_ppm)[inside].astype(np.float64)
        return float(((chosen - chosen.mean()) ** 2).sum())
    steps = gradient(np.where(inside, chi_ppm, 0).astype(np.float32), voxel_size_mm)
    between = np.stack([inside & np.roll(inside, -1, axis) for axis in range(3)])
    chosen = steps[between].astype(np.float64)
    if norm == "l1":
        return float(np.abs(chosen).sum())
    if norm == "l2":
        return float((chosen**2).sum())
    raise ValueError(f"Unknown norm {norm!r}; choose one of {', '.join(NORMS)}.")


@dataclass(frozen=True)
class LCurve:
    """An L-curve interpolated between its candidates, and the parameters it points to.

    Attributes
    ----------
    values, misfits, penalties : (n,) the candidates in ascending order of the parameter.
    curvatures : (n,) at the candidates, positive where the curve bends towards the origin.
    fine_values, fine_misfits, fine_penalties, fine_curvatures : the same along the interpolated curve.
    corner : parameter of largest curvature.
    inflection : parameter of zero curvature nearest to the corner on the side of the weaker penalty; None where there
        is none among the candidates.
    warnings : what makes the choice doubtful.
    """

    values: np.ndarray
    misfits: np.ndarray
    penalties: np.ndarray
    curvatures: np.ndarray
    fine_values: np.ndarray
    fine_misfits: np.ndarray
    fine_penalties: np.ndarray
    fine_curvatures: np.ndarray
    corner: float
    inflection: float | None
    warnings: tuple[Warning, ...] = ()


def l_curve(values: np.ndarray, misfits: np.ndarray, penalties: np.ndarray) -> LCurve:
    """The L-curve of candidates and its corner.

    With rho = ln misfit and omega = ln penalty as functions of s = ln parameter, cubic splines through the candidates,
    the curvature is (rho' omega'' - rho'' omega') / (rho'^2 + omega'^2)^1.5, with the sign of the direction in which
    the penalty becomes stronger: the corner is its largest value whatever the parameter multiplies.

    Parameters
    ----------
    values : (n >= 5,) parameter, positive and all different, in any order.
    misfits, penalties : (n,) what `data_misfit` and `penalty` gave for each.

    Returns
    -------
    LCurve.

    Raises
    ------
    ValueError for fewer than five candidates, equal ones, or numbers that are not positive and finite.

    References
    ----------
    Hansen and O'Leary 1993; Bilgic 2014 (curvature from splines); Milovic 2021 (zero curvature).
    """
    values, misfits, penalties = (np.asarray(x, float) for x in (values, misfits, penalties))
    if values.size < 5 or np.unique(values).size < values.size:
        raise ValueError("An L-curve needs at least five different values of the parameter.")
    for name, numbers in (("value", values), ("data misfit", misfits), ("penalty", penalties)):
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            raise ValueError(f"Every {name} of an L-curve must be positive and finite.")
    order = np.argsort(values)
    values, misfits, penalties = values[order], misfits[order], penalties[order]
    s, rho, omega = np.log(values), np.log(misfits), np.log(penalties)
    fine = np.linspace(s[0], s[-1], FINE)
    stronger = 1.0 if rho[-1] >= rho[0] else -1.0
    splines = smooth_spline(s, rho), smooth_spline(s, omega)
    bend = stronger * curvature(*splines, fine)
    pace = np.hypot(splines[0].derivative()(fine), splines[1].derivative()(fine))
    at, is_peak = _corner(bend, pace >= STANDSTILL * pace.max())
    return LCurve(
        values,
        misfits,
        penalties,
        stronger * curvature(*splines, s),
        np.exp(fine),
        np.exp(splines[0](fine)),
        np.exp(splines[1](fine)),
        bend,
        float(np.exp(fine[at])),
        _inflection(fine, bend, at, stronger),
        _doubts(rho * stronger, omega * stronger, at_end=not is_peak or _near_an_end(s, fine[at])),
    )


def curvature(rho: BSpline, omega: BSpline, at: np.ndarray) -> np.ndarray:
    """Curvature of the curve of two splines at parameters `at`, positive where it turns left as the parameter grows."""
    r1, r2 = rho.derivative()(at), rho.derivative(2)(at)
    o1, o2 = omega.derivative()(at), omega.derivative(2)(at)
    speed = np.maximum((r1**2 + o1**2) ** 1.5, np.finfo(float).tiny)
    return np.asarray((r1 * o2 - r2 * o1) / speed)


def smooth_spline(s: np.ndarray, y: np.ndarray) -> BSpline:
    """Cubic smoothing spline whose smoothness generalised cross-validation chooses.

    Iterations that stop at a tolerance leave a roughness that the second derivative of an interpolating spline would
    take for corners; through points without any, the spline goes exactly.
    """
    from scipy.interpolate import make_smoothing_spline

    return make_smoothing_spline(s, y)


def _corner(bend: np.ndarray, moving: np.ndarray) -> tuple[int, bool]:
    """Index of the highest peak of the curvature where the curve moves; of its largest value there, if it has no peak.

    Where the curve slows down its curvature grows without bound, up to where it counts as standing still: no corner.
    """
    peak = np.zeros(bend.size, bool)
    peak[1:-1] = (bend[1:-1] >= bend[:-2]) & (bend[1:-1] >= bend[2:]) & (bend[1:-1] > 0)
    peak &= moving
    allowed = peak if peak.any() else moving
    return int(np.argmax(np.where(allowed, bend, -np.inf))), bool(peak.any())


def _inflection(s: np.ndarray, bend: np.ndarray, corner: int, stronger: float) -> float | None:
    weaker = np.arange(corner, -1, -1) if stronger > 0 else np.arange(corner, s.size)
    outward = np.flatnonzero(bend[weaker] < -FLAT * bend[corner])
    return float(np.exp(s[weaker[outward[0]]])) if outward.size else None


def _near_an_end(s: np.ndarray, corner: float) -> bool:
    """Whether the corner lies where the spline's second derivative is drawn to 0, within one step and a half."""
    return not s[0] + 1.5 * (s[1] - s[0]) < corner < s[-1] - 1.5 * (s[-1] - s[-2])


def _doubts(rho: np.ndarray, omega: np.ndarray, *, at_end: bool) -> tuple[Warning, ...]:
    doubts = []
    if at_end:
        text = "The largest curvature lies at an end of the range."
        doubts.append(Warning("corner-at-end", text, "Widen it (--from, --to)."))
    if np.hypot(np.diff(rho), np.diff(omega)).sum() < SHORT:
        text = "Misfit and penalty hardly change over the range: the parameter decides little there."
        doubts.append(Warning("curve-short", text, "Widen the range, or keep the default."))
    if (np.diff(rho) < 0).any() or (np.diff(omega) > 0).any():
        text = "Misfit or penalty does not change steadily with the parameter."
        remedy = "Allow more iterations, or leave out the end of the range where the noise alone is left of the misfit."
        doubts.append(Warning("curve-unsteady", text, remedy))
    return tuple(doubts)
