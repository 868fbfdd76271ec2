"""The padded input of the methods that fit the phase, and the way back from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import gradient_weights
from qsmprep.inversion.inputs import checked_field, checked_image, radians_per_ppm, reliable, unit_weights
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.fourier import to_device, to_numpy
from qsmprep.numerics.volume import Frame, frame_around


@dataclass(frozen=True)
class PhaseInput:
    """A field as phase, with weights, padded, where the solver runs.

    Attributes
    ----------
    phase : (n0, n1, n2) in rad, 0 outside the mask.
    weights : (n0, n1, n2) data weights in [0, 1], not squared; 0 outside the mask and where the field is unreliable.
    ratios : (3, n0, n1, n2) array, spatial weights of total variation; None: 1.
    inside : (n0, n1, n2) bool, the mask, not padded.
    frame : of the padded grid in the volume.
    scale : rad per ppm.
    """

    phase: Any
    weights: Any
    ratios: np.ndarray | None
    inside: np.ndarray
    frame: Frame
    scale: np.float32

    def inversion(
        self, x: Any, history: list[float], converged: bool, begin: float, monitored: str = "change of chi in percent"
    ) -> Inversion:
        """The result from x in rad on the padded grid; `begin` is when the work began, by time.perf_counter()."""
        chi = self.frame.restore(to_numpy(x)) / self.scale
        chi[~self.inside] = 0
        seconds = time.perf_counter() - begin
        return Inversion(chi, self.inside, Convergence(len(history), converged, tuple(history), monitored, seconds))


def phase_input(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None,
    magnitude: np.ndarray | None,
    relative_residual: np.ndarray | None,
    options: Any,
    device: str,
) -> PhaseInput:
    """Check, scale and crop what FANSI, FANSI-TGV, L1-QSM and NDI take; they explain it. `options` are theirs."""
    field, inside, measured = checked_field(field_ppm, mask)
    magnitude = checked_image(magnitude, inside, "The magnitude")
    weights = checked_image(weights, inside, "The weight image")
    scale = np.float32(radians_per_ppm(centre_frequency_mhz, echo_times_s))
    measured &= reliable(inside, relative_residual, options.residual_threshold)
    weights = unit_weights(magnitude if weights is None else weights, inside) * measured
    frame = frame_around(inside, padding=options.padding)
    ratios, kind = None, getattr(options, "regularisation_weights", "none")
    if kind != "none" and magnitude is not None:
        ratios = gradient_weights(magnitude, inside, voxel_size_mm, kind)
        ratios = np.stack([frame.crop(component, fill=1) for component in ratios])
    phase, weights = (to_device(frame.crop(image), device) for image in (field * scale, weights))
    return PhaseInput(phase, weights, ratios, inside, frame, scale)
