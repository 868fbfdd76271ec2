"""Affine registration of a template to a head: from several ways in which it may lie, by SimpleITK."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsmprep.numerics.arrays import DoubleArray

# Nod (about x) and tilt (about y) from which the optimiser starts.
STARTS_DEGREES = ((0, 0), (25, 0), (-25, 0), (0, 25), (0, -25))
SMOOTHING_VOXELS = 1.5
COARSE, FINE = 4, 2  # factors by which the grid is thinned
LARGEST_STEP_MM = 8.0


def register_affine(
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    fixed_mask: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    moving_mask: np.ndarray,
) -> tuple[DoubleArray, float]:
    """Affine map from the world of one head to another's, by the correlation of images that are 0 outside the brain.

    It starts from the centres of the brains, with the world's axes (the patient's) put over each other. One thread
    and every voxel, so that the result is the same every time.

    Parameters
    ----------
    fixed, moving : (n0, n1, n2) images, 0 outside the brain.
    fixed_mask, moving_mask : of the brains.
    fixed_affine, moving_affine : (4, 4) without rotation, mm.

    Returns
    -------
    (4, 4) matrix from the fixed world to the moving one, and the correlation that is reached.

    Raises
    ------
    ValueError : no start led anywhere.
    """
    import SimpleITK

    sitk: Any = SimpleITK  # it has no types
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        images = _image(sitk, fixed, fixed_affine), _image(sitk, moving, moving_affine)
        centre, target = _centre(fixed_mask, fixed_affine), _centre(moving_mask, moving_affine)
        best = _best_rigid(sitk, images, centre, target)
        affine = sitk.AffineTransform(3)
        affine.SetCenter(best.GetCenter())
        affine.SetMatrix(best.GetMatrix())
        affine.SetTranslation(best.GetTranslation())
        _optimise(sitk, images, affine, COARSE, 40)
        correlation = -_optimise(sitk, images, affine, FINE, 20)
    except RuntimeError as error:
        raise ValueError(f"The template could not be registered: {str(error).splitlines()[-1]}") from None
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    world = np.eye(4)
    world[:3, :3] = np.reshape(affine.GetMatrix(), (3, 3))
    world[:3, 3] = affine.TransformPoint((0.0, 0.0, 0.0))
    return world, correlation


def _best_rigid(sitk: Any, images: tuple[Any, Any], centre: np.ndarray, target: np.ndarray) -> Any:
    """The best of the rigid registrations from every start."""
    found = []
    for nod, tilt in STARTS_DEGREES:
        rigid = sitk.Euler3DTransform()
        rigid.SetCenter(centre.tolist())
        rigid.SetRotation(np.deg2rad(nod), np.deg2rad(tilt), 0.0)
        rigid.SetTranslation((target - centre).tolist())
        try:
            found.append((_optimise(sitk, images, rigid, COARSE, 30), rigid))
        except RuntimeError:  # the optimiser ran off the image
            continue
    if not found:
        raise RuntimeError("no start led to an overlap of both brains.")
    return min(found, key=lambda result: result[0])[1]


def _optimise(sitk: Any, images: tuple[Any, Any], transform: Any, factor: int, iterations: int) -> float:
    """Move a transform, in place, until the correlation rises no more; returns its negative."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([factor])
    method.SetSmoothingSigmasPerLevel([0])
    method.SetOptimizerAsConjugateGradientLineSearch(
        learningRate=1.0,
        numberOfIterations=iterations,
        convergenceMinimumValue=1e-5,
        convergenceWindowSize=5,
        estimateLearningRate=method.EachIteration,
        maximumStepSizeInPhysicalUnits=LARGEST_STEP_MM,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, True)
    method.Execute(*images)
    return float(method.GetMetricValue())


def _image(sitk: Any, volume: np.ndarray, affine: np.ndarray) -> Any:
    """A smoothed volume along the world's axes as SimpleITK knows it; its world is that of the affine."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.asarray(volume, np.float32), SMOOTHING_VOXELS)
    image = sitk.GetImageFromArray(np.ascontiguousarray(smooth.T))
    image.SetOrigin([float(x) for x in affine[:3, 3]])
    image.SetSpacing([float(x) for x in np.diag(affine)[:3]])
    return image


def _centre(mask: np.ndarray, affine: np.ndarray) -> DoubleArray:
    """Centre of mass of a mask in the world, mm."""
    return np.asarray(affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3], float)
