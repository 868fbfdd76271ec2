"""Phase unwrapping: from phase in (-pi, pi] to phase without jumps. One method a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.rooms import make_room

make_room(__name__)


@dataclass(frozen=True)
class Unwrapping:
    """Unwrapped phase and how far it can be trusted.

    Attributes
    ----------
    phase : (n_echo, n0, n1, n2) float32 in rad, 0 outside the mask; (n0, n1, n2) when one 3-D image came in.
    quality : (n0, n1, n2) float32 in [0, 1], mean weight of the six edges of a voxel (1 is best), 0 outside the mask.
    isolated_voxels : voxels of the mask that no neighbour could reach; they keep their wrapped value.
    regions : parts of the image that were unwrapped independently of each other.
    """

    phase: np.ndarray
    quality: np.ndarray
    isolated_voxels: int
    regions: int = 1
