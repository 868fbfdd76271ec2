"""Scores of a map against the truth that look at a voxel's surroundings: SSIM in three forms, HFEN; and peak SNR.

Volumes are float64, 0 outside the mask, and have at least `MARGIN` voxels around the mask unless the field of view
ends before: nothing but zeros lies beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MARGIN = 7  # half width of the widest window, that of HFEN
LEVELS = 255.0  # of grey, to which the 2016 challenge scales its images
SIGMA = 1.5  # voxels, of every Gaussian here


def hfen(recon: np.ndarray, truth: np.ndarray) -> float:
    """High-frequency error norm in percent: the error after a Laplacian of Gaussian, of 15^3 voxels with sigma 1.5.

    The kernel is h (r^2 / sigma^4 - 3 / sigma^2), h the normalised Gaussian, less its mean, so that it sums to 0; the
    convolution is zero-padded.

    References
    ----------
    Ravishankar and Bresler 2011; Langkammer 2018.
    """
    filtered = laplacian_of_gaussian(truth)
    power = float(np.linalg.norm(filtered))
    error = float(np.linalg.norm(laplacian_of_gaussian(recon - truth)))  # the filter is linear
    return 100 * error / power if power > 0 else float("inf")


def laplacian_of_gaussian(image: np.ndarray, half_width: int = MARGIN) -> np.ndarray:
    """The image filtered with the kernel of `hfen`, of the same shape, zero-padded.

    The kernel is a sum of three products of one-dimensional kernels and a constant.
    """
    offsets = np.arange(-half_width, half_width + 1)
    gaussian = gaussian_window(half_width)
    second = gaussian * (offsets**2 / SIGMA**4 - 1 / SIGMA**2)
    flat = np.ones(offsets.size)
    mean = 3 * second.sum() / offsets.size**3
    result = _separable(image, [flat] * 3)
    result *= -mean
    for axis in range(3):
        result += _separable(image, [second if d == axis else gaussian for d in range(3)])
    return result


def challenge_ssim(recon: np.ndarray, truth: np.ndarray) -> float:
    """SSIM as in the 2016 challenge: Gaussian window of 5^3 voxels on images scaled to 255 grey levels.

    The mean runs over the voxels where the scaled reconstruction is not 0; NaN where there is none.

    References
    ----------
    Wang 2004; Langkammer 2018.
    """
    x, t = _challenge_levels(recon, truth)
    shown = x != 0
    similarity = _similarity(x, t, _gaussian_mean(2), (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2)
    return float(similarity[shown].mean()) if shown.any() else float("nan")


def sepnet_ssim(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """SSIM as for chi-sepnet: uniform window of 7^3 voxels, sample covariance, 255 grey levels, mean over the mask.

    References
    ----------
    Kim 2025.
    """
    from scipy.ndimage import uniform_filter

    x, t = _grey_levels(recon, truth, mask, mask, min(recon[mask].min(), truth[mask].min()))
    similarity = _similarity(
        x, t, lambda image: uniform_filter(image, 7), (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2, voxels=7**3
    )
    return float(similarity[mask].mean())


def xsim(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """SSIM made for susceptibility: no scaling, a range of 1 ppm, K = (0.01, 0.001), Gaussian window of 7^3 voxels.

    References
    ----------
    Milovic 2025.
    """
    return float(_similarity(recon, truth, _gaussian_mean(3), 0.01**2, 0.001**2)[mask].mean())


def challenge_psnr(recon: np.ndarray, truth: np.ndarray) -> float:
    """Peak SNR in dB as in the 2016 challenge: images scaled as for its SSIM, over the whole volume.

    Its zeros count, so that a larger field of view gives a larger value. Infinite for equal maps.
    """
    x, t = _challenge_levels(recon, truth)
    return _decibel(LEVELS, x - t)


def psnr_1ppm(recon: np.ndarray, truth: np.ndarray) -> float:
    """Peak SNR in dB of the given voxels with 1 ppm for the peak, as for chi-sepnet. Infinite for equal maps."""
    return _decibel(1.0, recon - truth)


def gaussian_window(half_width: int) -> np.ndarray:
    """Gaussian of sigma 1.5 voxels, of 2 half_width + 1 samples that sum to 1."""
    window: np.ndarray = np.exp(-(np.arange(-half_width, half_width + 1) ** 2) / (2 * SIGMA**2))
    return np.asarray(window / window.sum())


def _similarity(
    x: np.ndarray,
    t: np.ndarray,
    mean: Callable[[np.ndarray], np.ndarray],
    c1: float,
    c2: float,
    voxels: int | None = None,
) -> np.ndarray:
    """The map (2 mx mt + c1)(2 sxt + c2) / ((mx^2 + mt^2 + c1)(sx + st + c2)).

    With `voxels` in the window, covariances are those of a sample: divided by one voxel less.
    """
    unbiased = voxels / (voxels - 1) if voxels else 1.0
    mean_x, mean_t = mean(x), mean(t)
    product = mean_x * mean_t
    covariance = unbiased * (mean(x * t) - product)
    squares = mean_x**2 + mean_t**2
    variances = unbiased * (mean(x * x + t * t) - squares)
    return np.asarray((2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2)))


def _gaussian_mean(half_width: int) -> Callable[[np.ndarray], np.ndarray]:
    window = gaussian_window(half_width)
    return lambda image: _separable(image, [window] * 3)


def _separable(image: np.ndarray, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Zero-padded convolution with a product of symmetric one-dimensional windows."""
    from scipy.ndimage import correlate1d

    for axis, window in enumerate(windows):
        image = correlate1d(image, window, axis=axis, mode="constant")
    return image


def _challenge_levels(recon: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels as in the 2016 challenge: the background's zeros count for the minimum and stay what they are."""
    return _grey_levels(recon, truth, recon != 0, truth != 0, min(recon.min(), truth.min()))


def _grey_levels(
    recon: np.ndarray, truth: np.ndarray, in_recon: np.ndarray, in_truth: np.ndarray, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both images less `lowest` and scaled so that their joint maximum is 255; 0 outside the given voxels."""
    x = np.where(in_recon, recon - lowest, 0)
    t = np.where(in_truth, truth - lowest, 0)
    brightest = max(x.max(), t.max())
    scale = LEVELS / brightest if brightest > 0 else 1.0
    return x * scale, t * scale


def _decibel(peak: float, difference: np.ndarray) -> float:
    error = float(np.linalg.norm(difference)) / np.sqrt(difference.size)
    return float(20 * np.log10(peak / error)) if error > 0 else float("inf")
