"""The total field and its noise from multi-echo phase, and the weights of the inversion. One method a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.convergence import Convergence
from qsmprep.rooms import make_room

make_room(
    __name__,
    weighted_field="weighted",
    linear_field="linear",
    nonlinear_field="nonlinear",
    increment_to_field="nonlinear",
    data_weights="weights",
)


@dataclass(frozen=True)
class FieldMap:
    """The total field.

    Attributes
    ----------
    field_hz : field (n0, n1, n2) in Hz, 0 outside the mask.
    noise_hz : its standard deviation in Hz, to be expected for a noise of s.d. 1 in the real and imaginary parts of the
        signal, in the magnitude's unit: multiply by the true s.d. for true Hz. Without magnitudes it is that for a
        phase noise of 1 rad. 0 where it is not defined (no signal, outside the mask).
    residual : share of the signal's energy that the fitted model does not explain, or None if no model was fitted.
    convergence : how an iterative fit ended, or None.
    """

    field_hz: np.ndarray
    noise_hz: np.ndarray
    residual: np.ndarray | None = None
    convergence: Convergence | None = None
