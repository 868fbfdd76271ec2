"""Quality numbers of tissue field and susceptibility: background left over, streaks, shadows, fit to the data, sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import frequencies, irfftn, rfftn
from qsmprep.numerics.volume import frame_around
from qsmprep.quality.masks import rim_of
from qsmprep.quality.regions import deep_part, local_mean, rms, voxels_of
from qsmprep.scan import Scan

CONE = 0.1  # |D| below which k-space is not measured
SHADOW_MM = 30.0
LONGEST_MM = 60.0  # wavelength above which the mask's shape decides the spectrum
SHORTEST_VOXELS = 4.5  # wavelength below which the kernel of whole voxels is no longer that of points
SHORTEST_MM = 10.0  # wavelength below which noise outweighs the field of tissue
FLOORS = (0.001, 0.003, 0.01, 0.03)  # power without a direction, over that of sources: noise, motion, background left
SHORTEST_STREAK_VOXELS = 2.2  # streaks are fine: nearly down to what the voxels hold
LEAST_GAIN = 0.1  # of the log likelihood a frequency by knowing an axis; below it the spectrum tells none
MOST_SAMPLES = 40_000
FEWEST = 200
_NAN = float("nan")
NAMES = ("tissue_field_rms", "background_rim", "background_harmonics", "streaking", "shadow", "data_residual",
         "b0_direction_error", "chi_sd_white_matter", "iron_contrast", "r2star_relative")  # fmt: skip


@dataclass(frozen=True)
class _Spectrum:
    """Power of an image at n frequencies between mask shape and noise, sorted by shells of |k|.

    Attributes
    ----------
    power : (n,) over its shell's mean.
    direction : (n, 3) unit vectors of k.
    starts : where each shell starts.
    """

    power: np.ndarray
    direction: np.ndarray
    starts: np.ndarray


def map_numbers(
    scan: Scan,
    *,
    tissue_field_hz: np.ndarray | None,
    chi_ppm: np.ndarray | None,
    r2star: np.ndarray | None,
    mask: np.ndarray,
) -> dict[str, float]:
    """Numbers about tissue field and susceptibility (n0, n1, n2) inside consensus mask 4; NaN for what is missing.

    Returns
    -------
    The numbers of `NAMES`, defined in docs/quality.md.
    """
    numbers = dict.fromkeys(NAMES, _NAN)
    if np.count_nonzero(mask) < FEWEST:
        return numbers
    # The map of a single-step method reaches further out than the tissue field, which is 0 there.
    known = mask if tissue_field_hz is None else mask & (tissue_field_hz != 0)
    field = None
    if tissue_field_hz is not None and np.count_nonzero(known) >= FEWEST:
        field = _centred(tissue_field_hz, known)
        numbers["tissue_field_rms"] = rms(field[known])
        numbers["background_rim"] = rim_ratio(field, known)
        numbers["background_harmonics"] = harmonic_share(field, known, scan.voxel_size_mm)
        shortest = max(SHORTEST_VOXELS, SHORTEST_MM / max(scan.voxel_size_mm))
        spectrum = _spectrum(field, known, scan.voxel_size_mm, shortest)
        numbers["b0_direction_error"] = b0_direction_error(spectrum, scan.b0_direction)
    if chi_ppm is not None:
        chi = _centred(chi_ppm, mask)
        spectrum = _spectrum(chi, mask, scan.voxel_size_mm, SHORTEST_STREAK_VOXELS)
        numbers["streaking"] = streaking_index(spectrum, scan.b0_direction)
        numbers["shadow"] = shadow_index(chi, mask, scan.voxel_size_mm)
        if field is not None and scan.centre_frequency_mhz is not None:
            numbers["data_residual"] = data_residual(chi, field / np.float32(scan.centre_frequency_mhz), known, scan)
    if r2star is not None:
        numbers |= tissue_numbers(scan, r2star=r2star, chi_ppm=chi_ppm, mask=mask)
    return numbers


def rim_ratio(field: np.ndarray, mask: np.ndarray) -> float:
    """R.m.s. of a field in the three outermost layers of a mask over that inside."""
    rim = rim_of(mask)
    return rms(field[rim]) / (rms(field[mask & ~rim]) or _NAN)


def harmonic_share(field: np.ndarray, mask: np.ndarray, voxel_size_mm: tuple[float, float, float]) -> float:
    """Per cent of a field's energy in a mask that harmonic polynomials up to degree 3 explain."""
    places = np.nonzero(mask)
    step = max(1, len(places[0]) // MOST_SAMPLES)
    x, y, z = ((p[::step] - p.mean()) * h / 50.0 for p, h in zip(places, voxel_size_mm, strict=True))
    square = x * x + y * y
    basis = np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 2 * z * z - square, x * y * z,
                      y * (3 * x * x - y * y), x * (x * x - 3 * y * y), z * (x * x - y * y), x * (4 * z * z - square),
                      y * (4 * z * z - square), z * (2 * z * z - 3 * square)], axis=1)  # fmt: skip
    values = field[mask][::step].astype(np.float64)
    values -= values.mean()
    rest = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    energy = np.dot(values, values)
    return 100 * float(1 - np.dot(rest, rest) / energy) if energy > 0 else _NAN


