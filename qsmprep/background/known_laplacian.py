"""The Laplacian of a field inside a mask, and the tissue field once the Laplacian outside is chosen.

The Laplacian of the background field is 0 inside the mask, so the one measured there is that of the tissue field. Only
differences between neighbours enter it, so that wraps left in the field do no harm. HARPERELLA and iHARPERELLA differ
in how they choose the Laplacian outside, and in nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.background.multigrid import interior, peeled
from qsmprep.numerics.arrays import Mask, RealArray, Scalar
from qsmprep.numerics.convergence import Convergence, ended
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import Solution
from qsmprep.numerics.operators import laplacian_spectrum
from qsmprep.numerics.volume import Frame, frame_around
from qsmprep.options import check_options
from qsmprep.scan import Scan


class GridOptions(Protocol):
    """What the options of both methods say of the grid: how deep the mask is peeled, and the room around its box."""

    @property
    def peel_mm(self) -> float:
        """Depth to which the mask is peeled before, in mm."""

    @property
    def padding_mm(self) -> float:
        """GridOptions around the mask's box, in mm."""


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
        return filtered(source, self.poisson)

    def removal(self, exterior_source: Any, convergence: Convergence) -> BackgroundRemoval:
        """The tissue field for a Laplacian found outside."""
        field = to_numpy(self.field(self.source + self.exterior * exterior_source))
        tissue = self.frame.restore(np.where(self.inside, field, np.float32(0)))
        return BackgroundRemoval(tissue, self.frame.restore(self.inside), convergence)


def removal_by_outer_laplacian(
    total_field: np.ndarray,
    mask: np.ndarray,
    choose: Callable[[KnownLaplacian], Solution],
    monitored: str,
    *,
    scan: Scan,
    echo_spacing_s: float | None,
    options: GridOptions,
    device: str,
) -> BackgroundRemoval:
    """The tissue field whose Laplacian is the measured one inside, and the one that a method chooses outside.

    Parameters
    ----------
    total_field, mask, scan, echo_spacing_s, device : as the methods take them.
    choose : the method: from what is known to the Laplacian outside, which counts where `exterior` is 1.
    monitored : what the history of its solution holds, in words.
    options : of the method.

    Raises
    ------
    ValueError : options out of range, and what `known_laplacian` raises.
    """
    check_options(options)
    started = time.perf_counter()
    known = known_laplacian(
        total_field,
        mask,
        scan.voxel_size_mm,
        echo_spacing_s=echo_spacing_s,
        peel_mm=options.peel_mm,
        padding_mm=options.padding_mm,
        device=device,
    )
    solution = choose(known)
    return known.removal(solution.x, ended(started, solution.history, solution.converged, monitored=monitored))


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

    Raises ValueError for an empty mask, shapes that differ, a field that is not finite in the mask, an echo spacing
    that is not positive, or a mask that peeling leaves nothing of.
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
    w0, w1, w2 = (1 / float(h) ** 2 for h in voxel_size_mm)
    _laplacian(frame.crop(total_field), inside, w0, w1, w2, period, source)
    spectrum = laplacian_spectrum(frame.padded_shape, voxel_size_mm)
    spectrum[0, 0, 0] = np.inf  # the mean of a field does not show in its Laplacian
    exterior = (~inside).astype(np.float32)
    return KnownLaplacian(frame, inside, *(to_device(x, device) for x in (source, exterior, -1 / spectrum)))


def filtered(image: Any, spectrum: Any, twice: bool = False) -> Any:
    """An image multiplied by a real half spectrum in Fourier space, once or twice."""
    transformed = rfftn(image)
    transformed *= spectrum
    if twice:
        transformed *= spectrum
    return irfftn(transformed, tuple(image.shape))


@jit(parallel=True)
def _laplacian(
    field: RealArray,
    inside: Mask,
    w0: Scalar,
    w1: Scalar,
    w2: Scalar,
    period: Scalar,
    out: RealArray,
) -> None:
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
