"""Background field removal: from the total field to the tissue field. One method a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.convergence import Convergence


@dataclass(frozen=True)
class BackgroundRemoval:
    """Tissue field (unit of the input, 0 outside), the mask on which it is valid, and how the iteration ended."""

    tissue_field: np.ndarray
    mask: np.ndarray
    convergence: Convergence | None = None
