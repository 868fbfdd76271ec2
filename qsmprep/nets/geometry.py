"""Volumes on the grid that a network was trained on, and what it made of them back on their own.

Voxels of another size are resampled in Fourier space, or, where they are finer by a whole number, split into lattices
of the training size that the network sees one by one. B0 is laid along the third axis by reordering the axes and, where
it is tilted against all of them, by a rotation. A volume that fits already is not touched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.threads import thread_count
from qsmprep.scan import Scan, Triple

SAME_SIZE = 0.01  # relative difference of voxel edges that no network notices
NEARLY_WHOLE = 0.05  # relative difference from a whole number of voxels that lattices may have
SMALLEST_TILT_DEGREES = 2.0
TAPER = 0.2  # share of the kept frequencies over which a cut of k-space fades
PADDING = 16  # zeros a Fourier interpolation gets at least, half of them on either side
LONGER = 48  # by how many voxels the padding may grow for a better match of voxel sizes


@dataclass(frozen=True)
class Resampling:
    """Fourier interpolation along one axis: `size` voxels, padded to `padded`, become `count` of `voxel_mm`."""

    size: int
    padded: int
    count: int
    voxel_mm: float

    @property
    def before(self) -> int:
        """Zeros before the first voxel."""
        return (self.padded - self.size) // 2


@dataclass(frozen=True)
class Turn:
    """A rotation about the middle of a volume: the world of the network = `rotation` times that of the scan."""

    rotation: tuple[tuple[float, float, float], ...]
    shape: tuple[int, ...]
    voxel_size_mm: tuple[float, ...]
    turned_shape: tuple[int, ...]
    turned_voxel_mm: float


@dataclass(frozen=True)
class NetworkGrid:
    """How a volume comes to a network's grid.

    Attributes
    ----------
    shape : of the volume.
    order : its axes in the order that the network sees.
    combs : lattices along each of the ordered axes.
    resampling : of each ordered axis of a lattice; None where it stays as it is.
    turn : rotation after that, or None.
    network_shape : of what the network sees.
    scan : geometry of what the network sees.
    """

    shape: tuple[int, ...]
    order: tuple[int, int, int]
    combs: tuple[int, ...]
    resampling: tuple[Resampling | None, ...]
    turn: Turn | None
    network_shape: tuple[int, ...]
    scan: Scan

    @property
    def lattices(self) -> tuple[tuple[int, ...], ...]:
        """First voxel of each lattice, in ordered axes."""
        return tuple(itertools.product(*(range(n) for n in self.combs)))

    @property
    def combs_of_axes(self) -> tuple[int, ...]:
        """Lattices along each axis of the volume, in its own order."""
        return tuple(self.combs[self.order.index(axis)] for axis in range(3))

    @property
    def resampled(self) -> bool:
        """Whether the network sees voxels of another size."""
        return any(self.resampling) or any(n > 1 for n in self.combs)

    @property
    def tilt_degrees(self) -> float:
        """Angle by which volumes are rotated; reordering axes is none."""
        return 0.0 if self.turn is None else math.degrees(math.acos(min(1.0, self.turn.rotation[2][2])))

    def words(self) -> str:
        """What is done to a volume, for a record."""
        done = []
        if self.order != (0, 1, 2):
            done.append(f"axes reordered to {', '.join(str(a + 1) for a in self.order)}")
        if any(n > 1 for n in self.combs):
            done.append(f"{len(self.lattices)} interleaved lattices")
        if any(self.resampling):
            done.append("Fourier interpolation to " + " x ".join(f"{h:.3g}" for h in self._lattice_voxel()) + " mm")
        if self.turn:
            done.append(f"rotation by {self.tilt_degrees:.1f} degrees")
        return "; ".join(done) or "as acquired"

    def there(self, volume: np.ndarray, lattice: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
        """One lattice of a volume as the network sees it, float32; the volume itself where it fits already."""
        seen = volume.transpose(self.order)
        if any(n > 1 for n in self.combs):
            extra = [(0, -size % n) for size, n in zip(seen.shape, self.combs, strict=True)]
            starts = zip(lattice, self.combs, strict=True)
            seen = np.pad(seen, extra)[tuple(slice(first, None, n) for first, n in starts)]
        for axis, step in enumerate(self.resampling):
            if step:
                seen = _interpolated(seen, axis, step)
        if self.turn:
            seen = _turned(seen, self.turn)
        return np.ascontiguousarray(seen, dtype=np.float32)

    def back(self, seen: np.ndarray, onto: np.ndarray, lattice: tuple[int, ...] = (0, 0, 0)) -> None:
        """Write what a network made of a lattice into its voxels of `onto`, a volume of the scan."""
        if self.turn:
            seen = _turned_back(seen, self.turn)
        for axis, step in reversed(list(enumerate(self.resampling))):
            if step:
                seen = _interpolated_back(seen, axis, step)
        view = onto.transpose(self.order)
        target = view[tuple(slice(first, None, n) for first, n in zip(lattice, self.combs, strict=True))]
        target[...] = seen[tuple(slice(0, n) for n in target.shape)]

    def _lattice_voxel(self) -> tuple[float, ...]:
        return self.turn.voxel_size_mm if self.turn else self.scan.voxel_size_mm


def network_grid(
    shape: tuple[int, ...],
    *,
    scan: Scan,
    wanted_mm: float,
    resample: bool = True,
    rotate: bool = True,
    largest_tilt_degrees: float = SMALLEST_TILT_DEGREES,
) -> NetworkGrid:
    """How volumes of a scan come to the grid of a network.

    Parameters
    ----------
    shape : of the volumes.
    scan : voxel size and direction of B0, whose sign does not matter.
    wanted_mm : edge of the cubic voxels of the training data.
    resample : whether voxels of another size are brought to that one.
    rotate : whether B0 is brought to the third axis.
    largest_tilt_degrees : between B0 and the third axis that is left as it is.

    Returns
    -------
    The grid. Along an axis whose voxels are a whole number of times finer, two times or more, lattices are taken; along
    other axes of another size Fourier interpolation.
    """
    b0 = np.asarray(scan.b0_direction, float)
    b0 = b0 / np.linalg.norm(b0)
    order = _order(b0) if rotate else (0, 1, 2)
    b0 = b0[list(order)] if b0[order[2]] >= 0 or not rotate else -b0[list(order)]
    sizes = tuple(shape[axis] for axis in order)
    voxels = tuple(scan.voxel_size_mm[axis] for axis in order)
    combs = tuple(_comb(h, wanted_mm) if resample else 1 for h in voxels)
    sizes = tuple(-(-n // s) for n, s in zip(sizes, combs, strict=True))
    voxels = tuple(h * s for h, s in zip(voxels, combs, strict=True))
    steps = tuple(_step(n, h, wanted_mm) if resample else None for n, h in zip(sizes, voxels, strict=True))
    sizes = tuple(step.count if step else n for n, step in zip(sizes, steps, strict=True))
    voxels = tuple(step.voxel_mm if step else h for h, step in zip(voxels, steps, strict=True))
    turn = None
    if rotate and tilt_degrees(b0) > max(largest_tilt_degrees, SMALLEST_TILT_DEGREES):
        turn = _turn(sizes, voxels, b0, wanted_mm if resample else min(voxels))
        sizes, voxels, b0 = turn.turned_shape, (turn.turned_voxel_mm,) * 3, np.array([0.0, 0.0, 1.0])
    return NetworkGrid(tuple(shape), order, combs, steps, turn, sizes, Scan(_triple(voxels), _triple(b0)))


def tilt_degrees(b0_direction: Triple | np.ndarray) -> float:
    """Angle between B0, whose sign does not matter, and the third axis."""
    b0 = np.asarray(b0_direction, float)
    return math.degrees(math.acos(min(1.0, abs(b0[2]) / float(np.linalg.norm(b0)))))


def rotation_to_third_axis(b0_direction: Triple | np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that turns a direction with a third component above 0 onto the third axis."""
    b0 = np.asarray(b0_direction, float) / np.linalg.norm(b0_direction)
    x, y, cosine = b0[1], -b0[0], b0[2]  # cross product of b0 and the third axis; its third component is 0
    skew = np.array([[0, 0, y], [0, 0, -x], [-y, x, 0]])
    rotation: np.ndarray = np.eye(3) + skew + skew @ skew / (1 + cosine)
    return rotation


