"""Rigid registration of one magnitude image to another, and resampling on the other's grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsmprep.numerics.arrays import FloatImage

COARSE_MM, FINE_MM = 8.0, 4.0  # voxels to which the images are thinned: at 4 mm the head's turn is found to 0.1 degree
FARTHEST_MM = 40.0  # from where the centres of mass put the head
# Nod (about x) and tilt (about y) from which the optimiser starts: alone it finds back about 25 degrees.
STARTS_DEGREES = ((0, 0), (25, 0), (-25, 0), (0, 25), (0, -25))
GOOD_CORRELATION = 0.8  # reached from the scanner's coordinates, with which no other start is tried
MARGIN_MM = 6.0  # around the brain mask: the contrast at its surface counts


def register_rigid(
    reference: np.ndarray,
    reference_affine: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    contrast: str = "same",
) -> tuple[np.ndarray, float]:
    """Rigid motion of the head between two magnitude images.

    Every voxel counts (no random sampling) and one thread adds them up, so that the result is the same every time.

    Parameters
    ----------
    reference, moving : (n0, n1, n2) magnitude images.
    reference_affine, moving_affine : (4, 4) voxel-to-world matrices in mm.
    mask : (n0, n1, n2) of the reference, where the head is rigid (the brain); grown by 6 mm. None: everywhere.
    contrast : "same" (two gradient echo scans), compared by correlation, from where the centres of mass put the head;
        or "other" (a spin echo scan), compared by mutual information, from the scanner's coordinates first.

    Returns
    -------
    (4, 4) matrix that takes a point of the head in the reference's world to the moving image's world; and the size of
    the correlation reached, of 4 mm voxels.

    Raises
    ------
    ValueError : an image without contrast, or no overlap.

    References
    ----------
    Lowekamp 2013.
    """
    import SimpleITK

    sitk: Any = SimpleITK  # it has no types
    for name, image in (("reference", reference), ("moving", moving)):
        if not np.isfinite(image).all() or not np.ptp(image) > 0:
            raise ValueError(f"The {name} magnitude has no contrast or is not finite: it cannot be registered.")
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        fixed = _image(sitk, reference, reference_affine)
        other = _image(sitk, moving, moving_affine)
        region = None if mask is None else _grown(sitk, mask, reference_affine)
        start = sitk.CenteredTransformInitializer(
            fixed, other, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
        best, starts = None, [sitk.Euler3DTransform(start)]
        if contrast == "other":
            starts.append(_in_place(sitk, fixed))
            best = _from_scanner(sitk, fixed, other, region, starts[1], contrast)
        if best is None:
            best = _best_start(sitk, fixed, other, region, starts, contrast)
        best = _refined(sitk, fixed, other, region, best, contrast)
        correlation = _correlation(sitk, fixed, other, region, best)
    except RuntimeError as error:
        raise ValueError(f"The magnitude images could not be registered: {str(error).splitlines()[-1]}") from None
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return _matrix(best), correlation


def resample(
    volume: np.ndarray,
    affine: np.ndarray,
    reference_to_moving: np.ndarray,
    reference_affine: np.ndarray,
    reference_shape: tuple[int, int, int],
    *,
    order: int = 1,
) -> np.ndarray:
    """A volume on the reference's grid, 0 beyond its own; float32.

    Parameters
    ----------
    volume : (n0, n1, n2), real. Never phase: it wraps.
    affine, reference_affine : (4, 4) voxel-to-world matrices.
    reference_to_moving : (4, 4) as `register_rigid` returns it.
    reference_shape : of the result.
    order : of the spline, 1 linear, 3 cubic.
    """
    from scipy.ndimage import affine_transform

    matrix = np.linalg.inv(affine) @ reference_to_moving @ reference_affine
    moved: FloatImage = affine_transform(
        np.asarray(volume, np.float32),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=tuple(reference_shape),
        order=order,
        mode="constant",
        cval=0.0,
        output=np.float32,
    )
    return moved


def resample_inside(
    volume: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    reference_to_moving: np.ndarray,
    reference_affine: np.ndarray,
    reference_shape: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """A volume that is known inside a mask only, on the reference's grid by cubic splines, and the mask there.

    Outside the mask the nearest known value is put first, so that the spline meets no step at the mask's edge.
    """
    from scipy.ndimage import distance_transform_edt

    geometry = (affine, reference_to_moving, reference_affine, reference_shape)
    nearest = distance_transform_edt(
        ~mask, sampling=np.linalg.norm(affine[:3, :3], axis=0), return_distances=False, return_indices=True
    )
    filled = np.asarray(volume, np.float32)[tuple(nearest)]
    inside = resample(mask.astype(np.float32), *geometry) > 0.5
    return resample(filled, *geometry, order=3) * inside, inside


def _in_place(sitk: Any, fixed: Any) -> Any:
    """The head where the scanner's coordinates put it, turning about the middle of the image."""
    transform = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in fixed.GetSize()]
    transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
    return transform


def _from_scanner(sitk: Any, fixed: Any, moving: Any, region: Any, start: Any, contrast: str) -> Any:
    """The optimum from the scanner's coordinates; None where it is no good one, so that other starts are tried."""
    try:
        best = _best_start(sitk, fixed, moving, region, [start], contrast, turns=STARTS_DEGREES[:1])
        return best if _correlation(sitk, fixed, moving, region, best) >= GOOD_CORRELATION else None
    except RuntimeError:  # the optimiser ran off the image
        return None


