"""What all inversion methods check and scale in the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.units import check_field_ppm
from qsmprep.scan import Scan


@dataclass(frozen=True)
class Measurement:
    """What was measured of a scan, as the iterative inversions take it; `fansi` and `medi` explain each.

    Attributes
    ----------
    field_ppm : (n0, n1, n2) field in ppm.
    mask : (n0, n1, n2) where it is valid.
    scan : geometry and timing.
    weights, magnitude_rss, noise_hz, relative_residual : (n0, n1, n2); None where there is no such image, or the method
        does not look at it.
    """

    field_ppm: RealArray
    mask: Mask
    scan: Scan
    weights: RealArray | None = None
    magnitude_rss: RealArray | None = None
    noise_hz: RealArray | None = None
    relative_residual: RealArray | None = None

    def checked(self, residual_threshold: float) -> tuple[FloatImage, Mask, Mask]:
        """Field, mask, and the voxels of the mask whose field is finite and reliable; see `checked_field`."""
        field, inside, measured = checked_field(self.field_ppm, self.mask)
        return field, inside, measured & reliable(inside, self.relative_residual, residual_threshold)


def checked_field(field_ppm: RealArray, mask: Mask) -> tuple[FloatImage, Mask, Mask]:
    """The tissue field made safe to transform.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where it is valid.

    Returns
    -------
    float32 field, 0 outside the mask and where it is not finite; boolean mask; boolean mask of the finite voxels in it.

    Raises
    ------
    ValueError for shapes that differ, an empty mask, or a field that cannot be in ppm.
    """
    field, inside = np.asarray(field_ppm), np.asarray(mask) > 0
    if field.ndim != 3 or field.shape != inside.shape:
        raise ValueError(f"Field and mask must be 3-D and of one shape; got {field.shape} and {inside.shape}.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to invert.")
    measured = inside & np.isfinite(field)
    field = np.where(measured, field, 0).astype(np.float32)
    check_field_ppm(field)
    return field, inside, measured


def checked_image(image: RealArray | None, mask: Mask, name: str) -> FloatImage | None:
    """A weight or magnitude image as float32, 0 outside the mask and where not finite; ValueError if it is negative."""
    if image is None:
        return None
    image = np.asarray(image)
    if image.shape != mask.shape:
        raise ValueError(f"{name} has shape {image.shape}; the mask has {mask.shape}.")
    image = np.where(mask & np.isfinite(image), image, 0).astype(np.float32)
    if image.min() < 0:
        raise ValueError(f"{name} must not be negative; its minimum in the mask is {image.min():.3g}.")
    if not image.any():
        raise ValueError(f"{name} is 0 everywhere in the mask.")
    return image


def unit_weights(weights: FloatImage | None, mask: Mask, *, top: str = "percentile") -> FloatImage:
    """Data weights of at most 1; the mask for None.

    Parameters
    ----------
    weights, mask : (n0, n1, n2).
    top : what becomes 1: "percentile", the 99.9th in the mask, with what lies above it clipped; or "maximum".
    """
    if weights is None:
        return mask.astype(np.float32)
    brightest = weights.max() if top == "maximum" else np.percentile(weights[mask], 99.9) or weights.max()
    return np.minimum(weights / brightest, 1).astype(np.float32)


def reliable(mask: Mask, relative_residual: RealArray | None, threshold: float) -> Mask:
    """Voxels of the mask whose relative residual of the echo combination is at most the threshold (all, when None).

    Raises ValueError when no voxel is left.
    """
    if relative_residual is None:
        return mask
    residual = np.asarray(relative_residual)
    if residual.shape != mask.shape:
        raise ValueError(f"The relative residual has shape {residual.shape}; the mask has {mask.shape}.")
    explained = mask & (residual <= threshold)
    if not explained.any():
        raise ValueError(
            f"Every voxel's relative residual exceeds {threshold:g}: field, relaxation rate and signal do not belong "
            "together, or residual_threshold is too low."
        )
    return explained


def radians_per_ppm(scan: Scan, at: str = "echo-spacing") -> float:
    """Phase in rad that 1 ppm gathers: the unit of what methods that fit phase compare their weights with.

    Parameters
    ----------
    scan : centre frequency and echo times.
    at : "echo-spacing": over one echo spacing (over the echo time itself, when there is one echo); "last-echo": until
        the last echo time.
    """
    radians_per_s = 2 * math.pi * scan.frequency_mhz
    return float(radians_per_s * (scan.last_echo_s if at == "last-echo" else scan.echo_spacing_s))