def interpolate(volume: np.ndarray, axis: int, count: int) -> np.ndarray:
    """A periodic volume with `count` samples along an axis over the same length, band-limited, middles aligned.

    Where k-space is cut it fades by a Tukey window whose flanks take `TAPER` of the frequencies that are kept.
    """
    import scipy.fft

    size = volume.shape[axis]
    spectrum = np.moveaxis(scipy.fft.rfft(volume, axis=axis, workers=thread_count()), axis, -1)
    kept = min(size, count) // 2 + 1
    index = np.arange(kept)
    factor = np.exp(1j * np.pi * index * (1 / count - 1 / size)) * (count / size)
    if count < size:
        position = np.clip((2 * index / count - (1 - TAPER)) / TAPER, 0, 1)
        factor = factor * (0.5 + 0.5 * np.cos(np.pi * position))
    elif size % 2 == 0 and count > size:
        factor[-1] /= 2  # the highest frequency stands for both of its signs
    widened = np.zeros((*spectrum.shape[:-1], count // 2 + 1), spectrum.dtype)
    widened[..., :kept] = spectrum[..., :kept] * factor.astype(spectrum.dtype)
    return np.moveaxis(scipy.fft.irfft(widened, n=count, axis=-1, workers=thread_count()), -1, axis)


def _triple(values: Iterable[float]) -> Triple:
    x, y, z = values
    return float(x), float(y), float(z)


def _order(b0: np.ndarray) -> tuple[int, int, int]:
    """Axes rotated cyclically, which mirrors nothing, so that the one nearest to B0 comes third."""
    size = np.abs(b0)
    nearest = 2 if size[2] >= size.max() - 1e-6 else int(np.argmax(size))
    return ((0, 1, 2), (1, 2, 0), (2, 0, 1))[(nearest + 1) % 3]


def _comb(voxel_mm: float, wanted_mm: float) -> int:
    factor = wanted_mm / voxel_mm
    whole = round(factor)
    return whole if factor >= 1.5 and abs(factor - whole) <= NEARLY_WHOLE * factor else 1


def _step(size: int, voxel_mm: float, wanted_mm: float) -> Resampling | None:
    if abs(voxel_mm - wanted_mm) <= SAME_SIZE * wanted_mm:
        return None
    lengths = range(size + PADDING, size + PADDING + LONGER)
    padded = min(lengths, key=lambda n: (round(abs(n * voxel_mm / wanted_mm - round(n * voxel_mm / wanted_mm)), 3), n))
    count = max(2, round(padded * voxel_mm / wanted_mm))
    return Resampling(size, padded, count, padded * voxel_mm / count)


def _interpolated(volume: np.ndarray, axis: int, step: Resampling) -> np.ndarray:
    widths = [(0, 0)] * 3
    widths[axis] = (step.before, step.padded - step.size - step.before)
    return interpolate(np.pad(np.asarray(volume, np.float32), widths), axis, step.count)


def _interpolated_back(volume: np.ndarray, axis: int, step: Resampling) -> np.ndarray:
    whole = np.moveaxis(interpolate(volume, axis, step.padded), axis, 0)
    return np.moveaxis(whole[step.before : step.before + step.size], 0, axis)


def _turn(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...], b0: np.ndarray, wanted_mm: float) -> Turn:
    rotation = rotation_to_third_axis(b0)
    lengths = np.abs(rotation) @ (np.asarray(shape) * np.asarray(voxel_size_mm))
    turned = tuple(math.ceil(length / wanted_mm) for length in lengths)
    return Turn(tuple(map(tuple, rotation.tolist())), tuple(shape), tuple(voxel_size_mm), turned, float(wanted_mm))


def _turned(volume: np.ndarray, turn: Turn) -> np.ndarray:
    matrix = np.array(turn.rotation).T * turn.turned_voxel_mm / np.asarray(turn.voxel_size_mm)[:, None]
    return _spline(volume, matrix, turn.turned_shape)


def _turned_back(volume: np.ndarray, turn: Turn) -> np.ndarray:
    matrix = np.array(turn.rotation) * np.asarray(turn.voxel_size_mm)[None, :] / turn.turned_voxel_mm
    return _spline(volume, matrix, turn.shape)


def _spline(volume: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values at matrix times an index, both counted from the middle, by cubic splines; 0 outside."""
    from scipy.ndimage import affine_transform

    middle, wanted = (np.asarray(volume.shape) - 1) / 2, (np.asarray(shape) - 1) / 2
    turned: np.ndarray = affine_transform(
        np.asarray(volume, np.float32), matrix, offset=middle - matrix @ wanted, output_shape=shape, order=3,
        mode="grid-constant",
    )  # fmt: skip
    return turned
