"""Balls of voxels: where they fit into a mask, the mean over them, and the division that undoes its subtraction.

A harmonic field equals its mean over any ball. Voxels whose centre lies in the ball have that property for the
polynomials up to degree 3 when they are cubes; when they are not, the ball is longer along one axis than along
another and a second-order shim would look like tissue. `ball_weights` therefore weights them, by no more than it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qsmprep.background import check_background_input
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels, Mask, RealArray, Scalar
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.volume import Frame, frame_around
from qsmprep.scan import Triple

UNASSIGNED = 255
ON_THE_SPHERE = 1 + 1e-6  # a voxel centre on the radius counts as inside, whatever its rounding; as in sphere_kernel
NEWTON_STEPS = 30  # five suffice
CHEAP_COLUMNS = 60  # a ball of so many columns of voxels (radius 4) is summed faster than it is transformed


@dataclass(frozen=True)
class BallProblem:
    """A field to be filtered by one ball, cropped to its mask.

    Attributes
    ----------
    frame : box of the mask, with room for the ball at its ends where asked for.
    field : padded float32 field without its mean, which is harmonic; 0 outside the mask.
    valid : padded bool, where the whole ball lies in the mask.
    ball : the filter.
    """

    frame: Frame
    field: np.ndarray
    valid: np.ndarray
    ball: Ball

    def restore(self, tissue: Any) -> tuple[np.ndarray, np.ndarray]:
        """Tissue field, 0 where it is not valid, and mask, both of the whole volume."""
        return self.frame.restore(np.where(self.valid, to_numpy(tissue), np.float32(0))), self.frame.restore(self.valid)


def ball_problem(
    method: str,
    total_field: np.ndarray,
    mask: np.ndarray,
    voxel_size_mm: tuple[float, float, float],
    radius_mm: float,
    *,
    pad: bool,
    device: str = "cpu",
) -> BallProblem:
    """Check the input of a method with one radius and crop it.

    Parameters
    ----------
    method : name for error messages.
    total_field, mask : (n0, n1, n2).
    voxel_size_mm : edge lengths in mm.
    radius_mm : radius of the ball.
    pad : leave room of one radius, so that periodic filters do not reach around.
    device : where the filter runs.

    Raises
    ------
    ValueError : bad field or mask, a radius below the longest voxel edge, or one whose ball fits nowhere in the mask.
    """
    field, inside = check_background_input(total_field, mask)
    longest = max(voxel_size_mm)
    if radius_mm**2 * ON_THE_SPHERE < longest**2:
        raise ValueError(
            f"{method}: a ball of radius {radius_mm:g} mm is flat, the longest voxel edge being {longest:g} mm; "
            f"choose a radius of at least {longest:g} mm."
        )
    reach = tuple(voxels + 1 for voxels in reach_of(radius_mm, voxel_size_mm))
    frame = frame_around(inside, padding=reach if pad else 0)
    inside, field = frame.crop(inside), frame.crop(field)
    valid = np.zeros_like(inside)
    valid[frame.inner] = largest_sphere(inside[frame.inner], np.array([radius_mm]), voxel_size_mm) == 0
    if not valid.any():
        raise ValueError(_no_fit(method, inside[frame.inner], voxel_size_mm, radius_mm, longest))
    field = np.where(inside, field - field[inside].mean(dtype=np.float64), 0).astype(np.float32)
    return BallProblem(frame, field, valid, Ball(voxel_size_mm, radius_mm, frame.padded_shape, device))


def _no_fit(method: str, inside: Mask, voxel_size_mm: Triple, radius_mm: float, longest: float) -> str:
    from scipy.ndimage import distance_transform_edt

    deepest = distance_transform_edt(np.pad(inside, 1), sampling=voxel_size_mm).max()
    largest = np.floor(100 * deepest / np.sqrt(ON_THE_SPHERE) - 1e-3) / 100
    start = f"{method}: no ball of radius {radius_mm:g} mm fits anywhere into the mask"
    if largest < longest:
        return f"{start}, and none of any other radius either: it is thinner than a ball of one voxel each way."
    return f"{start}; the largest radius that fits is {largest:g} mm."


class Ball:
    """The mean over a ball of voxels as a linear operator on (n0, n1, n2) arrays.

    Parameters
    ----------
    voxel_size_mm, radius_mm : geometry.
    shape : of the arrays, no edge shorter than the ball.
    device : where the arrays live.
    """

    def __init__(
        self,
        voxel_size_mm: Triple,
        radius_mm: float,
        shape: tuple[int, ...],
        device: str = "cpu",
    ) -> None:
        self.weights = ball_weights(voxel_size_mm, radius_mm)
        self.shape, self.device = tuple(shape), device

    @cached_property
    def filter(self) -> Any:
        """Half spectrum of f - S f on the periodic grid of `shape`: real, 0 at frequency 0."""
        kernel = np.zeros(self.shape, np.float32)
        reach = [n // 2 for n in self.weights.shape]
        place = np.ix_(*(np.arange(-r, r + 1) % n for r, n in zip(reach, self.shape, strict=True)))
        kernel[place] = self.weights
        spectrum = 1 - rfftn(kernel).real
        spectrum[0, 0, 0] = 0
        return to_device(spectrum, self.device)

    @cached_property
    def _columns(self) -> tuple[Labels, FloatImage, FloatImage]:
        return ball_columns(self.weights)

    def subtract_mean(self, x: Any, out: Any = None) -> Any:
        """x - S x where the ball lies within the array; elsewhere what lies beyond is zeros, or periodic."""
        if is_tensor(x) or len(self._columns[0]) > CHEAP_COLUMNS:
            spectrum = rfftn(x)
            spectrum *= self.filter
            return irfftn(spectrum, self.shape)
        out = np.empty_like(x) if out is None else out
        _subtract_ball_means(x, *self._columns, out)
        return out


def reach_of(radius_mm: float, voxel_size_mm: Triple) -> tuple[int, ...]:
    """Voxels from the centre that a ball reaches along each axis.

    An edge that rounding has made a ten-millionth longer, as affines of tilted slabs do, does not cost a voxel.

    >>> reach_of(6.0, (3.0, 3.0000001, 3.01))
    (2, 2, 1)
    """
    return tuple(int(radius_mm * np.sqrt(ON_THE_SPHERE) / h) for h in voxel_size_mm)


def ball_weights(voxel_size_mm: Triple, radius_mm: float) -> DoubleArray:
    """Weights, summing to 1, of the voxels whose centre lies within a radius: float64, odd shape, ball in the middle.

    They are equal for cubic voxels. Otherwise they are the ones closest to equal, in relative entropy, whose mean
    squares of x, y and z agree: products exp(a x^2) exp(b y^2) exp(c z^2) with a + b + c = 0.
    """
    reach = reach_of(radius_mm, voxel_size_mm)
    squares = [
        ((np.arange(-r, r + 1) * h) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (r, h) in enumerate(zip(reach, voxel_size_mm, strict=True))
    ]
    inside: Mask = np.asarray(sum(squares) <= radius_mm**2 * ON_THE_SPHERE)
    weights: DoubleArray = inside / np.count_nonzero(inside)
    if min(reach) == 0 or len(set(voxel_size_mm)) == 1:
        return weights
    moments = np.stack([np.broadcast_to(s, inside.shape)[inside] for s in squares]) / radius_mm**2
    moments -= moments.mean(axis=0)
    exponents, w = np.zeros(3), weights[inside]
    for _ in range(NEWTON_STEPS):
        mean = moments @ w
        if np.abs(mean).max() < 1e-12:
            break
        curvature = (moments * w) @ moments.T - np.outer(mean, mean)
        step = np.linalg.lstsq(curvature, mean, rcond=1e-9)[0]
        exponents -= step / max(1.0, np.abs(step).max())
        w = np.exp(exponents @ moments)
        w /= w.sum()
    weights[inside] = w
    return weights


def ball_columns(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball as columns along the last axis: (n, 3) steps and half length, (n,) weights, factors along the column."""
    reach = [n // 2 for n in weights.shape]
    along = weights[reach[0], reach[1], reach[2] :] / weights[reach[0], reach[1], reach[2]]
    middle = weights[..., reach[2]]
    first, second = np.nonzero(middle)
    half = np.count_nonzero(weights[first, second], axis=1) // 2
    columns = np.column_stack([first - reach[0], second - reach[1], half]).astype(np.int32)
    return columns, middle[first, second].astype(np.float32), along.astype(np.float32)


def deconvolve(filtered: Any, weight: Any, threshold: float) -> Any:
    """Divide by the filter of f - S f, half spectrum `weight`; frequencies where it is weaker are cut to 0."""
    kept = abs(weight) >= max(threshold, 1e-6)  # the mean leaves a constant alone: the filter is 0 there
    divisor = weight + 0
    divisor[~kept] = 1
    return irfftn(rfftn(filtered) * (kept / divisor), tuple(filtered.shape))


def largest_sphere(mask: np.ndarray, radii: np.ndarray, voxel_size_mm: tuple[float, float, float]) -> np.ndarray:
    """Index of the largest of descending radii whose sphere around each voxel lies in the mask; else UNASSIGNED.

    Voxels beyond the volume's end count as outside.
    """
    reach = [voxels + 1 for voxels in reach_of(float(radii[0]), voxel_size_mm)]
    edges = [np.float32(h) for h in voxel_size_mm]
    squared = np.empty(mask.shape, np.float32)
    _squared_distance_in_rows(mask, edges[2], reach[2], squared)
    nearest = np.empty_like(squared)
    _squared_distance_in_planes(squared, edges[1], reach[1], nearest)
    # Moving the first axis into the middle lets the same loop serve it.
    _squared_distance_in_planes(nearest.swapaxes(0, 1), edges[0], reach[0], squared.swapaxes(0, 1))
    limits = (radii**2 * ON_THE_SPHERE).astype(np.float32)
    level = (limits.size - np.searchsorted(limits[::-1], squared)).astype(np.uint8)
    level[level == limits.size] = UNASSIGNED
    return level


@jit(parallel=True)
def _squared_distance_in_rows(mask: Mask, edge: Scalar, reach: int, out: RealArray) -> None:
    n0, n1, n2 = mask.shape
    for a in prange(n0):
        for b in range(n1):
            steps = 0
            for c in range(n2):
                steps = min(steps + 1, reach) if mask[a, b, c] else 0
                out[a, b, c] = steps
            steps = 0
            for c in range(n2 - 1, -1, -1):
                steps = min(steps + 1, reach) if mask[a, b, c] else 0
                nearest = min(out[a, b, c], np.float32(steps)) * edge
                out[a, b, c] = nearest * nearest


@jit(parallel=True)
def _squared_distance_in_planes(rows: RealArray, edge: Scalar, reach: int, out: RealArray) -> None:
    """Lower envelope along the middle axis; beyond the volume's end lies outside."""
    n0, n1, n2 = rows.shape
    for a in prange(n0):
        for b in range(n1):
            border = (min(b, n1 - 1 - b) + 1) * edge
            for c in range(n2):
                out[a, b, c] = min(rows[a, b, c], border * border)
            for other in range(max(0, b - reach), min(n1, b + reach + 1)):
                away = (other - b) * edge
                add = away * away
                for c in range(n2):
                    out[a, b, c] = min(out[a, b, c], rows[a, other, c] + add)


@jit(parallel=True)
def _subtract_ball_means(x: RealArray, columns: Labels, weight: RealArray, along: RealArray, out: RealArray) -> None:
    """Columns of one half length are added first, in layers; each layer is then spread along the last axis once.

    The inner loops run over slices from 0, which is what lets them be vectorised.
    """
    n0, n1, n2 = x.shape
    reach = along.size - 1
    for a in prange(n0):
        layers = np.zeros((reach + 1, n2 + 2 * reach), np.float32)
        for b in range(n1):
            layers[:, reach : reach + n2] = 0
            for m in range(weight.size):
                i = a + columns[m, 0]
                j = b + columns[m, 1]
                if i < 0 or j < 0 or i >= n0 or j >= n1:
                    continue
                w, row, layer = weight[m], x[i, j], layers[columns[m, 2], reach : reach + n2]
                for c in range(n2):
                    layer[c] += w * row[c]
            result, row = out[a, b], x[a, b]
            layer = layers[reach, reach : reach + n2]
            for k in range(reach - 1, -1, -1):
                inner = layers[k, reach : reach + n2]
                for c in range(n2):
                    inner[c] += layer[c]
                layer = inner
            for c in range(n2):
                result[c] = row[c] - along[0] * layer[c]
            for k in range(1, reach + 1):
                w, left, right = along[k], layers[k, reach - k :], layers[k, reach + k :]
                for c in range(n2):
                    result[c] -= w * (left[c] + right[c])
