"""HARPERELLA: the tissue field is the Poisson solution of the Laplacian measured inside the mask.

The Laplacian of the background field is 0 inside the mask, so the one measured there is that of the tissue field. What
has to be found is a Laplacian outside that makes the solution a tissue field: one whose Laplacian has the same mean
over every sphere. Only differences between neighbours enter, so that wraps left in the field do no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.background.multigrid import interior, peeled
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.operators import laplacian_spectrum, sphere_kernel
from qsmprep.numerics.volume import Frame, frame_around
from qsmprep.options import check_options, option

CORE = 3  # layers between the known Laplacian's border and the voxels whose spherical means set the constant


@dataclass(frozen=True)
class HarperellaOptions:
    """Options of HARPERELLA; radius and cap are the published ones.

    The published tolerance of 1e-6 is out of reach of the published 40 iterations, which regularise: more of them
    begin to explain tissue away. At the default tolerance the tissue field has settled; where it is not met, the cap
    ends the iteration as published. The outermost millimetres are peeled because sources in them need a Laplacian
    outside that spherical means hardly see; what is missing of it shows as a smooth field through the whole mask, on
    simulated heads until 4 mm are peeled.
    """

    radius: float = option(10.0, "radius of the spherical mean", unit="mm", low=0.1, high=100.0)
    tolerance: float = option(5e-2, "relative residual of the normal equations at which to stop", low=0.0, high=1.0)
    max_iterations: int = option(40, "cap on conjugate gradient iterations", low=1, high=10000)
    peel_mm: float = option(4.0, "depth to which the mask is peeled first", unit="mm", low=0.0, high=50.0)
    padding_mm: float = option(20.0, "room around the mask's box", unit="mm", low=1.0, high=500.0)


def harperella(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    echo_spacing_s: float | None = None,
    options: HarperellaOptions = HarperellaOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by completing the Laplacian outside the mask.

    With L the 7-point Laplacian, known in K (the mask without the voxels that have a face neighbour outside), and S
    the mean over a sphere, minimises |S (K L + (1 - K) x) - delta|^2 over the padded volume for x, where delta is
    the mean of S K L well inside K. The tissue field is the periodic Poisson solution of K L + (1 - K) x, in K.

    Parameters
    ----------
    total_field : (n0, n1, n2) field, Hz (or ppm without `echo_spacing_s`); values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    voxel_size_mm : edge lengths in mm.
    echo_spacing_s : time between two echoes; steps between neighbours are then taken modulo 1 / echo_spacing_s.
    options : radius, when to stop, peeling, padding.
    progress : called as progress(iteration, max_iterations).
    device : where the Fourier transforms run.

    Returns
    -------
    BackgroundRemoval in the unit of the input; its mask is K.

    Raises
    ------
    ValueError : empty mask, K empty, mismatched shapes, non-finite field in the mask, echo spacing not positive.

    References
    ----------
    Li, NMR Biomed 27:219 (2014).
    """
    check_options(options)
    started = time.perf_counter()
    known = known_laplacian(
        total_field,
        mask,
        voxel_size_mm,
        echo_spacing_s=echo_spacing_s,
        peel_mm=options.peel_mm,
        padding_mm=options.padding_mm,
        device=device,
    )
    kernel = to_device(sphere_kernel(known.frame.padded_shape, voxel_size_mm, options.radius), device)
    means = SphericalMeans(kernel, known.exterior)
    core = interior(known.inside, CORE)
    measured = means.mean(known.source)
    delta = to_numpy(measured)[core if core.any() else known.inside].mean(dtype=np.float64)
    sources, iterations, history, converged = conjugate_gradient(
        means.normal,
        means.adjoint(float(delta) - measured),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    convergence = Convergence(
        iterations=iterations,
        converged=converged,
        history=history,
        monitored="residual of the normal equations, relative to the start",
        seconds=time.perf_counter() - started,
    )
    return known.removal(sources, convergence)


@dataclass(frozen=True)
class SphericalMeans:
    """The linear map from a Laplacian outside the known region to spherical means everywhere: S E x.

    Attributes
    ----------
    kernel : half spectrum of the spherical mean S, real.
    exterior : E, 1 where the Laplacian is sought and 0 elsewhere.
    """

    kernel: Any
    exterior: Any

    def mean(self, source: Any) -> Any:
        """S y."""
        return _filtered(source, self.kernel)

    def forward(self, source: Any) -> Any:
        """S E x."""
        return self.mean(source * self.exterior)

    def adjoint(self, means: Any) -> Any:
        """E S y, the adjoint of `forward`."""
        out = self.mean(means)
        out *= self.exterior
        return out

    def normal(self, source: Any) -> Any:
        """E S S E x with one pair of transforms."""
        out = _filtered(source * self.exterior, self.kernel, twice=True)
        out *= self.exterior
        return out


@dataclass(frozen=True)
class KnownLaplacian:
    """The Laplacian of a field where it can be measured, on a padded periodic grid.

    Attributes
    ----------
    frame : how the grid lies in the volume.
    inside : (padded) bool, K: where the Laplacian is known.
    source : (padded) float32 K L, per mm^2, on the device.
    exterior : (padded) float32 1 - K, on the device.
    poisson : half spectrum of the inverse Laplacian, 0 at zero frequency, on the device.
    """

    frame: Frame
    inside: np.ndarray
    source: Any
    exterior: Any
    poisson: Any

    def field(self, source: Any) -> Any:
        """The periodic field of mean 0 with a given Laplacian, up to the Laplacian's own mean."""
        return _filtered(source, self.poisson)

    def removal(self, exterior_source: Any, convergence: Convergence) -> BackgroundRemoval:
        """The tissue field for a Laplacian found outside."""
        field = to_numpy(self.field(self.source + self.exterior * exterior_source))
        tissue = self.frame.restore(np.where(self.inside, field, np.float32(0)))
        return BackgroundRemoval(tissue, self.frame.restore(self.inside), convergence)


def known_laplacian(
    total_field: np.ndarray,
    mask: np.ndarray,
    voxel_size_mm: tuple[float, float, float],
    *,
    echo_spacing_s: float | None,
    peel_mm: float,
    padding_mm: float,
    device: str,
) -> KnownLaplacian:
    """The 7-point Laplacian of a field, of wrapped steps if the echo spacing is known, ready for a method.

    Raises ValueError for the faults named in `harperella`.
    """
    total_field, mask = check_background_input(total_field, mask)
    if echo_spacing_s is not None and not (np.isfinite(echo_spacing_s) and echo_spacing_s > 0):
        raise ValueError(f"The echo spacing is {echo_spacing_s!r} s; it must be positive.")
    frame = frame_around(mask, padding=tuple(int(np.ceil(padding_mm / h)) for h in voxel_size_mm))
    inside = np.zeros(frame.padded_shape, bool)
    inside[frame.inner] = interior(peeled(mask[frame.box], peel_mm, voxel_size_mm))
    if not inside.any():
        raise ValueError(f"The mask is too thin: no voxel with six neighbours is left after peeling {peel_mm:g} mm.")
    source = np.zeros(frame.padded_shape, np.float32)
    period = 0.0 if echo_spacing_s is None else 1 / float(echo_spacing_s)
    _laplacian(frame.crop(total_field), inside, *(1 / float(h) ** 2 for h in voxel_size_mm), period, source)
    spectrum = laplacian_spectrum(frame.padded_shape, voxel_size_mm)
    spectrum[0, 0, 0] = np.inf  # the mean of a field does not show in its Laplacian
    exterior = (~inside).astype(np.float32)
    return KnownLaplacian(frame, inside, *(to_device(x, device) for x in (source, exterior, -1 / spectrum)))


def _filtered(image: Any, spectrum: Any, twice: bool = False) -> Any:
    transformed = rfftn(image)
    transformed *= spectrum
    if twice:
        transformed *= spectrum
    return irfftn(transformed, tuple(image.shape))


@jit(parallel=True)
def _laplacian(field, inside, w0, w1, w2, period, out):
    n0, n1, n2 = field.shape
    turn = 1 / period if period > 0 else 0.0
    for a in prange(n0):
        for b in range(n1):
            for c in range(n2):
                if not inside[a, b, c]:
                    continue
                # Double precision: rounding is white, and the Poisson solution lifts its lowest frequencies.
                here = np.float64(field[a, b, c])
                total = 0.0
                for side in (-1, 1):
                    step = field[a + side, b, c] - here
                    total += w0 * (step - period * np.rint(step * turn))
                    step = field[a, b + side, c] - here
                    total += w1 * (step - period * np.rint(step * turn))
                    step = field[a, b, c + side] - here
                    total += w2 * (step - period * np.rint(step * turn))
                out[a, b, c] = total
