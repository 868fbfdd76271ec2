"""A volume cut into overlapping patches, and put together again, where a network cannot take it whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

from qsmprep.nets.spec import NetworkSpec
from qsmprep.numerics.fourier import fast_shape
from qsmprep.numerics.volume import bounding_box

MARGIN = 8  # voxels of zeros around the mask that a network sees at least
FAR = 16  # zeros on each side that keep the periodic images of a dipole field away
OVERLAP = 4  # an edge over this is what two patches share
# Arrays of the first level held at once at the peak, in units of the width, lower levels and workspace included; and
# those of the volume itself: inputs, outputs, and what they are cut from and put into.
LIVE_ARRAYS, WHOLE_ARRAYS = 9, 6
TORCH_GB = 0.33  # of the library itself in a process that runs a network
GIB = 2**30

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Middle:
    """A box of a volume in the middle of a larger array of zeros."""

    full_shape: tuple[int, ...]
    box: Box
    shape: tuple[int, ...]

    @property
    def inner(self) -> Box:
        """Where the box lies in the array."""
        starts = [(n - (s.stop - s.start)) // 2 for n, s in zip(self.shape, self.box, strict=True)]
        return tuple(slice(b, b + s.stop - s.start) for b, s in zip(starts, self.box, strict=True))

    def crop(self, volume: np.ndarray) -> np.ndarray:
        """The box of a volume amid zeros, float32."""
        array = np.zeros(self.shape, np.float32)
        array[self.inner] = volume[self.box]
        return array

    def restore(self, array: np.ndarray) -> np.ndarray:
        """A volume of zeros with the box put back."""
        volume = np.zeros(self.full_shape, np.float32)
        volume[self.box] = array[self.inner]
        return volume


def around_mask(spec: NetworkSpec, mask: np.ndarray) -> Middle:
    """The mask's box with the zeros a network needs: multiples of its poolings, or fast and wide for the transforms.

    A network that is given no mask sees what lies around it instead of zeros, as far as the volume goes.
    """
    if not spec.masked:
        box, margin = bounding_box(mask, MARGIN), 0
    else:
        box, margin = bounding_box(mask), FAR if spec.unrolled else MARGIN
    sizes = tuple(s.stop - s.start + 2 * margin for s in box)
    if spec.unrolled:
        return Middle(mask.shape, box, fast_shape(sizes))
    multiple = spec.multiple
    return Middle(mask.shape, box, tuple(-(-n // multiple) * multiple for n in sizes))


def memory_gb(spec: NetworkSpec, shape: Sequence[int], *, bytes_per_value: int = 4) -> float:
    """Memory in GiB that a network takes for a volume of a shape, its weights and the library apart."""
    arrays = spec.architecture.width * LIVE_ARRAYS / getattr(spec.architecture, "packing", 1) ** 3 + WHOLE_ARRAYS
    return math.prod(shape) * arrays * bytes_per_value / GIB


def patch_edge(spec: NetworkSpec, shape: Sequence[int], asked: int, available_gb: float) -> int:
    """Edge of the patches in voxels; 0 for the whole volume.

    Parameters
    ----------
    spec : of the network.
    shape : of the volume.
    asked : edge wanted by the user, raised to a multiple of the network's poolings; 0: as memory allows.
    available_gb : memory in GiB; 0: no limit.

    Raises
    ------
    ValueError : patches for a network that needs the whole volume.
    """
    if spec.unrolled:
        if asked:
            raise ValueError(f"{spec.name} knows the field of the whole head and cannot work by patches: leave patch "
                             "at 0.")  # fmt: skip
        return 0
    multiple = spec.multiple
    edge = -(-asked // multiple) * multiple
    if not asked:
        if available_gb <= 0 or memory_gb(spec, shape) <= available_gb:
            return 0
        edge = int((available_gb / memory_gb(spec, (1, 1, 1))) ** (1 / 3)) // multiple * multiple
    edge = max(edge, 2 * multiple)
    return 0 if all(n <= edge for n in shape) else edge


def boxes(shape: Sequence[int], edge: int) -> tuple[Box, ...]:
    """Patches of an edge (0: one of the whole volume) that cover a volume, neighbours sharing a quarter or more."""
    if not edge:
        return (tuple(slice(0, n) for n in shape),)
    return tuple(itertools.product(*(_starts(n, min(edge, n)) for n in shape)))


def blending(box: Box, shape: Sequence[int], edge: int) -> np.ndarray:
    """Weight of a patch in the sum, float32.

    Over the overlap with a neighbour it is 0 in the outermost quarter, where the network sees the patch's border, and
    rises linearly to 1 in the half after that.
    """
    weight = np.ones((1, 1, 1), np.float32)
    for axis, (part, n) in enumerate(zip(box, shape, strict=True)):
        length = part.stop - part.start
        ramp = np.ones(length, np.float32)
        overlap = edge // OVERLAP
        rise = np.clip((np.arange(overlap) + 0.5 - overlap / 4) / (overlap / 2), 0, 1)
        if part.start > 0:
            ramp[:overlap] = rise
        if part.stop < n:
            ramp[length - overlap :] = np.minimum(ramp[length - overlap :], rise[::-1])
        weight = weight * ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return weight


def within(box: Box) -> tuple[slice | EllipsisType, ...]:
    """The index of a box in the last axes of an array, whatever axes stand before."""
    return (..., *box)


def _starts(size: int, edge: int) -> list[slice]:
    stride = edge - edge // OVERLAP
    starts = [*range(0, size - edge, stride), size - edge]
    return [slice(start, start + edge) for start in starts]
