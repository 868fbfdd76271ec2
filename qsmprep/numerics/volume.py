"""Cropping a volume to what matters and padding it to a fast size, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qsmprep.numerics.fourier import fast_shape

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Frame:
    """A box of a volume, zero-padded at the end of each axis to `padded_shape`.

    Attributes
    ----------
    full_shape : shape of the whole volume.
    box : one slice an axis, the part that is kept.
    padded_shape : shape after padding (every axis >= the box).
    """

    full_shape: tuple[int, ...]
    box: tuple[slice, ...]
    padded_shape: tuple[int, ...]

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the box lies inside the padded array."""
        return tuple(slice(0, s.stop - s.start) for s in self.box)

    def crop(self, array: NDArray[Kind], fill: float = 0) -> NDArray[Kind]:
        """The box of `array` inside a padded array of `fill`, same dtype."""
        padded = np.full(self.padded_shape, fill, dtype=array.dtype)
        padded[self.inner] = array[self.box]
        return padded

    def restore(self, padded: NDArray[Kind], fill: float = 0) -> NDArray[Kind]:
        """A whole volume of `fill` with the box put back from a padded array."""
        array = np.full(self.full_shape, fill, dtype=padded.dtype)
        array[self.box] = padded[self.inner]
        return array


def bounding_box(mask: NDArray[Any], margin: int | tuple[int, ...] = 0) -> tuple[slice, ...]:
    """Slices of the smallest box around the mask's voxels, grown by `margin` voxels inside the volume.

    Raises ValueError for an empty mask.
    """
    margins = margin if isinstance(margin, tuple) else (margin,) * mask.ndim
    slices = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if inside.size == 0:
            raise ValueError("The mask is empty: no voxel to work on.")
        slices.append(slice(max(0, inside[0] - margins[axis]), min(mask.shape[axis], inside[-1] + 1 + margins[axis])))
    return tuple(slices)


def frame_around(mask: NDArray[Any], *, margin: int | tuple[int, ...] = 0, padding: int | tuple[int, ...] = 0) -> Frame:
    """A frame around the mask: `margin` voxels of the volume kept, then `padding` zeros, then a fast FFT size."""
    box = bounding_box(mask, margin)
    paddings = padding if isinstance(padding, tuple) else (padding,) * mask.ndim
    padded = fast_shape(tuple(s.stop - s.start + p for s, p in zip(box, paddings, strict=True)))
    return Frame(tuple(mask.shape), box, padded)
