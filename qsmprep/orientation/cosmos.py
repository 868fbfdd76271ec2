"""COSMOS: susceptibility from the fields of several orientations of the head in the magnet."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import Array
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import Solution, conjugate_gradient
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.orientation import OrientationMap
from qsmprep.orientation.directions import cosmos_condition
from qsmprep.orientation.inputs import Orientations, checked

LEAST = 3
SMALLEST = 1e-6  # of sum w D^2: frequencies below carry no information in any orientation
FLOOR = 0.1  # added to the mean D^2 of the preconditioner, so that no frequency is blown up at once


@dataclass(frozen=True)
class CosmosOptions:
    """Options of COSMOS."""

    max_condition: float = option(
        25.0, "largest condition number of the orientations; three within 5 degrees have 25", low=1
    )
    tolerance: float = option(0.01, "relative residual of the normal equations at which to stop", low=1e-8, high=1)
    max_iterations: int = option(50, "cap on iterations", low=1, high=10000)
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def cosmos(
    orientations: Orientations,
    *,
    options: CosmosOptions = CosmosOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> OrientationMap:
    """Susceptibility by multiple orientation sampling (COSMOS).

    Without weights, closed form at every frequency: chi = sum_i D_i f_i / sum_i D_i^2, 0 where the sum is below 1e-6.
    With weights, min sum_i |w_i (F^-1 D_i F chi - f_i)|^2 over chi that is 0 where no orientation weighs anything, by
    conjugate gradients on the normal equations, preconditioned with the closed form.

    Parameters
    ----------
    orientations : three or more.
    options : see CosmosOptions. Early stopping is what keeps the noise of badly measured frequencies out.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    OrientationMap with chi in ppm, 0 outside the mask; its zero frequency is free or 0, so reference it afterwards.

    Raises
    ------
    ValueError : fewer than three orientations, orientations too much alike, shapes that differ, a field not in ppm.

    References
    ----------
    Liu 2009.

    Examples
    --------
    Three orientations of a cube of 0.1 ppm:

    >>> chi = np.zeros((16, 16, 16), np.float32)
    >>> chi[6:10, 6:10, 6:10] = 0.1
    >>> directions = np.array([(0, 0, 1), (0, 0.5, 0.9), (0.6, 0, 0.8)])
    >>> dipoles = [dipole_kernel(chi.shape, (1, 1, 1), tuple(b)) for b in directions]
    >>> fields = np.stack([irfftn(rfftn(chi) * dipole, chi.shape) for dipole in dipoles])
    >>> given = Orientations(fields, np.ones(chi.shape), (1, 1, 1), directions)
    >>> found = cosmos(given, options=CosmosOptions(padding=0))
    >>> round(float(np.ptp(found.chi_ppm)), 3), round(found.condition, 1)
    (0.1, 3.8)
    """
    check_options(options)
    begin = time.perf_counter()
    given, condition = checked(
        orientations, "COSMOS", least=LEAST, condition_of=cosmos_condition, largest=options.max_condition
    )
    support = given.support
    frame = frame_around(support, padding=options.padding)
    dipoles = [
        to_device(dipole_kernel(frame.padded_shape, given.voxel_size_mm, tuple(b), kind=options.kernel), device)
        for b in given.b0_directions
    ]
    data = [to_device(frame.crop(field), device) for field in given.fields_ppm]
    if given.weights is None:
        chi = _closed_form(data, dipoles, frame.padded_shape)
        convergence = ended(begin, (), True, monitored="closed form", unlisted=1)
        if progress is not None:
            progress(1, 1)
    else:
        squares = [to_device(frame.crop(w * w), device) for w in given.weights]
        region = to_device(frame.crop(support.astype(np.float32)), device)
        solution = _weighted(data, squares, region, dipoles, options, progress)
        chi = solution.x
        convergence = ended(
            begin, solution.history, solution.converged, monitored="relative residual of the normal equations"
        )
    chi = frame.restore(to_numpy(chi))
    chi[~given.mask] = 0
    return OrientationMap(chi, given.mask, condition, convergence)


def _closed_form(data: list[Any], dipoles: list[Any], shape: tuple[int, ...]) -> Any:
    spectrum, total = 0, sum(dipole * dipole for dipole in dipoles)
    inverse = (total >= SMALLEST) / (total + (total < SMALLEST))
    for field, dipole in zip(data, dipoles, strict=True):
        spectrum = spectrum + rfftn(field) * dipole
    return irfftn(spectrum * inverse, shape)


def _weighted(
    data: list[Array],
    squares: list[Array],
    region: Array,
    dipoles: list[Array],
    options: CosmosOptions,
    progress: Progress | None,
) -> Solution:
    """Solve sum_i D_i w_i^2 D_i chi = sum_i D_i w_i^2 f_i inside the region."""
    shape = tuple(region.shape)
    # What the closed form would be if each orientation had its mean weight everywhere.
    powers = [float((square * region).sum() / region.sum()) for square in squares]
    inverse = 1 / (sum(p * d * d for d, p in zip(dipoles, powers, strict=True)) + FLOOR * sum(powers))

    def gather(images: Iterable[Array]) -> Array:
        total: Array = 0
        for image, dipole in zip(images, dipoles, strict=True):
            total = total + rfftn(image) * dipole
        return irfftn(total, shape) * region

    def normal(chi: Array) -> Array:
        spectrum = rfftn(chi)
        return gather(
            irfftn(spectrum * dipole, shape) * square for dipole, square in zip(dipoles, squares, strict=True)
        )

    rhs = gather(field * square for field, square in zip(data, squares, strict=True))
    return conjugate_gradient(
        normal,
        rhs,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        precondition=lambda residual: irfftn(rfftn(residual) * inverse, shape) * region,
        progress=progress,
    )
