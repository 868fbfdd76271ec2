"""iHARPERELLA: as HARPERELLA, but the Laplacian outside is the one that leaves the weakest field inside.

Any harmonic function inside can be made by a Laplacian outside, so what is left is orthogonal to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.background import BackgroundRemoval
from qsmprep.background.known_laplacian import KnownLaplacian, filtered, removal_by_outer_laplacian
from qsmprep.numerics.fourier import to_device
from qsmprep.numerics.krylov import Solution, lsmr
from qsmprep.numerics.progress import Progress
from qsmprep.options import option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class IharperellaOptions:
    """Options of iHARPERELLA.

    The fit needs no peeling: a source near the border is met by a Laplacian just outside it.
    """

    tolerance: float = option(1e-3, "relative gradient of the inner field's energy at which to stop", low=0.0, high=1.0)
    max_iterations: int = option(100, "cap on iterations", low=1, high=10000)
    peel_mm: float = option(0.0, "depth to which the mask is peeled first", unit="mm", low=0.0, high=50.0)
    padding_mm: float = option(20.0, "room around the mask's box", unit="mm", low=1.0, high=500.0)


def iharperella(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    echo_spacing_s: float | None = None,
    options: IharperellaOptions = IharperellaOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by the Laplacian outside the mask that leaves the weakest field inside.

    With L the 7-point Laplacian, known in K (the mask without the voxels that have a face neighbour outside), and P
    the periodic Poisson solution, minimises |K P (K L + (1 - K) x)|^2 for x by LSMR. The energy is taken over K and
    not over the mask: the field of the mask's outermost voxels enters only through their neighbours' Laplacian, and
    sources there would else draw the fit away.

    Parameters
    ----------
    total_field : (n0, n1, n2) field, Hz (or ppm without `echo_spacing_s`); values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    echo_spacing_s : time between two echoes; steps between neighbours are then taken modulo 1 / echo_spacing_s.
    options : when to stop, peeling, padding.
    progress : called as progress(iteration, max_iterations).
    device : where the fit runs.

    Returns
    -------
    BackgroundRemoval in the unit of the input; its mask is K.

    Raises
    ------
    ValueError : empty mask, K empty, mismatched shapes, non-finite field in the mask, echo spacing not positive.

    References
    ----------
    Li, NMR Biomed 27:219 (2014), for HARPERELLA and its notation.

    Examples
    --------
    The field of a distant source, here a gradient, goes; so does the border of the mask.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = iharperella(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 1497)
    """

    def weakest_inside(known: KnownLaplacian) -> Solution:
        fit = InnerField(known.poisson, known.exterior, to_device(known.inside.astype(np.float32), device))
        return lsmr(
            fit.forward,
            fit.adjoint,
            -(fit.inside * known.field(known.source)),
            tolerance=options.tolerance,
            max_iterations=options.max_iterations,
            progress=progress,
        )

    return removal_by_outer_laplacian(
        total_field,
        mask,
        weakest_inside,
        "gradient of the inner field's energy, relative to the start",
        scan=scan,
        echo_spacing_s=echo_spacing_s,
        options=options,
        device=device,
    )


@dataclass(frozen=True)
class InnerField:
    """The linear map from a Laplacian outside the known region to the field inside it: K P E x.

    Attributes
    ----------
    poisson : half spectrum of the inverse Laplacian P, real.
    exterior : E, 1 where the Laplacian is sought and 0 elsewhere.
    inside : K, 1 where the field counts and 0 elsewhere.
    """

    poisson: Any
    exterior: Any
    inside: Any

    def forward(self, source: Any) -> Any:
        """K P E x."""
        return self._between(source, self.exterior, self.inside)

    def adjoint(self, field: Any) -> Any:
        """E P K y, the adjoint of `forward`."""
        return self._between(field, self.inside, self.exterior)

    def _between(self, image: Any, start: Any, end: Any) -> Any:
        out = filtered(image * start, self.poisson)
        out *= end
        return out
