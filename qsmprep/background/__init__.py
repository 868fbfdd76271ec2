"""Background field removal: from the total field to the tissue field. One method a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Fact, Warning
from qsmprep.numerics.convergence import Convergence
from qsmprep.rooms import make_room

make_room(__name__)


@dataclass(frozen=True)
class BackgroundRemoval:
    """Tissue field (unit of the input, 0 outside), where it is valid, how the iteration ended, warnings, facts."""

    tissue_field: np.ndarray
    mask: np.ndarray
    convergence: Convergence | None = None
    warnings: tuple[Warning, ...] = ()
    facts: tuple[Fact, ...] = ()


def check_background_input(total_field: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The field as C-contiguous float32 and the mask as bool.

    Raises ValueError for mismatched shapes, an empty mask, or a field that is not finite inside the mask.
    """
    field, inside = np.ascontiguousarray(total_field, np.float32), np.asarray(mask) > 0
    if field.ndim != 3 or field.shape != inside.shape:
        raise ValueError(f"Field and mask must be volumes of one shape; got {field.shape} and {inside.shape}.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to remove the background from.")
    wrong = int(np.count_nonzero(~np.isfinite(field[inside])))
    if wrong:
        raise ValueError(f"The total field is not finite in {wrong} voxels of the mask: take them out of the mask.")
    return field, inside