def streaking_index(spectrum: _Spectrum, b0_direction: tuple[float, float, float]) -> float:
    """Power of susceptibility where the dipole kernel is below 0.1 over that elsewhere at the same |k|.

    Geometric means, so that a few strong frequencies do not decide. Anatomy has no reason to know the cone around B0:
    about 1. Below lies regularisation, above noise and inconsistency that the division by a small number blew up:
    streaks.
    """
    cone = np.abs(_kernel(spectrum.direction, np.asarray(b0_direction, float)[None])[:, 0]) < CONE
    if not cone.any() or cone.all():
        return _NAN
    level = _level(spectrum)
    return float(np.exp(level[cone].mean() - level[~cone].mean()))


def b0_direction_error(spectrum: _Spectrum, b0_direction: tuple[float, float, float]) -> float:
    """Angle in degrees between B0 as used and the axis that the tissue field's own spectrum tells.

    The power of a field of sources is that of the sources times the square of the dipole kernel, which is 0 on a cone
    around B0, steep beside it and largest along B0; anatomy has no reason to prefer a direction. The axis is that of
    the greatest likelihood, over all directions, of a power a_s (D^2 + e) with the level a_s free in each shell of |k|
    and the floor e out of `FLOORS`; the power at one frequency is distributed exponentially. NaN where no axis
    explains the spectrum clearly better than none does: noise or background hide it.
    """
    if len(spectrum.power) < FEWEST:
        return _NAN
    axes = _hemisphere(400)
    fits = {floor: _unlikelihood(spectrum, axes, floor) for floor in FLOORS}
    for spread_deg in (10.0, 4.0, 1.2):
        floor = min(fits, key=lambda each: float(fits[each].min()))
        axes = _around(axes[np.argmin(fits[floor])], spread_deg)
        fits = {floor: _unlikelihood(spectrum, axes, floor) for floor in FLOORS}
    floor = min(fits, key=lambda each: float(fits[each].min()))
    best = axes[np.argmin(fits[floor])]
    if _unlikelihood(spectrum, axes[:1], None)[0] - fits[floor].min() < LEAST_GAIN * len(spectrum.power):
        return _NAN
    given = np.asarray(b0_direction, float) / np.linalg.norm(b0_direction)
    return float(np.rad2deg(np.arccos(min(1.0, abs(float(best @ given))))))