def _best_start(
    sitk: Any,
    fixed: Any,
    moving: Any,
    region: Any,
    starts: list[Any],
    contrast: str,
    turns: tuple[tuple[int, int], ...] = STARTS_DEGREES,
) -> Any:
    """The best of several optimisations at the coarse level, one for each way the head may lie."""
    found = []
    for start in starts:
        for nod, tilt in turns:
            transform = sitk.Euler3DTransform(start)
            transform.SetRotation(np.deg2rad(nod), np.deg2rad(tilt), 0.0)
            method = _method(sitk, transform, region, COARSE_MM, contrast)
            method.SetOptimizerAsConjugateGradientLineSearch(
                learningRate=1.0,
                numberOfIterations=30,
                convergenceMinimumValue=1e-5,
                convergenceWindowSize=5,
                estimateLearningRate=method.EachIteration,
                maximumStepSizeInPhysicalUnits=COARSE_MM,
            )
            try:
                value = _run(sitk, method, fixed, moving, COARSE_MM)
            except RuntimeError:  # this start puts the head where there is no image
                if len(starts) == 1:
                    raise
                continue
            moved = np.linalg.norm(np.subtract(transform.GetTranslation(), start.GetTranslation()))
            if moved < FARTHEST_MM:  # an optimiser that ran off the image reports what a handful of voxels say
                found.append((value, transform))
    return min(found, key=lambda result: result[0])[1] if found else starts[0]


def _refined(sitk: Any, fixed: Any, moving: Any, region: Any, start: Any, contrast: str) -> Any:
    """The optimum at the fine level, by line searches without derivatives."""
    transform = sitk.Euler3DTransform(start)
    method = _method(sitk, transform, region, FINE_MM, contrast)
    method.SetOptimizerAsPowell(
        numberOfIterations=10, maximumLineIterations=20, stepLength=0.5, stepTolerance=1e-3, valueTolerance=1e-6
    )
    _run(sitk, method, fixed, moving, FINE_MM)
    return transform


def _correlation(sitk: Any, fixed: Any, moving: Any, region: Any, transform: Any) -> float:
    """Size of the correlation of the two at the fine level."""
    method = _method(sitk, sitk.Euler3DTransform(transform), region, FINE_MM, "same")
    images = (_thinned(sitk, fixed, FINE_MM), _thinned(sitk, moving, FINE_MM))
    return float(np.sqrt(max(-method.MetricEvaluate(*images), 0.0)))


def _method(sitk: Any, transform: Any, region: Any, size_mm: float, contrast: str) -> Any:
    method = sitk.ImageRegistrationMethod()
    if contrast == "same":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.NONE)
    if region is not None:
        method.SetMetricFixedMask(_thinned(sitk, region, size_mm, mask=True))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _run(sitk: Any, method: Any, fixed: Any, moving: Any, size_mm: float) -> float:
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(_thinned(sitk, fixed, size_mm), _thinned(sitk, moving, size_mm))
    return float(method.GetMetricValue())


def _thinned(sitk: Any, image: Any, size_mm: float, *, mask: bool = False) -> Any:
    """The image smoothed and thinned to voxels of about `size_mm`; itself where its voxels are as large."""
    factors = [max(1, round(size_mm / h)) for h in image.GetSpacing()]
    if max(factors) == 1:
        return image
    if mask:
        return sitk.Shrink(image, factors)
    sigma = [max(0.5 * f * h, 1e-3) if f > 1 else 1e-3 for f, h in zip(factors, image.GetSpacing(), strict=True)]
    return sitk.Shrink(sitk.DiscreteGaussian(image, [s * s for s in sigma]), factors)


def _image(sitk: Any, volume: np.ndarray, affine: np.ndarray, kind: Any = np.float32) -> Any:
    """A volume in the axes of ITK, whose world runs to the patient's left and back."""
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, float)
    size = np.linalg.norm(turned[:3, :3], axis=0)
    u, _, v = np.linalg.svd(turned[:3, :3] / size)
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(volume, kind).T))
    image.SetSpacing([float(h) for h in size])
    image.SetDirection([float(c) for c in (u @ v).ravel()])
    image.SetOrigin([float(x) for x in turned[:3, 3]])
    return image


def _grown(sitk: Any, mask: np.ndarray, affine: np.ndarray) -> Any:
    from scipy.ndimage import distance_transform_edt

    size = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    return _image(sitk, distance_transform_edt(~np.asarray(mask, bool), sampling=size) <= MARGIN_MM, affine, np.uint8)


def _matrix(transform: Any) -> np.ndarray:
    """World-to-world matrix, in axes to the patient's right and front, of an ITK transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix @ flip


def itk_transform_text(matrix: np.ndarray) -> str:
    """An ITK transform file (text) of a world-to-world matrix, which other programs read.

    Parameters
    ----------
    matrix : (4, 4) as `register_rigid` returns it: a point of the reference to one of the moving image, RAS, mm.
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    turned = flip @ np.asarray(matrix, float) @ flip
    numbers = " ".join(f"{value:.10g}" for value in (*turned[:3, :3].ravel(), *turned[:3, 3]))
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )
