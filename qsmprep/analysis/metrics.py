"""Every score of a susceptibility map against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qsmprep.analysis import Score
from qsmprep.analysis.challenge import region_scores
from qsmprep.analysis.similarity import (
    MARGIN,
    challenge_psnr,
    challenge_ssim,
    hfen,
    psnr_1ppm,
    sepnet_ssim,
    xsim,
)
from qsmprep.analysis.voxelwise import (
    correlation,
    demeaned_rmse,
    detrend,
    gradient_error,
    mean_absolute_difference,
    mutual_information,
    rmse,
)
from qsmprep.numerics.volume import bounding_box

LIKELY_SLOPES = (0.5, 1.5)


def evaluate(
    recon: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray | None = None,
    voxel_size_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> dict[str, Score]:
    """Every score of the two reconstruction challenges, and some more.

    Both maps are set to 0 outside the mask first. Scores called `demeaned`, `detrended` and those of regions do not
    depend on the reference region; the others do, so both maps should be referenced alike.

    Parameters
    ----------
    recon, truth : (n0, n1, n2) susceptibility in ppm.
    mask : (n0, n1, n2) where the two are compared.
    labels : (n0, n1, n2) tissue labels, see `qsmprep.analysis.challenge`; None leaves out the scores of regions.
    voxel_size_mm : edge lengths in mm, for the gradients.

    Returns
    -------
    Name -> Score, in the order in which they are reported.

    Raises
    ------
    ValueError for shapes that differ, an empty mask, values in it that are not finite, or a truth that is constant.

    References
    ----------
    Langkammer 2018 (2016 challenge); Milovic 2020 and QSM Challenge 2.0 Organization Committee 2021.
    """
    x, t, inside = masked_pair(recon, truth, mask)
    found, true = x[inside], t[inside]
    line = detrend(found, true)
    box = bounding_box(inside, MARGIN)
    near = x[box], t[box]
    scores = {
        "rmse": Score(rmse(found, true), "%", "lower"),
        "rmse_demeaned": Score(demeaned_rmse(found, true), "%", "lower"),
        "rmse_detrended": Score(line.rmse, "%", "lower"),
        "slope": Score(line.slope, "", "1", _unit_warning(line.slope)),
        "hfen": Score(hfen(*near), "%", "lower"),
        "ssim_challenge": Score(challenge_ssim(*near), "", "higher"),
        "ssim_sepnet": Score(sepnet_ssim(*near, inside[box]), "", "higher"),
        "xsim": Score(xsim(*near, inside[box]), "", "higher"),
        "psnr_challenge": Score(challenge_psnr(x, t), "dB", "higher"),
        "psnr_1ppm": Score(psnr_1ppm(found, true), "dB", "higher"),
        "correlation": Score(correlation(found, true), "", "higher"),
        "mutual_information": Score(mutual_information(found, true), "nat", "higher"),
        "mad": Score(mean_absolute_difference(found, true), "%", "lower"),
        "gxe": Score(gradient_error(x, t, voxel_size_mm), "%", "lower"),
        "gxe_3d": Score(gradient_error(x, t, voxel_size_mm, axes=3), "%", "lower"),
    }
    if labels is None:
        return scores
    labels = np.asarray(labels)
    if labels.shape != inside.shape:
        raise ValueError(f"The labels have shape {labels.shape}; the mask has {inside.shape}.")
    scores |= region_scores(x, t, inside, labels)
    slope = scores["slope_deep_grey"]
    scores["slope_deep_grey"] = replace(slope, warning=slope.warning or _unit_warning(slope.value))
    return scores


def masked_pair(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both maps as float64, 0 outside the mask, and the mask as bool; ValueError where they cannot be compared."""
    inside = np.asarray(mask) > 0
    found, true = (_inside(name, image, inside) for name, image in (("reconstruction", recon), ("truth", truth)))
    if not inside.any():
        raise ValueError("The mask is empty: nothing to compare.")
    if np.ptp(true[inside]) == 0:
        raise ValueError("The truth is constant in the mask: nothing to compare with.")
    return found, true, inside


def _inside(name: str, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.shape != inside.shape or image.ndim != 3:
        raise ValueError(f"The {name} has shape {image.shape}; the mask has {inside.shape}; both must be 3-D.")
    values = np.where(inside, image, 0).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"The {name} holds values in the mask that are not finite.")
    return values


def _unit_warning(slope: float) -> str:
    """Two entries of the 2019 challenge were in the wrong unit, which only their slope told."""
    low, high = LIKELY_SLOPES
    if low <= slope <= high or not np.isfinite(slope):
        return ""
    return f"not within [{low:g}, {high:g}]: is the map in ppm, and of the right sign?"
