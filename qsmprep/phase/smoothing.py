"""Smoothing of wrapped phase inside a mask."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import ComplexImage, DoubleArray, FloatImage, Labels, Mask, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.phasors import angle, conjugate_product, length, product
from qsmprep.numerics.units import TWO_PI
from qsmprep.numerics.volume import bounding_box

FULL_BLOCKS = 200  # enough to tell nine coefficients


def smooth_phase(
    phase: np.ndarray,
    mask: np.ndarray,
    *,
    sigma_mm: float,
    voxel_size_mm: tuple[float, float, float],
    passes: int = 1,
    trend: bool = False,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Masked Gaussian smoothing of phase as a unit phasor, so that wraps do not matter.

    The phasors of the mask are averaged in blocks of up to two thirds of a standard deviation, the blocks are smoothed
    by a normalised convolution, and the result is interpolated back; the width of the Gaussian is reduced by what
    block and interpolation smooth themselves.

    Near the border of the mask the Gaussian is one-sided, which biases a sloping phase. Two remedies: a second-order
    trend, fitted to the phase steps between blocks (so that wraps do not matter), is taken out before smoothing and
    put back; and a pass beyond the first smooths what the passes before left over and adds it.

    Parameters
    ----------
    phase : (n0, n1, n2) float32, rad, wrapped or not.
    mask : (n0, n1, n2) bool; voxels outside do not contribute.
    sigma_mm : standard deviation of the Gaussian.
    passes : 1 or more.
    trend : whether to take out and put back the second-order trend.
    weights : (n0, n1, n2) float32 in [0, 1], how much a voxel of the mask counts; None: all alike.

    Returns
    -------
    (n0, n1, n2) float32 in (-pi, pi]: the smoothed phase, continued around the mask, 0 beyond two standard deviations.

    References
    ----------
    Knutsson & Westin 1993, CVPR:515 (normalised convolution); Tukey 1977, Exploratory Data Analysis (twicing).
    """
    sigma = [sigma_mm / h for h in voxel_size_mm]
    box = bounding_box(mask, tuple(int(np.ceil(2 * s)) for s in sigma))
    factors = tuple(max(1, int(s / 1.5)) for s in sigma)
    inside = np.ascontiguousarray(mask[box] if weights is None else np.where(mask[box], weights[box], 0))
    cropped = np.ascontiguousarray(phase[box])
    shape = tuple(-(-n // f) for n, f in zip(inside.shape, factors, strict=True))
    centre = tuple((n * f - 1) / 2 for n, f in zip(shape, factors, strict=True))
    blocks, coefficients = np.empty((3, *shape), np.float32), np.zeros(9)
    _sum_blocks(cropped, inside, factors, coefficients, centre, blocks)
    if trend:
        coefficients = _fit_trend(blocks, factors)
        _sum_blocks(cropped, inside, factors, coefficients, centre, blocks)

    own = [(f**2 - 1) / 12 + (f**2 / 6 if f > 1 else 0) for f in factors]  # variance of block and interpolation
    widths = [np.sqrt(max(s**2 - v, 0)) / f for s, v, f in zip(sigma, own, factors, strict=True)]
    smoothed = _smooth_blocks(blocks[0] + 1j * blocks[1], blocks[2], widths, passes)

    result = np.zeros(mask.shape, np.float32)
    parts = np.stack([smoothed.real, smoothed.imag]).astype(np.float32)
    result[box] = _interpolate_angle(parts, factors, coefficients, centre, inside.shape)
    return result


def _fit_trend(blocks: FloatImage, factors: tuple[int, ...]) -> DoubleArray:
    """Coefficients of x, y, z, xx, yy, zz, xy, xz, yz (voxels from the centre of the box) of the phase, by the steps
    between neighbouring blocks, each weighted by how coherent the two blocks are.
    """
    phasors = blocks[0] + 1j * blocks[1]
    centres = [(np.arange(n) + 0.5) * f - 0.5 - (n * f - 1) / 2 for n, f in zip(phasors.shape, factors, strict=True)]
    x, y, z = np.meshgrid(*centres, indexing="ij")
    terms = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
    full = blocks[2] == blocks[2].max()  # a block that the mask cuts has its centre elsewhere
    phasors *= full if np.count_nonzero(full) >= FULL_BLOCKS else 1
    normal, right = np.zeros((9, 9)), np.zeros(9)
    for axis in range(3):
        low = tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        products = conjugate_product(phasors[high], phasors[low])
        used = products != 0
        weight = length(products[used]).astype(float)
        steps = np.stack([(term[high] - term[low])[used] for term in terms])
        normal += (steps * weight) @ steps.T
        right += (steps * weight) @ angle(products[used])
    solution = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
    # Rounded, as the last digits of such a system hang on the processor; what is taken out is put back.
    return solution.astype(np.float32).astype(np.float64)


def _smooth_blocks(phasors: ComplexImage, counts: RealArray, widths: list[float], passes: int) -> ComplexImage:
    """Unit phasors of the smoothed blocks; 0 where no voxel of the mask is near."""
    weight = _gaussian(counts, widths)
    near = weight > 1e-6
    total = np.where(near, 1, 0).astype(np.complex64)
    for _ in range(passes):
        left = conjugate_product(phasors, total)
        smoothed = _gaussian(left.real, widths) + 1j * _gaussian(left.imag, widths)
        size = length(smoothed)
        turn = np.zeros_like(smoothed)
        for part, own in ((turn.real, smoothed.real), (turn.imag, smoothed.imag)):
            np.divide(own, size, out=part, where=near & (size > 0))
        total = product(total, turn)
    return total


def _gaussian(volume: RealArray, widths: list[float]) -> RealArray:
    from scipy.ndimage import gaussian_filter

    smoothed: RealArray = gaussian_filter(np.ascontiguousarray(volume), widths, mode="constant", truncate=4.0)
    return smoothed


@jit()
def _polynomial(c: DoubleArray, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    value = x * (c[0] + c[3] * x + c[6] * y + c[7] * z) + y * (c[1] + c[4] * y + c[8] * z) + z * (c[2] + c[5] * z)
    return np.float32(value)


@jit(parallel=True)
def _sum_blocks(
    phase: RealArray,
    inside: Mask | RealArray,
    factors: tuple[int, ...],
    coefficients: DoubleArray,
    centre: tuple[float, ...],
    blocks: RealArray,
) -> None:
    """Sum of cosines and of sines of the phase without trend, and number or weight of voxels, in each block."""
    n0, n1, n2 = phase.shape
    f0, f1, f2 = factors
    c0, c1, c2 = centre
    for a in prange(blocks.shape[1]):
        blocks[:, a] = 0
        for i in range(a * f0, min((a + 1) * f0, n0)):
            for j in range(n1):
                for k in range(n2):
                    weight = inside[i, j, k]
                    if weight:
                        angle = phase[i, j, k] - _polynomial(coefficients, i - c0, j - c1, k - c2)
                        blocks[0, a, j // f1, k // f2] += weight * np.cos(angle)
                        blocks[1, a, j // f1, k // f2] += weight * np.sin(angle)
                        blocks[2, a, j // f1, k // f2] += weight


def _interpolate_angle(
    parts: RealArray,
    factors: tuple[int, ...],
    coefficients: DoubleArray,
    centre: tuple[float, ...],
    shape: tuple[int, ...],
) -> FloatImage:
    """Angle of trilinearly interpolated block phasors at every voxel, with the trend put back."""
    lower, upper, fraction = [], [], []
    for size, factor, count in zip(shape, factors, parts.shape[1:], strict=True):
        position = np.clip((np.arange(size) - (factor - 1) / 2) / factor, 0, count - 1)
        lower.append(position.astype(np.int64))
        upper.append(np.minimum(lower[-1] + 1, count - 1))
        fraction.append((position - lower[-1]).astype(np.float32))
    angle = np.empty(shape, np.float32)
    _angles(parts, tuple(lower), tuple(upper), tuple(fraction), coefficients, centre, angle)
    return angle


@jit(parallel=True)
def _angles(
    parts: RealArray,
    lower: tuple[Labels, ...],
    upper: tuple[Labels, ...],
    fraction: tuple[RealArray, ...],
    coefficients: DoubleArray,
    centre: tuple[float, ...],
    angle: RealArray,
) -> None:
    n0, n1, n2 = angle.shape
    for i in prange(n0):
        row = np.empty((2, parts.shape[3]), np.float32)
        for j in range(n1):
            u, v = fraction[0][i], fraction[1][j]
            for part in range(2):
                for k in range(parts.shape[3]):
                    near = parts[part, lower[0][i], lower[1][j], k] * (1 - v)
                    near += parts[part, lower[0][i], upper[1][j], k] * v
                    far = parts[part, upper[0][i], lower[1][j], k] * (1 - v)
                    far += parts[part, upper[0][i], upper[1][j], k] * v
                    row[part, k] = near * (1 - u) + far * u
            for k in range(n2):
                w = fraction[2][k]
                real = row[0, lower[2][k]] * (1 - w) + row[0, upper[2][k]] * w
                imaginary = row[1, lower[2][k]] * (1 - w) + row[1, upper[2][k]] * w
                if real == 0 and imaginary == 0:  # too far from the mask
                    angle[i, j, k] = 0
                    continue
                trend = _polynomial(coefficients, i - centre[0], j - centre[1], k - centre[2])
                whole = np.arctan2(imaginary, real) + trend
                angle[i, j, k] = whole - np.float32(TWO_PI) * np.rint(whole / np.float32(TWO_PI))