def _unlikelihood(spectrum: _Spectrum, axes: np.ndarray, floor: float | None) -> np.ndarray:
    """Minus the log likelihood, but for a constant, of a spectrum for axes (m, 3) of B0; no floor: of none. (m,)."""
    counts = np.diff(np.append(spectrum.starts, len(spectrum.power)))
    found = []
    for part in np.array_split(axes, max(1, len(axes) // 50)):
        expected = np.ones((len(spectrum.power), len(part)))
        if floor is not None:
            expected = np.square(_kernel(spectrum.direction, part), dtype=np.float64) + floor
        level = np.add.reduceat(spectrum.power[:, None] / expected, spectrum.starts, axis=0) / counts[:, None]
        tiny = np.finfo(np.float64).tiny
        found.append(counts @ np.log(np.maximum(level, tiny)) + np.log(expected).sum(0))
    return np.concatenate(found)


def shadow_index(chi: np.ndarray, mask: np.ndarray, voxel_size_mm: tuple[float, float, float]) -> float:
    """S.d. of susceptibility smoothed over about 3 cm, over its s.d. in the mask."""
    size = voxels_of(SHADOW_MM / np.sqrt(3), voxel_size_mm)
    smooth, share = np.where(mask, chi, 0), mask.astype(np.float32)
    for _ in range(3):  # three boxes are nearly a Gaussian, of a width at half maximum near SHADOW_MM
        smooth, share = local_mean(smooth, size), local_mean(share, size)
    values = smooth[mask] / np.maximum(share[mask], 1e-3)
    return float(np.std(values) / (np.std(chi[mask]) or _NAN))


def data_residual(chi: np.ndarray, field_ppm: np.ndarray, mask: np.ndarray, scan: Scan) -> float:
    """R.m.s. of the field of a susceptibility map less the tissue field in a mask, over that of the tissue field.

    The map is 0 where it is not valid; both fields count without their mean.
    """
    box = frame_around(mask | (chi != 0), padding=tuple(int(20 / h) for h in scan.voxel_size_mm))
    spectrum = rfftn(box.crop(chi))
    spectrum *= dipole_kernel(box.padded_shape, scan.voxel_size_mm, scan.b0_direction)
    made = irfftn(spectrum, box.padded_shape)[box.inner][mask[box.box]]
    field = field_ppm[mask]
    made, field = made - made.mean(), field - field.mean()
    return rms(made - field) / (rms(field) or _NAN)


def tissue_numbers(scan: Scan, *, r2star: np.ndarray, chi_ppm: np.ndarray | None, mask: np.ndarray) -> dict[str, float]:
    """What R2* tells deep in the mask: its own level, the s.d. of chi in white matter, the sign of iron."""
    deep = deep_part(mask, scan.voxel_size_mm)
    rate = r2star[deep]
    usable = np.isfinite(rate) & (rate > 0)
    if np.count_nonzero(usable) < FEWEST:
        return {}
    rate = rate[usable]
    numbers = {}
    if scan.field_strength_t is not None:
        numbers["r2star_relative"] = float(np.median(rate)) / expected_r2star(scan.field_strength_t)
    if chi_ppm is None:
        return numbers
    chi = chi_ppm[deep][usable]
    low, high, iron = np.percentile(rate, (30, 70, 98))
    white = chi[(rate >= low) & (rate <= high)]
    deviation = 1.4826 * float(np.median(np.abs(white - np.median(white))))
    contrast = float(np.median(chi[rate >= iron]) - np.median(chi[rate < iron]))
    return numbers | {"chi_sd_white_matter": deviation, "iron_contrast": contrast}


def expected_r2star(field_strength_t: float) -> float:
    """R2* of white matter in 1/s, a line through about 14 at 1.5 T, 20 at 3 T and 37 at 7 T."""
    return 7.5 + 4.2 * field_strength_t


def _centred(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    values = np.where(np.isfinite(image), image, 0)
    return np.where(mask, values - values[mask].mean(dtype=np.float64), 0).astype(np.float32)


def _level(spectrum: _Spectrum) -> np.ndarray:
    return np.asarray(np.log(np.maximum(spectrum.power, np.float32(1e-6))), np.float32)


def _spectrum(
    image: np.ndarray, mask: np.ndarray, voxel_size_mm: tuple[float, ...], shortest_voxels: float
) -> _Spectrum:
    """Power at wavelengths from 60 mm down to so many of the coarsest voxels, over the mean of its shell of |k|."""
    box = frame_around(mask)
    power = np.square(np.abs(rfftn(box.crop(image)))).ravel()
    k = np.broadcast_arrays(*frequencies(box.padded_shape, voxel_size_mm))
    length = np.sqrt(sum(np.square(kd, dtype=np.float32) for kd in k)).ravel().astype(np.float32)
    chosen = np.flatnonzero((length > 1 / LONGEST_MM) & (length < 1 / (shortest_voxels * max(voxel_size_mm))))
    # Evenly spread, and never one that a Nyquist plane mirrors: those lie above the band.
    chosen = chosen[:: max(1, len(chosen) // MOST_SAMPLES)]
    shell = np.minimum((length[chosen] * LONGEST_MM * 2).astype(int), 400)
    order = np.argsort(shell, kind="stable")
    chosen, shell = chosen[order], shell[order]
    direction = np.stack([kd.ravel()[chosen] for kd in k], axis=1) / length[chosen, None]
    mean = np.bincount(shell, power[chosen]) / np.maximum(np.bincount(shell), 1)
    relative = power[chosen] / np.maximum(mean[shell], np.finfo(np.float32).tiny)
    return _Spectrum(relative, direction.astype(np.float32), np.unique(shell, return_index=True)[1])


def _kernel(direction: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The dipole kernel at unit vectors (n, 3) for candidate axes (m, 3): (n, m)."""
    return np.asarray(np.float32(1 / 3) - np.square(direction @ axes.T.astype(np.float32)))


def _hemisphere(count: int) -> np.ndarray:
    """Unit vectors spread evenly over half a sphere (golden spiral)."""
    n = np.arange(count)
    z, turn = (n + 0.5) / count, n * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


def _around(axis: np.ndarray, spread_deg: float) -> np.ndarray:
    """The axis and a net of 48 around it, out to `spread_deg`."""
    first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    radius, turn = np.meshgrid(np.tan(np.deg2rad(spread_deg)) * np.arange(1, 5) / 4, np.arange(12) * np.pi / 6)
    net = axis + (radius * np.cos(turn))[..., None] * first + (radius * np.sin(turn))[..., None] * second
    net = np.concatenate([axis[None], net.reshape(-1, 3)])
    return np.asarray(net / np.linalg.norm(net, axis=1, keepdims=True))
