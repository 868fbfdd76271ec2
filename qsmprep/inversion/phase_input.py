"""The padded input of the methods that fit the phase."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.inversion.edges import gradient_weights
from qsmprep.inversion.inputs import Measurement, checked_image, radians_per_ppm, unit_weights
from qsmprep.inversion.solving import GridOptions, Workspace
from qsmprep.numerics.admm import Penalties, PhaseProblem
from qsmprep.numerics.arrays import Array, FloatImage
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import to_device
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import Spectra, laplacian_rows
from qsmprep.numerics.volume import frame_around


@dataclass(frozen=True)
class PhaseInput:
    """A field as phase, with weights, padded, where the solver runs.

    Attributes
    ----------
    work : the padded grid.
    phase : (n0, n1, n2) in rad, 0 outside the mask.
    weights : (n0, n1, n2) data weights in [0, 1], not squared; 0 outside the mask and where the field is unreliable.
    ratios : (3, n0, n1, n2) array, spatial weights of total variation; None: 1.
    grid : spectra of the padded grid.
    steps_mm : edge lengths in the unit of gradients: mm, or 1 where differences are per voxel.
    """

    work: Workspace
    phase: Array
    weights: Array
    ratios: FloatImage | None
    grid: Spectra
    steps_mm: tuple[float, float, float]

    def problem(self, threshold: float, *, squared: bool = True, harmonic: bool = False) -> PhaseProblem:
        """Total variation with this input.

        Parameters
        ----------
        threshold : weight of total variation over the penalty parameter of its split.
        squared : whether the data term is one of squares.
        harmonic : whether a harmonic field in the mask is fitted along.
        """
        return PhaseProblem(
            phase=self.phase,
            weights=self.weights**2 if squared else self.weights,
            thresholds=threshold_rows(threshold, self.ratios, tuple(self.phase.shape), self.phase),
            inside=self.work.support() if harmonic else None,
            grid=self.grid,
            voxel_size_mm=self.steps_mm,
        )


@dataclass(frozen=True)
class Units:
    """In which units a method's parameters are understood.

    Attributes
    ----------
    scale : of the phase, see `inputs.radians_per_ppm`.
    weights_top : which data weight becomes 1, see `inputs.unit_weights`.
    edges_of : image whose gradient gives the weights of total variation, "magnitude" or "weights" (data weights).
    edges_mean : voxels over which these have a mean, see `edges.gradient_weights`.
    gradient_per : whether gradients of the solution are differences per "mm" or per "voxel".
    """

    scale: str = "echo-spacing"
    weights_top: str = "percentile"
    edges_of: str = "magnitude"
    edges_mean: str = "mask"
    gradient_per: str = "mm"


def phase_input(
    measured: Measurement, options: GridOptions, device: str, *, edges: str = "none", units: Units = Units()
) -> PhaseInput:
    """Check, scale and crop what FANSI, FANSI-TGV, L1-QSM, NDI and chi-separation take; they explain it.

    Parameters
    ----------
    measured : field, mask and scan; weights, or the magnitude in their place.
    options : of the method.
    device : "cpu", or a torch device.
    edges : which weights of total variation the magnitude's gradient gives, see `edges.gradient_weights`.
    units : of the method's parameters.
    """
    begin = time.perf_counter()
    field, inside, usable = measured.checked(options.residual_threshold)
    magnitude_rss = checked_image(measured.magnitude_rss, inside, "The magnitude")
    weights = checked_image(measured.weights, inside, "The weight image")
    scan, scale = measured.scan, np.float32(radians_per_ppm(measured.scan, units.scale))
    pictured = weights if units.edges_of == "weights" and weights is not None else magnitude_rss
    weights = unit_weights(magnitude_rss if weights is None else weights, inside, top=units.weights_top) * usable
    work = Workspace(frame_around(inside, padding=options.padding), inside, device, begin, float(scale))
    ratios = None
    steps_mm = scan.voxel_size_mm if units.gradient_per == "mm" else (1.0, 1.0, 1.0)
    if edges != "none" and pictured is not None:
        ratios = gradient_weights(pictured, inside, steps_mm, edges, mean_over=units.edges_mean)
        ratios = np.stack([work.frame.crop(component, fill=1) for component in ratios])
    phase, weights = (work.there(image) for image in (field * scale, weights))
    shape = work.frame.padded_shape
    dipole = dipole_kernel(shape, scan.voxel_size_mm, scan.b0_direction, kind=options.kernel)
    grid = Spectra(to_device(dipole, device), laplacian_rows(shape, steps_mm, device))
    return PhaseInput(work, phase, weights, ratios, grid, steps_mm)


def penalties_of(options: Any) -> Penalties:
    """How FANSI splits its problem, by its options or those of FANSI with total generalised variation."""
    return Penalties(
        mu_gradient=options.mu1,
        mu_data=options.mu2,
        nonlinear=options.nonlinear,
        beta=options.beta if options.weak_harmonic else None,
        mu_harmonic=options.mu_h,
    )
