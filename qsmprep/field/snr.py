"""Peak signal-to-noise ratio of a scan, seen in its field map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_CUBES = 100  # of 3 x 3 x 3 voxels, below which the median of their noise means little
ECHOES = 3  # in so many field and offset cancel
TO_DEVIATION = 1.4826  # a normal variable's standard deviation over its median absolute value
BRIGHTEST = 99.9  # percentile of the magnitude that stands for its peak: single voxels are vessels and spikes


def scan_snr(
    phase: np.ndarray,
    magnitude: np.ndarray,
    mask: np.ndarray,
    *,
    field_hz: np.ndarray,
    noise_hz: np.ndarray,
    echo_times_s: Sequence[float],
    period_hz: float | None = None,
) -> float | None:
    """`peak_snr` of what three echoes do not share; of the field, where there are fewer echoes.

    Parameters
    ----------
    phase, magnitude : (n_echo, n0, n1, n2) in rad, unwrapped or not, and in any unit.
    mask : (n0, n1, n2) where they are looked at.
    field_hz, noise_hz : (n0, n1, n2) field, and its s.d. for a signal noise of s.d. 1.
    echo_times_s : (n_echo,) rising.
    period_hz : of the field's wraps; None: it has none.
    """
    if len(phase) < ECHOES:
        return peak_snr(field_hz, noise_hz, magnitude[0], mask, period=period_hz)
    unshared, noise = without_anatomy(phase, magnitude, field_hz=field_hz, echo_times_s=echo_times_s)
    return peak_snr(unshared, noise, magnitude[0], mask)


def peak_snr(
    field: np.ndarray,
    noise: np.ndarray,
    magnitude: np.ndarray,
    mask: np.ndarray,
    *,
    period: float | None = None,
) -> float | None:
    """Peak signal of the first echo over the s.d. of the noise in its real and imaginary part.

    The noise is measured where anatomy hardly reaches: in the second differences (1, -2, 1) of the field along all
    three axes at once, each of a cube of 3 x 3 x 3 voxels: d = sum_i c_i field_i. For white noise of s.d. sigma in the
    signal, d has the variance sigma^2 sum_i (c_i noise_i)^2, so that sigma is 1.4826 times the median of |d| over the
    root of that sum.

    Parameters
    ----------
    field : (n0, n1, n2) field, or phase of one echo spacing, unwrapped or not.
    noise : (n0, n1, n2) its s.d. for a signal noise of s.d. 1, in the same unit; 0 where it is not known.
    magnitude : (n0, n1, n2) of the first echo, in the unit that the noise is meant in.
    mask : (n0, n1, n2) where they are looked at.
    period : of the field's wraps, in its unit; differences are then taken to the nearest whole number of periods.

    Returns
    -------
    The ratio, or None where there are too few voxels or no noise. Anatomy in the field counts as noise, so that a scan
    of large voxels or little noise has a higher ratio than is found, unless the echoes are combined by
    `without_anatomy`; noise that the scanner's interpolation smoothed is missed.

    Raises
    ------
    ValueError : shapes that differ.

    References
    ----------
    Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425 (s.d. of noise from the median of the finest details).
    """
    inside = np.asarray(mask) > 0
    if not field.shape == noise.shape == magnitude.shape == inside.shape:
        raise ValueError(f"Field {field.shape}, noise {noise.shape}, magnitude {magnitude.shape} and mask "
                         f"{inside.shape} differ in shape.")  # fmt: skip
    usable = inside & (noise > 0) & np.isfinite(noise) & np.isfinite(field)
    difference, variance, whole = np.where(usable, field, 0), np.where(usable, noise, 0) ** 2, usable
    for axis in range(3):
        before, here, after = (tuple(part if a == axis else slice(None) for a in range(3)) for part in _THREE)
        difference = difference[before] - 2 * difference[here] + difference[after]
        variance = variance[before] + 4 * variance[here] + variance[after]
        whole = whole[before] & whole[here] & whole[after]
    if period is not None:
        difference = difference - period * np.rint(difference / np.float32(period))
    ratios = np.abs(difference[whole]) / np.sqrt(variance[whole])
    if ratios.size < FEWEST_CUBES:
        return None
    deviation = TO_DEVIATION * float(np.median(ratios))
    peak = float(np.percentile(magnitude[inside], BRIGHTEST))
    return peak / deviation if deviation > 0 and peak > 0 else None


def without_anatomy(
    phase: np.ndarray, magnitude: np.ndarray, *, field_hz: np.ndarray, echo_times_s: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """A combination of the first three echoes' phases in which field and offset cancel, for `peak_snr`.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) in rad, unwrapped or not, three echoes or more.
    magnitude : likewise.
    field_hz : (n0, n1, n2) their field, to half a turn between two of these echoes; it cancels but for whole turns.
    echo_times_s : (n_echo,) rising.

    Returns
    -------
    The combination in rad and its s.d. for a signal noise of s.d. 1 (0 where a magnitude is 0), both (n0, n1, n2).

    Raises
    ------
    ValueError : fewer than three echoes.
    """
    if len(phase) < ECHOES:
        raise ValueError(f"Field and offset cancel in three echoes or more; got {len(phase)}.")
    t = [float(time) for time in echo_times_s[:ECHOES]]
    share = [(t[2] - t[1]) / (t[2] - t[0]), -1.0, (t[1] - t[0]) / (t[2] - t[0])]
    combined = np.zeros(field_hz.shape, np.float32)
    for echo in (0, 2):
        gained = phase[echo] - phase[1] - np.float32(2 * np.pi * (t[echo] - t[1])) * field_hz
        combined += np.float32(share[echo]) * (gained - 2 * np.pi * np.rint(gained / (2 * np.pi))).astype(np.float32)
    usable = (magnitude[:ECHOES] > 0).all(axis=0)
    variance = sum((s / np.where(usable, m, 1)) ** 2 for s, m in zip(share, magnitude[:ECHOES], strict=True))
    return combined, np.where(usable, np.sqrt(variance), 0).astype(np.float32)


_THREE = (slice(None, -2), slice(1, -1), slice(2, None))  # the neighbours and the middle of three along an axis
