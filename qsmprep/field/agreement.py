"""Whether a field map made elsewhere is that of a scan: what it says of the phase against the phase."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask


def phase_agreement(
    field_hz: FloatImage, phase_rad: FloatImage, magnitude: FloatImage, mask: Mask, echo_times_s: Sequence[float]
) -> float:
    """How well a field explains the phase that the scan gains from its first echo to its last: 1 wholly, 0 not at all.

    |sum w exp(i (phase_n - phase_1 - 2 pi field (TE_n - TE_1)))| / sum w over the mask, with w = |s_1 s_n|: a constant
    of the field, as of another reference frequency, does not matter.

    Parameters
    ----------
    field_hz : (n0, n1, n2) in Hz; voxels that are nought or not finite are left out.
    phase_rad, magnitude : (n_echo >= 2, n0, n1, n2), the phase wrapped or not, in rad.
    mask : (n0, n1, n2) bool.
    echo_times_s : of these echoes.

    Returns
    -------
    float in [0, 1]; NaN where no voxel can be looked at.
    """
    inside = mask & np.isfinite(field_hz) & (field_hz != 0)
    if len(echo_times_s) < 2 or not inside.any():
        return float("nan")
    gained = phase_rad[-1][inside].astype(float) - phase_rad[0][inside]
    explained = 2 * np.pi * (echo_times_s[-1] - echo_times_s[0]) * field_hz[inside].astype(float)
    weight = magnitude[0][inside].astype(float) * magnitude[-1][inside]
    total = weight.sum()
    return float(abs((weight * np.exp(1j * (gained - explained))).sum()) / total) if total > 0 else float("nan")
