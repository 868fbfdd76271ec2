"""One transform on two machines: scipy and torch agree, for odd sizes too, and threads change no bit."""

import numpy as np
import pytest

from qsmprep.numerics.fourier import (
    fast_shape,
    frequencies,
    half_shape,
    irfftn,
    is_tensor,
    rfftn,
    to_device,
    to_numpy,
)
from qsmprep.numerics.threads import use_threads


@pytest.mark.parametrize("shape", [(8, 9, 10), (7, 6, 5), (11, 4, 9)])
@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_transform_and_back_gives_the_volume(shape, device):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    spectrum = rfftn(to_device(x, device))
    assert tuple(spectrum.shape) == half_shape(shape)
    assert is_tensor(spectrum) == (device != "cpu")
    assert np.allclose(to_numpy(spectrum), np.fft.rfftn(x), atol=1e-3)
    back = to_numpy(irfftn(spectrum, shape))
    assert back.dtype == np.float32
    assert np.allclose(back, x, atol=1e-5)


def test_number_of_threads_changes_no_bit():
    x = np.random.default_rng(0).standard_normal((45, 50, 33)).astype(np.float32)
    results = []
    for threads in (1, 2, 3):
        with use_threads(threads):
            results.append(irfftn(rfftn(x), x.shape))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_fast_shape_never_shrinks_and_has_small_factors():
    for n in range(1, 300):
        (size,) = fast_shape((n,))
        assert n <= size <= 1.25 * n + 1
        for factor in (2, 3, 5, 7, 11):
            while size % factor == 0:
                size //= factor
        assert size == 1


def test_frequencies_are_cycles_per_mm():
    shape, voxel = (20, 6, 9), (0.5, 1.0, 2.0)
    k = frequencies(shape, voxel)
    x = np.arange(20) * 0.5
    wave = np.cos(2 * np.pi * 0.3 * x)[:, None, None] * np.ones(shape)
    strongest = np.unravel_index(np.abs(rfftn(wave)).argmax(), half_shape(shape))
    assert abs(k[0].ravel()[strongest[0]]) == pytest.approx(0.3)
    assert [a.shape for a in k] == [(20, 1, 1), (1, 6, 1), (1, 1, 5)]
    assert k[2].max() == pytest.approx(4 / (9 * 2.0))
