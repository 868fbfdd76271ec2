"""Return of any map to the tissue field: where the kernel is strong the data decide, where it is weak the map."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.volume import frame_around
from qsmprep.scan import Scan

STEP = 0.03  # of the squared kernel, which is 4/9 at most: weaker frequencies are left to the map
PADDING = 32  # zeros beyond the mask's box, in voxels


def returned_to_field(
    chi_ppm: np.ndarray,
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    times: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The map after `times` steps chi <- M (chi + F^-1 [D / (D^2 + step) F W M (f - D chi)]).

    One step is the exact minimum of |D chi - f|^2 + step |chi - map|^2, the field outside the mask being that of the
    map; each further one repeats it from there.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) map in ppm.
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : voxel size and direction of B0.
    times : number of steps.
    weights : (n0, n1, n2) data weights >= 0, of which the median and more count fully; None: all count alike.

    Returns
    -------
    (n0, n1, n2) float32 in ppm, 0 outside the mask.
    """
    inside = np.asarray(mask) > 0
    trust = inside.astype(np.float32)
    if weights is not None and (median := float(np.median(weights[inside]))) > 0:
        trust *= np.minimum(np.asarray(weights, np.float32) / np.float32(median), 1)
    frame = frame_around(inside, padding=PADDING)
    kernel = dipole_kernel(frame.padded_shape, scan.voxel_size_mm, scan.b0_direction, kind="integrated")
    inverse = kernel / (kernel**2 + np.float32(STEP))
    chi, field, counts, support = (
        frame.crop(np.asarray(image, np.float32))
        for image in (np.where(inside, chi_ppm, 0), np.where(inside, field_ppm, 0), trust, inside)
    )
    for _ in range(times):
        missing = counts * (field - irfftn(kernel * rfftn(chi), frame.padded_shape))
        chi = (chi + irfftn(inverse * rfftn(missing), frame.padded_shape)) * support
    return np.asarray(frame.restore(chi) * inside, np.float32)
