"""Bipolar readout: the plane of phase by which odd and even echoes differ, found in wrapped phase and taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.findings import Warning
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray
from qsmprep.numerics.phasors import angle
from qsmprep.numerics.units import TWO_PI
from qsmprep.scan import Scan
from qsmprep.unwrap.romeo import RomeoOptions, romeo

LIMIT_RAD = 0.15  # of the range; monopolar heads stay far below it, see docs/usage.md
ERRORS = 5.0  # the range must exceed its statistical error so many times
FEWEST = 200  # voxels below which no plane is fitted
COHERENCE = 0.5  # of the phasors about their plane, below which the phase is noise
EVEN = 0.01  # relative difference of echo spacings that counts as none
ITERATIONS = 20
FITTED = 200_000  # voxels are plenty for three slopes

MONOPOLAR = "Acquire with monopolar readout, as the consensus paper advises (2.a)."

# What may be done about a bipolar readout, as the user says it.
CHOICES = ("auto", "plane", "mcpc-3d-s", "off")


@dataclass(frozen=True)
class BipolarPhase:
    """A plane of phase that odd echoes have gained and even echoes have lost.

    Attributes
    ----------
    constant : of the plane in rad, at voxel (0, 0, 0).
    slopes : in rad per voxel, one an axis.
    range_rad : range over the head of the phase between odd and even echoes, so of twice the plane.
    error_rad : statistical error of the range.
    """

    constant: float
    slopes: tuple[float, float, float]
    range_rad: float
    error_rad: float

    @property
    def is_there(self) -> bool:
        """Whether the readout was bipolar: the range is beyond the limit of 0.15 rad and beyond chance."""
        return self.range_rad > max(LIMIT_RAD, ERRORS * self.error_rad)

    def plane(self, shape: Sequence[int]) -> np.ndarray:
        """The plane on a grid of that shape: (n0, n1, n2) float32, rad."""
        x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
        plane = self.constant + self.slopes[0] * x + self.slopes[1] * y + self.slopes[2] * z
        return np.asarray(plane, np.float32)


def find_bipolar(phase: np.ndarray, magnitude: np.ndarray, *, scan: Scan, mask: np.ndarray) -> BipolarPhase | None:
    """Find the plane by which the phase of odd and even echoes differs, from three echoes on.

    The signal of echo j = 1, 2, ... has the phase phi_0 + 2 pi f TE_j - (-1)^j G with a plane G. In the product
    S_(j+1)^2 / (S_j S_(j+2)) of three evenly spaced echoes the offset phi_0 and the field f cancel, and -4 G or 4 G is
    left. Unevenly spaced ones keep a part of the field, which is told by the unwrapped phase between echoes 1 and 3,
    whose G is the same. A plane is fitted to these phasors without unwrapping them: first the mean step between
    neighbours, then the residues, in which vessels, fat and noise count little.

    The products leave G open by multiples of pi/2. Of the two planes that differ in effect that one is taken with which
    the phase between odd and even echoes tells the same mean field as that between echoes of one polarity, which is the
    one nearer to the centre frequency.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) in rad, wrapped, offset not removed.
    magnitude : shape of `phase`.
    scan : its voxel size, and one echo time an echo.
    mask : (n0, n1, n2) bool, the head.

    Returns
    -------
    None where it cannot be known: fewer than three echoes, few voxels, or phase that is noise.

    Raises
    ------
    ValueError : shapes that do not fit.

    References
    ----------
    Li et al. 2015, MAGMA 28:347 (the phase between odd and even echoes is linear in space, and is told by their
    ratios). Ahn and Cho 1987, IEEE Trans Med Imaging 6:32 (slope of wrapped phase).

    Examples
    --------
    A plane of 0.02 rad a voxel on 16 voxels: odd and even echoes differ by twice that over 15 steps.

    >>> scan = Scan((2, 2, 2), echo_times_s=(0.005, 0.011, 0.017))
    >>> x = np.arange(16.0)[:, None, None] + np.zeros((16, 16, 16))
    >>> phase = np.stack([TWO_PI * 9 * t + 0.02 * (x - 8) * (-1) ** n for n, t in enumerate(scan.echo_times_s)])
    >>> found = find_bipolar(phase, np.ones_like(phase), scan=scan, mask=np.ones(x.shape, bool))
    >>> round(found.range_rad, 2), found.is_there
    (0.6, True)
    """
    if phase.ndim != 4 or magnitude.shape != phase.shape or mask.shape != phase.shape[1:]:
        raise ValueError(f"Phase {phase.shape}, magnitude {magnitude.shape} and mask {mask.shape} do not fit.")
    times = scan.known_echo_times_s
    if len(times) != len(phase):
        raise ValueError(f"{len(times)} echo times do not fit {len(phase)} echoes.")
    if len(phase) < 3:
        return None
    inside = mask & (np.isfinite(phase) & (magnitude > 0) & np.isfinite(magnitude)).all(0)
    if np.count_nonzero(inside) < FEWEST:
        return None
    angles = [echo[inside].astype(np.float32) for echo in phase]
    bright = [echo[inside].astype(np.float32) for echo in magnitude]
    uneven = any(abs(rest) > EVEN for rest in _unevenness(times))
    evolution = _evolution(phase, magnitude, scan, inside) if uneven else None
    phasors, weight = _phasors(angles, bright, times, evolution)
    places = np.stack([axis.astype(float) for axis in np.nonzero(inside)])
    fit = _fit_plane(phasors, weight, places, _mean_steps(phasors * np.sqrt(weight), inside))
    if fit is None:
        return None
    (constant, *slopes), error = fit
    plane = constant + np.einsum("i,ip->p", slopes, places)
    if _is_off_by_half(angles[1] - angles[0], angles[2] - angles[0], evolution, plane, weight, times):
        constant += TWO_PI
    a, b, c = (-float(slope) / 4 for slope in slopes)
    spread = 2 * float(np.ptp(a * places[0] + b * places[1] + c * places[2]))
    return BipolarPhase(-float(constant) / 4, (a, b, c), spread, error / 2)


def takes_plane(choice: str, found: BipolarPhase | None) -> bool:
    """Whether the plane is to be taken off: it is asked for, or found under `auto`."""
    return found is not None and (choice == "plane" or (choice == "auto" and found.is_there))


def readout_warnings(found: BipolarPhase | None, choice: str) -> tuple[Warning, ...]:
    """What the reader should know of the readout: that it was bipolar, and what was done about it."""
    if found is None:
        if choice != "plane":
            return ()
        text = "No phase plane between odd and even echoes could be found (noise, or few voxels): none was taken off."
        return (Warning("bipolar-unknown", text, "Look at the phase of each echo; run again without --bipolar plane."),)
    if not found.is_there:
        return ()
    done, remedy = {
        "off": ("It stays, as asked, and a part of it becomes field.", "Run again without --bipolar off."),
        "mcpc-3d-s": ("It is taken off as a smooth map, along with the phase offset.", MONOPOLAR),
    }.get(choice, ("A plane was taken off.", f"{MONOPOLAR} If phase_nonlinearity is high, try --bipolar mcpc-3d-s."))
    text = f"Bipolar readout: odd and even echoes differ in phase by {found.range_rad:.2f} rad over the head. {done}"
    return (Warning("bipolar-readout", text, remedy),)


def remove_bipolar(phase: np.ndarray, found: BipolarPhase) -> None:
    """Take the plane off odd echoes and add it to even ones, in place.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) float32 in rad; on return wrapped to [-pi, pi].
    found : of `find_bipolar`.
    """
    plane = found.plane(phase.shape[1:])
    for number, echo in enumerate(phase):
        echo += plane if number % 2 else -plane
        echo -= np.float32(TWO_PI) * np.rint(echo / np.float32(TWO_PI))


def _unevenness(times: DoubleArray) -> DoubleArray:
    """How far each echo but the first and last lies behind the middle of its neighbours, over half their distance."""
    return (2 * times[1:-1] - times[:-2] - times[2:]) / (times[2:] - times[:-2])


def _phasors(
    angles: Sequence[RealArray], bright: Sequence[RealArray], times: DoubleArray, evolution: FloatImage | None
) -> tuple[np.ndarray, RealArray]:
    """exp(-4i G) of each voxel from all triples of echoes (complex64), and its weight, which is 1/noise^2."""
    total = np.zeros(angles[0].shape, np.complex64)
    weights = np.zeros(angles[0].shape, np.float32)
    top = max(float(echo.max()) for echo in bright)
    for j in range(len(angles) - 2):
        m1, m2, m3 = (echo / np.float32(top) for echo in bright[j : j + 3])
        weight = 1 / (4 / m2**2 + 1 / m1**2 + 1 / m3**2)
        curved = 2 * angles[j + 1] - angles[j] - angles[j + 2]
        if evolution is not None:
            longer = np.float32((times[j + 2] - times[j]) / (times[2] - times[0]))
            step = angles[j + 2] - angles[j] - longer * evolution
            curved -= np.float32(_unevenness(times)[j]) * (_wrapped(step, TWO_PI) + longer * evolution)
        total += weight * np.exp((1j if j % 2 == 0 else -1j) * curved)
        weights += weight
    size = np.abs(total)
    phasors = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return phasors, np.minimum(weights, np.percentile(weights, 90)).astype(np.float32)


def _evolution(phase: RealArray, magnitude: RealArray, scan: Scan, inside: Mask) -> FloatImage:
    """Phase that the field makes from echo 1 to echo 3, of one polarity, inside: unwrapped, its median near 0."""
    first, _, third = scan.echo_times_s[:3]
    found = romeo(
        np.where(inside, _wrapped(phase[2] - phase[0], TWO_PI), 0).astype(np.float32),
        scan=replace(scan, echo_times_s=(third - first,)),
        magnitude=np.where(inside, np.sqrt(magnitude[0] * magnitude[2]), 0).astype(np.float32),
        mask=inside,
        options=RomeoOptions(tree="sorted", correct_regions=True),
    ).phase[inside]
    return np.asarray(found - np.float32(TWO_PI * np.rint(np.median(found) / TWO_PI)))


def _mean_steps(phasors: np.ndarray, inside: np.ndarray) -> DoubleArray:
    """Phase in rad from a voxel to the next along each axis, as the mean product of neighbours tells it."""
    grid = np.zeros(inside.shape, np.complex64)
    grid[inside] = phasors
    steps = []
    for axis in range(3):
        moved = np.moveaxis(grid, axis, 0)
        steps.append(np.angle((moved[1:] * moved[:-1].conj()).sum(dtype=np.complex128)))
    return np.array(steps)


def _fit_plane(
    phasors: np.ndarray, weight: RealArray, places: DoubleArray, steps: DoubleArray
) -> tuple[DoubleArray, float] | None:
    """Constant and slopes of the phase of the phasors, and the error of its range; None where it is noise."""
    centre = places.mean(1, keepdims=True)
    columns = np.stack([np.ones_like(places[0]), *(places - centre)])
    extent = np.ptp(places, axis=1)
    columns = columns[np.array([True, *(extent > 0)])]
    step = max(1, places.shape[1] // FITTED)
    columns, phasors, weight = columns[:, ::step], phasors[::step], weight[::step]
    plane = np.concatenate([[0.0], steps[extent > 0]])
    turned = phasors * np.exp(-1j * np.einsum("i,ip->p", plane, columns))
    plane[0] = np.angle((weight * turned).sum(dtype=np.complex128))
    for _ in range(ITERATIONS):
        residue = angle(phasors * np.exp(-1j * np.einsum("i,ip->p", plane, columns)))
        scale = max(1.4826 * float(np.median(np.abs(residue))), 1e-3)
        robust = weight / (1 + (residue / (2 * scale)) ** 2) ** 2
        normal = np.einsum("ip,p,jp->ij", columns, robust, columns)
        change = np.linalg.solve(normal, np.einsum("ip,p->i", columns, robust * residue))
        plane += change
        if np.abs(change).max() < 1e-6:
            break
    if float((weight * np.cos(residue)).sum() / weight.sum()) < COHERENCE:
        return None
    variance = np.diag(np.linalg.inv(normal)) * np.sum(robust**2) / np.sum(robust) * scale**2
    error = float(np.sqrt(np.sum(variance[1:] * extent[extent > 0] ** 2)))
    slopes = np.zeros(3)
    slopes[extent > 0] = plane[1:]
    return np.array([plane[0] - float(slopes @ centre[:, 0]), *slopes]), error


def _is_off_by_half(
    to_second: RealArray,
    to_third: RealArray,
    evolution: FloatImage | None,
    plane: RealArray,
    weight: RealArray,
    times: DoubleArray,
) -> bool:
    """Whether pi/2 is wanting in G = -plane/4: the phase from echo 1 to 2 then tells another field than that to 3."""
    if evolution is None:
        evolution = np.angle((weight * np.exp(1j * to_third)).sum(dtype=np.complex128))
    expected = evolution * (times[1] - times[0]) / (times[2] - times[0])
    seen = (weight * np.exp(1j * (to_second - plane / 2 - expected))).sum(dtype=np.complex128)
    return bool(seen.real < 0)


def _wrapped(x: RealArray, period: float) -> RealArray:
    return np.asarray(x - period * np.rint(x / period))
