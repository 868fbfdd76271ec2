"""LBV: the background field is the harmonic function that agrees with the total field on the mask's border."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.background.multigrid import InteriorLaplacian, interior, peeled, with_border, without_border
from qsmprep.background.polynomial import subtract_polynomial
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import bounding_box
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class LbvOptions:
    """Options of the Laplacian boundary value method.

    The method takes the field of the border's voxels for background: what sources inside do to them spreads as a
    harmonic function through the whole mask. Peeling two voxels is common, but what matters is to leave the vessels,
    meninges and fluid of the outermost millimetres behind: on simulated heads with voxels of 1 to 2.5 mm the error
    falls several times over until 4 mm are peeled.
    """

    tolerance: float = option(1e-4, "relative residual of the Laplacian at which to stop", low=0.0, high=1.0)
    max_iterations: int = option(50, "cap on conjugate gradient iterations", low=1, high=10000)
    peel_mm: float = option(4.0, "depth to which the mask is peeled first", unit="mm", low=0.0, high=50.0)
    polynomial_order: int = option(0, "order of a polynomial subtracted from the result; 0: none", low=0, high=6)


def lbv(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    options: LbvOptions = LbvOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by solving Laplace's equation with the total field as boundary value.

    The tissue field obeys lap f_l = lap f in the interior and f_l = 0 on the border, that is f minus the harmonic
    function that equals f on the border. Each part of a disconnected mask is a problem of its own.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    options : when to stop, peeling, polynomial.
    progress : called as progress(iteration, max_iterations).
    device : accepted for the sake of one signature; the solver runs on the CPU, where it takes a second.

    Returns
    -------
    BackgroundRemoval in the unit of the input. Its mask is the interior: the peeled mask without its border, where
    the result is 0 by construction and tells nothing.

    Raises
    ------
    ValueError : empty mask, no interior left, mismatched shapes, non-finite field in the mask.

    References
    ----------
    Zhou, NMR Biomed 27:312 (2014).

    Examples
    --------
    The field of a distant source, here a gradient, goes; so does the border of the peeled mask.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = lbv(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)), options=LbvOptions(peel_mm=1))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 991)
    """
    check_options(options)
    started = time.perf_counter()
    total_field, mask = check_background_input(total_field, mask)
    box = bounding_box(mask)
    trusted = peeled(mask[box], options.peel_mm, scan.voxel_size_mm)
    inside = interior(trusted)
    if not inside.any():
        raise ValueError(f"The mask is too thin for LBV: no interior is left after peeling {options.peel_mm:g} mm.")
    # The mean is harmonic: taking it away changes nothing but the rounding of a large offset.
    mean = np.float32(total_field[box][trusted].mean(dtype=np.float64))
    field = with_border(np.where(trusted, total_field[box] - mean, np.float32(0)))
    laplacian = InteriorLaplacian(inside, scan.voxel_size_mm)
    solution = conjugate_gradient(
        laplacian.apply,
        laplacian.apply(field).copy(),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        precondition=laplacian.precondition,
        progress=progress,
    )
    found = without_border(solution.x)
    if options.polynomial_order:
        found = subtract_polynomial(found, inside, options.polynomial_order)
    tissue, valid = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, bool)
    tissue[box], valid[box] = found, inside
    convergence = ended(
        started, solution.history, solution.converged, monitored="residual of the Laplacian, relative to the start"
    )
    return BackgroundRemoval(tissue, valid, convergence)
