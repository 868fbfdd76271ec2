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
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import Spectra, spectra
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
    voxel_size_mm : edge lengths in mm.
    """

    work: Workspace
    phase: Array
    weights: Array
    ratios: FloatImage | None
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]

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
            voxel_size_mm=self.voxel_size_mm,
        )


def phase_input(measured: Measurement, options: GridOptions, device: str, *, edges: str = "none") -> PhaseInput:
    """Check, scale and crop what FANSI, FANSI-TGV, L1-QSM, NDI and chi-separation take; they explain it.

    Parameters
    ----------
    measured : field, mask and scan; weights, or the magnitude in their place.
    options : of the method.
    device : "cpu", or a torch device.
    edges : which weights of total variation the magnitude's gradient gives, see `edges.gradient_weights`.
    """
    begin = time.perf_counter()
    field, inside, usable = measured.checked(options.residual_threshold)
    magnitude_rss = checked_image(measured.magnitude_rss, inside, "The magnitude")
    weights = checked_image(measured.weights, inside, "The weight image")
    scan, scale = measured.scan, np.float32(radians_per_ppm(measured.scan))
    weights = unit_weights(magnitude_rss if weights is None else weights, inside) * usable
    work = Workspace(frame_around(inside, padding=options.padding), inside, device, begin, float(scale))
    ratios = None
    if edges != "none" and magnitude_rss is not None:
        ratios = gradient_weights(magnitude_rss, inside, scan.voxel_size_mm, edges)
        ratios = np.stack([work.frame.crop(component, fill=1) for component in ratios])
    phase, weights = (work.there(image) for image in (field * scale, weights))
    shape = work.frame.padded_shape
    grid = spectra(shape, scan.voxel_size_mm, scan.b0_direction, kernel=options.kernel, device=device)
    return PhaseInput(work, phase, weights, ratios, grid, scan.voxel_size_mm)


def penalties_of(options: Any) -> Penalties:
    """How FANSI splits its problem, by its options or those of FANSI with total generalised variation."""
    return Penalties(
        mu_gradient=options.mu1,
        mu_data=options.mu2,
        nonlinear=options.nonlinear,
        beta=options.beta if options.weak_harmonic else None,
        mu_harmonic=options.mu_h,
    )
