"""The window in which susceptibility is shown: as given, or wide enough that no area of tissue saturates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from qsmprep.findings import fact_values
from qsmprep.numerics.volume import bounding_box

STAGE = "display"
STEP_PPM = 0.05  # a window is widened in steps, so that the windows of a study are few
SHARE = 5e-5  # of the voxels may lie beyond on each side: at 1 mm about 0.07 ml of a brain


def widened(window: tuple[float, float], volumes: Sequence[np.ndarray], mask: np.ndarray) -> tuple[float, float]:
    """The window, wider where areas of the volumes would saturate; never narrower, and its middle stays.

    What lies beyond the window after a median over 3 x 3 x 3 voxels is an area; thin vessels and noise are not. Both
    ends of a window around zero move alike, so that zero stays in the middle of the grey scale; of one that begins at
    zero only the upper end moves.

    Parameters
    ----------
    window : in ppm, of which the first is 0 or the negative of the second.
    volumes : (n0, n1, n2) susceptibility in ppm, all shown in one window.
    mask : (n0, n1, n2) where they are shown.

    References
    ----------
    QSM consensus organization committee 2024, section 9.1.4.
    """
    from scipy.ndimage import median_filter

    inside = np.asarray(mask) > 0
    if not inside.any():
        return window
    box = bounding_box(inside, margin=1)
    low, high = window
    reached = 0.0
    for volume in volumes:
        part = volume[box]
        known = inside[box] & np.isfinite(part)
        areas = median_filter(np.where(known, part, 0).astype(np.float32), size=3)[inside[box]]
        ends = np.quantile(areas, (SHARE, 1 - SHARE))
        reached = max(reached, float(ends[1]), float(-ends[0]) if low < 0 else 0.0)
    if reached <= high:
        return window
    high = round(STEP_PPM * math.ceil(reached / STEP_PPM - 1e-6), 6)
    return (-high if low < 0 else low), high


def window_words(window: Sequence[float]) -> str:
    """A window in words.

    >>> window_words((-0.2, 0.2))
    '-0.2 to 0.2 ppm'
    """
    low, high = window
    return f"{low:g} to {high:g} ppm"


def told_windows(steps: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The windows that records of steps tell, in words, by what they belong to."""
    told = {}
    for step in steps:
        limits = fact_values(step.get("facts")).get("window") if step.get("stage") == STAGE else None
        if limits is not None:
            told[str(step.get("label", ""))] = window_words(limits)
    return told


def with_window(caption: str, window: str | None) -> str:
    """A caption that states the window, where it is known.

    >>> with_window("Susceptibility.", "-0.2 to 0.2 ppm")
    'Susceptibility. Window: -0.2 to 0.2 ppm, linear grey.'
    """
    return f"{caption} Window: {window}, linear grey." if window else caption
