"""An atlas registered to a head: its template is registered by ANTs to an image that shows cortex and iron alike."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

BRIGHTEST = 255.0  # the anatomical image's 99th percentile in the brain after scaling
CONTRAST_PER_PPM = 400.0  # so iron-rich nuclei of 0.1 ppm stand out by about a sixth of the grey scale
RANGE_PPM = 0.3  # beyond it lie vessels, bleeds and calcifications, which no template has
SEED = 1
RIM_VOXELS = 2
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world runs to the patient's left and back


def hybrid_image(anatomical: np.ndarray, chi_ppm: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Anatomical contrast less susceptibility, so that deep grey nuclei show beside cortex and white matter.

    hybrid = 255 A / p99(A) - 400 / ppm * chi, chi cut at +-0.3 ppm.

    Parameters
    ----------
    anatomical : (n0, n1, n2) T1w or magnitude image on the grid of the map.
    chi_ppm : (n0, n1, n2) susceptibility, 0 where it is not known.
    mask : (n0, n1, n2) brain.

    Returns
    -------
    (n0, n1, n2) float32, 0 outside the mask.

    Raises
    ------
    ValueError : an anatomical image without signal in the mask.
    """
    inside = np.asarray(mask) > 0
    top = float(np.percentile(anatomical[inside], 99)) if inside.any() else 0.0
    if not (np.isfinite(top) and top > 0):
        raise ValueError("The anatomical image has no signal in the brain: no atlas can be registered to it.")
    scaled = np.clip(anatomical / top, 0, 1.5) * BRIGHTEST
    hybrid = scaled - CONTRAST_PER_PPM * np.clip(np.nan_to_num(chi_ppm), -RANGE_PPM, RANGE_PPM)
    return np.where(inside, hybrid, 0).astype(np.float32)


def register_atlas(
    image: np.ndarray,
    affine: np.ndarray,
    template: np.ndarray,
    template_affine: np.ndarray,
    labels: np.ndarray,
    labels_affine: np.ndarray,
    *,
    transform: str = "SyN",
) -> tuple[np.ndarray, float]:
    """Labels of an atlas on the grid of an image, by non-linear registration of the atlas' template to the image.

    One thread and a fixed seed, so that the result is the same every time: several threads move the labels' borders
    from run to run.

    Parameters
    ----------
    image, affine : (n0, n1, n2) and (4, 4): what the template is registered to.
    template, template_affine : likewise, of the atlas.
    labels, labels_affine : whole numbers, in the template's world.
    transform : name that ANTs gives the kind of transform.

    Returns
    -------
    (n0, n1, n2) int32 labels, and the correlation of image and warped template where both are not 0, rim left out.

    Raises
    ------
    ImportError : ANTs is not installed.
    ValueError : the registration failed.

    References
    ----------
    Avants 2008 (SyN).
    """
    import ants

    ants.config.set_ants_deterministic(True, seed_value=SEED)
    fixed, moving = ants_image(ants, image, affine), ants_image(ants, template, template_affine)
    atlas = ants_image(ants, labels, labels_affine)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = ants.registration(fixed=fixed, moving=moving, type_of_transform=transform, outprefix=f"{folder}/")
            laid = ants.apply_transforms(
                fixed=fixed, moving=atlas, transformlist=found["fwdtransforms"], interpolator="nearestNeighbor"
            )
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"ANTs could not register the atlas' template: {error}") from None
        warped = np.asarray(found["warpedmovout"].numpy(), np.float64)
    return np.rint(laid.numpy()).astype(np.int32), _correlation(image, warped)


def _correlation(image: np.ndarray, warped: np.ndarray) -> float:
    """Correlation where both are not 0, without the rim, whose voxels are mixed with nothing; 0 where none is left."""
    from scipy.ndimage import binary_erosion

    both = binary_erosion((image != 0) & (warped != 0), iterations=RIM_VOXELS)
    if not both.any() or not np.ptp(image[both]) > 0 or not np.ptp(warped[both]) > 0:
        return 0.0
    return float(np.corrcoef(image[both], warped[both])[0, 1])


def ants_image(ants: Any, volume: np.ndarray, affine: np.ndarray) -> Any:
    """A volume as ANTs knows it: origin, spacing and direction in ITK's axes."""
    turned = FLIP @ np.asarray(affine, float)
    spacing: Sequence[float] = np.linalg.norm(turned[:3, :3], axis=0)
    return ants.from_numpy(
        np.asarray(volume, np.float32),
        origin=[float(x) for x in turned[:3, 3]],
        spacing=[float(h) for h in spacing],
        direction=turned[:3, :3] / spacing,
    )
