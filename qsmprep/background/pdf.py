"""PDF: the background field is what dipoles outside the mask can explain of the field inside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.shim import harmonic_shim
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

NOISE_FLOOR = 0.1  # of the median: one voxel of lucky noise must not outweigh a hundred others


@dataclass(frozen=True)
class PdfOptions:
    """Options of the projection onto dipole fields.

    The discrete kernel is the default because its fields obey the sampled Laplace equation one voxel away from
    their sources: iterating further hardly harms, where image-space kernels begin to explain tissue away, and their
    cut at half the padded box is a jump inside the mask.
    """

    tolerance: float = option(1e-3, "relative residual of the normal equations at which to stop", low=0.0, high=1.0)
    max_iterations: int = option(60, "cap on conjugate gradient iterations", low=1, high=10000)
    padding_mm: float = option(20.0, "room for sources around the mask's box", unit="mm", low=1.0, high=500.0)
    kernel: str = option("discrete", "dipole kernel of the sources", choices=KERNELS)


def pdf(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    noise: np.ndarray | None = None,
    options: PdfOptions = PdfOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by fitting sources outside the mask.

    Minimises |W (f - D x)|^2 in the mask over x supported outside it, by conjugate gradients on the normal
    equations; the tissue field is f - D x.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted.
    scan : its voxel size and direction of B0.
    noise : (n0, n1, n2) s.d. of the field in any unit, W = 1 / noise; W = 1 when None. Voxels of the mask whose
        noise is not a positive number do not enter the fit.
    options : when to stop, padding, kernel.
    progress : called as progress(iteration, max_iterations).
    device : where the fit runs.

    Returns
    -------
    BackgroundRemoval in the unit of the input, on the mask given.

    Raises
    ------
    ValueError : empty mask, mismatched shapes, non-finite field in the mask, no voxel of usable noise.

    References
    ----------
    Liu, NMR Biomed 24:1129 (2011).

    Examples
    --------
    The field of a distant source, here a gradient, goes, and the mask stays as it is.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = pdf(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 2103)
    """
    check_options(options)
    started = time.perf_counter()
    total_field, mask = check_background_input(total_field, mask)
    frame = frame_around(mask, padding=tuple(int(np.ceil(options.padding_mm / h)) for h in scan.voxel_size_mm))
    weight = frame.crop(mask.astype(np.float32) if noise is None else _weight(noise, mask))
    inside = frame.crop(mask)
    field = np.where(inside, frame.crop(total_field), np.float32(0))
    # Far sources would need many iterations, and a large shim term would loosen the relative tolerance.
    field = to_device(np.where(inside, field - harmonic_shim(field, weight, scan.voxel_size_mm), np.float32(0)), device)
    spectrum = dipole_kernel(frame.padded_shape, scan.voxel_size_mm, scan.b0_direction, kind=options.kernel)
    fit = ExteriorDipoles(*(to_device(x, device) for x in (spectrum, weight, (~inside).astype(np.float32))))
    solution = conjugate_gradient(
        lambda x: fit.adjoint(fit.forward(x)),
        fit.adjoint(fit.weight * field),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    tissue = frame.restore(to_numpy(field - fit.background(solution.x)))
    tissue[~mask] = 0
    convergence = ended(
        started,
        solution.history,
        solution.converged,
        monitored="residual of the normal equations, relative to the start",
    )
    return BackgroundRemoval(tissue, mask, convergence)


@dataclass(frozen=True)
class ExteriorDipoles:
    """The linear map from sources outside the mask to the weighted field inside it: W D E x.

    Attributes
    ----------
    kernel : half spectrum of the dipole kernel D.
    weight : W, 0 outside the mask.
    exterior : E, 1 outside the mask and 0 inside.
    """

    kernel: Any
    weight: Any
    exterior: Any

    def background(self, sources: Any) -> Any:
        """Field of sources everywhere in the padded box: D x."""
        spectrum = rfftn(sources)
        spectrum *= self.kernel
        return irfftn(spectrum, tuple(sources.shape))

    def forward(self, sources: Any) -> Any:
        """W D E x."""
        field = self.background(sources * self.exterior)
        field *= self.weight
        return field

    def adjoint(self, field: Any) -> Any:
        """E D W y, the adjoint of `forward`."""
        sources = self.background(field * self.weight)
        sources *= self.exterior
        return sources


def _weight(noise: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """1 / noise with the median voxel at 1; 0 outside the mask and where the noise is no positive number."""
    if noise.shape != mask.shape:
        raise ValueError(f"Noise map and mask must have one shape; got {noise.shape} and {mask.shape}.")
    usable = mask & np.isfinite(noise) & (noise > 0)
    if not usable.any():
        raise ValueError("PDF: the noise map has no positive, finite value inside the mask.")
    median = np.median(noise[usable])
    weight = np.zeros(mask.shape, np.float32)
    weight[usable] = median / np.maximum(noise[usable], NOISE_FLOOR * median)
    return weight
