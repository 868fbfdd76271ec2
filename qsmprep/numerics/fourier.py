"""The one place that chooses the Fourier transform: scipy on the CPU, torch on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsmprep.numerics.arrays import Array, DoubleArray
from qsmprep.numerics.threads import thread_count


def is_tensor(array: Array) -> bool:
    """Whether an array is a torch tensor, asked without importing torch."""
    return type(array).__module__.split(".")[0] == "torch"


def to_device(array: NDArray[Any], device: str = "cpu") -> Array:
    """The array where a solver shall run: itself on the CPU, a torch tensor on another device."""
    if device == "cpu":
        return np.ascontiguousarray(array)
    import torch

    return torch.as_tensor(np.ascontiguousarray(array), device=device.removeprefix("torch:"))


def to_numpy(array: Array) -> NDArray[Any]:
    """A numpy array of what a solver made, wherever it ran."""
    return array.detach().cpu().numpy() if is_tensor(array) else np.asarray(array)


def fast_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Smallest shape >= `shape` whose axes are products of 2, 3 and 5, so that its FFT is fast.

    The same rule holds for every axis, so that a volume with its axes in another order is padded to the same size.
    """
    from scipy.fft import next_fast_len

    return tuple(next_fast_len(int(n), real=True) for n in shape)


def rfftn(x: Array) -> Array:
    """Real-to-complex transform over all axes; the last axis holds the half spectrum."""
    if is_tensor(x):
        import torch

        return torch.fft.rfftn(x)
    import scipy.fft

    return scipy.fft.rfftn(x, workers=thread_count())


def irfftn(spectrum: Array, shape: tuple[int, ...]) -> Array:
    """Inverse of `rfftn` for a real array of `shape`. The spectrum's memory may be overwritten."""
    if is_tensor(spectrum):
        import torch

        return torch.fft.irfftn(spectrum, s=shape)
    import scipy.fft

    return scipy.fft.irfftn(spectrum, s=shape, overwrite_x=True, workers=thread_count())


def half_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of `rfftn` of an array of `shape`."""
    return (*shape[:-1], shape[-1] // 2 + 1)


def indices(shape: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Integer frequency indices n_d of the half spectrum, FFT order, shaped to broadcast over the grid."""
    grids = []
    for axis, size in enumerate(shape):
        index = np.arange(size // 2 + 1) if axis == len(shape) - 1 else np.fft.fftfreq(size, 1.0 / size)
        grids.append(index.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return tuple(grids)


def frequencies(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...]) -> tuple[DoubleArray, ...]:
    """Spatial frequencies k_d = n_d / (N_d h_d) in cycles/mm of the half spectrum, shaped to broadcast."""
    return tuple(n / (size * h) for n, size, h in zip(indices(shape), shape, voxel_size_mm, strict=True))
