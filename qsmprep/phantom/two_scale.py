"""The field of a head on a fine grid, free of wrap-around, without a doubled fine grid.

The susceptibility is split by a Gaussian. The smooth part makes the far field: it is solved on a coarse grid that holds
the whole head, doubled. The rest has no far field, so that the fine grid needs a narrow margin only. (Ewald's way.)
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import FloatImage, RealArray
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.numerics.jit import jit, prange
from qsmprep.scan import Scan, Triple

WIDTH_MM = 3.0
MARGIN_WIDTHS = 5.0


def gaussian_width_mm(voxel_size_mm: Triple) -> float:
    """Standard deviation of the Gaussian that splits: what the coarse grid can hold."""
    return max(WIDTH_MM, 1.5 * max(voxel_size_mm))


def margin_mm(voxel_size_mm: Triple) -> float:
    """How far the fine grid must reach beyond the voxels whose field is wanted."""
    return MARGIN_WIDTHS * gaussian_width_mm(voxel_size_mm)


def two_scale_field(
    fine: RealArray,
    coarse: RealArray,
    factor: int,
    start: tuple[int, int, int],
    *,
    scan: Scan,
) -> FloatImage:
    """Field of a susceptibility map that is known finely in a part of a coarse grid.

    Parameters
    ----------
    fine : (factor m0, factor m1, factor m2) susceptibility in ppm, margin included.
    coarse : (c0, c1, c2) the same, of the whole head, averaged over the scanner's voxels; 0 beyond it.
    factor : fine voxels to a coarse one, along each axis.
    start : coarse voxel at which `fine` begins.
    scan : size of the coarse voxels in mm, and the direction of B0.

    Returns
    -------
    float32 field in ppm at the fine voxels, averaged over each; within the margin of the rim it is not right.
    """
    width = gaussian_width_mm(scan.voxel_size_mm)
    small = tuple(h / factor for h in scan.voxel_size_mm)
    shape = fast_shape(fine.shape)
    spectrum = rfftn(np.pad(fine, [(0, n - m) for n, m in zip(shape, fine.shape, strict=True)], mode="edge"))
    first, second, third = (_aliases(k, h, width) for k, h in zip(_frequencies(shape, small), small, strict=True))
    _short_range(spectrum, first, second, third, np.asarray(scan.b0_direction) / np.linalg.norm(scan.b0_direction))
    near = irfftn(spectrum, shape)[tuple(slice(0, n) for n in fine.shape)]
    del spectrum
    far = _far_field(coarse, scan, width)
    box = tuple(slice(s, s + n // factor) for s, n in zip(start, fine.shape, strict=True))
    return np.asarray(near + _finer(far[box], factor), np.float32)


def _far_field(coarse: RealArray, scan: Scan, width: float) -> FloatImage:
    """Field of the smoothed map on the coarse grid."""
    shape = fast_shape(tuple(2 * n for n in coarse.shape))
    padded = np.zeros(shape, np.float32)
    padded[tuple(slice(0, n) for n in coarse.shape)] = coarse
    spectrum = rfftn(padded)
    del padded
    spectrum *= dipole_kernel(shape, scan.voxel_size_mm, scan.b0_direction)
    for axis, k in enumerate(_frequencies(shape, scan.voxel_size_mm)):
        spectrum *= (
            np.exp(-0.5 * (k * width) ** 2).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        )
    return irfftn(spectrum, shape)[tuple(slice(0, n) for n in coarse.shape)]


def _finer(image: RealArray, factor: int) -> FloatImage:
    """A smooth image at the voxels of a finer grid, by cubic splines."""
    from scipy.interpolate import make_interp_spline

    if factor == 1:
        return np.asarray(image, np.float32)
    for axis in range(3):
        n = image.shape[axis]
        places = (np.arange(n * factor) + 0.5) / factor - 0.5
        image = make_interp_spline(np.arange(n), image, k=3, axis=axis)(places).astype(np.float32)
    return image


def _frequencies(shape: tuple[int, ...], step: tuple[float, ...]) -> list[np.ndarray]:
    """Wave numbers in rad/mm along each axis of a half spectrum."""
    full = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape, step, strict=True)]
    return [*full[:-1], 2 * np.pi * np.fft.rfftfreq(shape[-1], step[-1])]


def _aliases(k: np.ndarray, step: float, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wave numbers and their nearest aliases, (3, n); a voxel's power spectrum and the Gaussian's spectrum there."""
    aliases = k + np.array([[-1.0], [0.0], [1.0]]) * 2 * np.pi / step
    return aliases, np.sinc(aliases * step / (2 * np.pi)) ** 2, np.exp(-0.5 * (aliases * width) ** 2)


@jit(parallel=True)
def _short_range(spectrum, first, second, third, b):
    """Multiply by the kernel's short-ranged part.

    The kernel is that of cuboids, averaged over cuboids: the mean over the aliases of each frequency, weighted by the
    spectrum of a voxel. It is smooth across the Nyquist frequency whatever the direction of B0, so that nothing rings.
    """
    n0, n1, n2 = spectrum.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                total = weights = 0.0
                for p in range(9):
                    u, v = first[0][p // 3, i], second[0][p % 3, j]
                    square, along = u * u + v * v, u * b[0] + v * b[1]
                    share = first[1][p // 3, i] * second[1][p % 3, j]
                    smooth = first[2][p // 3, i] * second[2][p % 3, j]
                    for q in range(3):
                        w = third[0][q, k]
                        length = square + w * w
                        weight = share * third[1][q, k]
                        weights += weight
                        if length > 0.0:
                            z = along + w * b[2]
                            total += weight * (1.0 / 3.0 - z * z / length) * (1.0 - smooth * third[2][q, k])
                spectrum[i, j, k] *= np.float32(total / weights)
