"""Scores of the 2019 reconstruction challenge that look at tissues: errors by region, deep grey, calcification.

Everything here is demeaned in the mask or fitted with an offset, so the reference region does not matter. The numbers
of the tissues are those of the challenge and of the simulated heads.
"""

from __future__ import annotations

import numpy as np

from qsmprep.analysis import Score
from qsmprep.analysis.voxelwise import detrend
from qsmprep.numerics.volume import bounding_box

DEEP_GREY = (1, 2, 3, 4, 5, 6)  # caudate, globus pallidus, putamen, red nucleus, dentate nucleus, substantia nigra
TISSUE = (7, 8, 9)  # thalamus, white matter, grey matter
BLOOD = (11,)
CALCIFICATION = 16
CALCIFICATION_MARGIN = 3  # voxels around the calcification that belong to its box
STREAK_MARGIN = 4  # voxels around that box in which streaks are looked for; as many again count for the threshold
THRESHOLD_STEP_PPM = 0.01


def region_scores(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> dict[str, Score]:
    """All scores of regions; NaN, with the reason, where a region is not there.

    Parameters
    ----------
    recon, truth : (n0, n1, n2) susceptibility in ppm, 0 outside the mask.
    mask : (n0, n1, n2) bool.
    labels : (n0, n1, n2) integers: 1-6 deep grey nuclei, 7 thalamus, 8 white matter, 9 cortical grey matter, 11 venous
        blood, 16 calcification; others are not looked at.

    References
    ----------
    QSM Challenge 2.0 Organization Committee 2021; Milovic 2020.
    """
    x = np.where(mask, recon - recon[mask].mean(), 0)
    t = np.where(mask, truth - truth[mask].mean(), 0)
    scores = {f"rmse_detrended_{name}": _detrended(x, t, region) for name, region in regions(mask, labels).items()}
    slope = deep_grey_slope(x, t, mask, labels)
    missing = "" if np.isfinite(slope) else "fewer than two deep grey nuclei in the mask"
    scores["slope_deep_grey"] = Score(slope, "", "1", missing)
    scores["deviation_from_slope"] = Score(abs(1 - slope), "", "lower", missing)
    if not (mask & (labels == CALCIFICATION)).any():
        absent = "no calcification in the mask"
        scores["deviation_from_calcification_moment"] = Score(float("nan"), "ppm voxel", "lower", absent)
        scores["calcification_streak"] = Score(float("nan"), "", "lower", absent)
        return scores
    box = bounding_box(mask & (labels == CALCIFICATION))
    deviation = abs(calcification_moment(t, box) - calcification_moment(x, box))
    scores["deviation_from_calcification_moment"] = Score(deviation, "ppm voxel", "lower")
    streak = calcification_streak(x, t, mask, box)
    unseen = "" if np.isfinite(streak) else "the calcification does not stand out of its surroundings"
    scores["calcification_streak"] = Score(streak, "", "lower", unseen)
    return scores


def regions(mask: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The regions of the detrended errors: tissue and deep grey one voxel smaller, blood one voxel larger."""
    from scipy.ndimage import binary_dilation, binary_erosion

    cube = np.ones((3, 3, 3), bool)
    return {
        "tissue": binary_erosion(mask & np.isin(labels, TISSUE), cube),
        "blood": binary_dilation(mask & np.isin(labels, BLOOD), cube) & mask,
        "deep_grey": binary_erosion(mask & np.isin(labels, DEEP_GREY), cube),
    }


def deep_grey_slope(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> float:
    """Slope of the line, with intercept, of the deep grey nuclei's means in the map on those in the truth."""
    nuclei = [mask & (labels == label) for label in DEEP_GREY]
    means = [(truth[nucleus].mean(), recon[nucleus].mean()) for nucleus in nuclei if nucleus.any()]
    if len(means) < 2:
        return float("nan")
    true, found = np.transpose(means)
    return detrend(found, true).slope


def calcification_moment(chi: np.ndarray, box: tuple[slice, ...]) -> float:
    """Number of the calcification's voxels times their mean susceptibility, in ppm voxel.

    Parameters
    ----------
    chi : (n0, n1, n2) susceptibility in ppm.
    box : of the true calcification.
    """
    return float(calcification_voxels(chi, box).sum())


def calcification_voxels(chi: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """Susceptibility of the voxels near the calcification that lie below all of its surroundings.

    The threshold is the first of 0, -0.01, -0.02, ... ppm below which no voxel of the surroundings lies.
    """
    inner = grown(box, CALCIFICATION_MARGIN, chi.shape)
    outer = grown(inner, 2 * STREAK_MARGIN, chi.shape)
    lowest = min(float(chi[shell(inner, outer, chi.shape)].min(initial=0)), 0.0)
    threshold = -THRESHOLD_STEP_PPM * np.ceil(-lowest / THRESHOLD_STEP_PPM - 1e-9)
    near = chi[inner]
    return np.asarray(near[near < threshold])


def calcification_streak(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray, box: tuple[slice, ...]) -> float:
    """Standard deviation around the calcification of what the line on the truth leaves, over |its mean| in the map."""
    segment = calcification_voxels(recon, box)
    inner = grown(box, CALCIFICATION_MARGIN, mask.shape)
    around = shell(inner, grown(inner, STREAK_MARGIN, mask.shape), mask.shape) & mask
    if segment.size == 0 or np.count_nonzero(around) < 3:
        return float("nan")
    return float(detrend(recon[around], truth[around]).residual.std() / abs(segment.mean()))


def grown(box: tuple[slice, ...], margin: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box with `margin` voxels more on each side, inside the volume."""
    return tuple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, shape, strict=True))


def shell(inner: tuple[slice, ...], outer: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the voxels of the outer box that are not in the inner one."""
    between = np.zeros(shape, bool)
    between[outer] = True
    between[inner] = False
    return between


def _detrended(recon: np.ndarray, truth: np.ndarray, region: np.ndarray) -> Score:
    if np.count_nonzero(region) < 3:
        return Score(float("nan"), "%", "lower", "no such tissue in the mask, or too thin at this voxel size")
    return Score(detrend(recon[region], truth[region]).rmse, "%", "lower")
