"""Every linear operator has the adjoint it claims; spherical means leave harmonic functions alone."""

import numpy as np
import pytest
import torch

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_numpy
from qsmprep.numerics.operators import gradient, gradient_adjoint, laplacian_spectrum, sphere_kernel

VOXEL = (1.0, 1.5, 3.0)
SHAPES = [(8, 10, 12), (7, 9, 11), (1, 4, 5)]


def random(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def dot(a, b):
    return float(np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "accuracy"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_gradient_and_its_adjoint(shape, dtype, accuracy):
    x, y = random(shape, 1, dtype), random((3, *shape), 2, dtype)
    assert gradient(x, VOXEL).dtype == dtype
    assert dot(gradient(x, VOXEL), y) == pytest.approx(dot(x, gradient_adjoint(y, VOXEL)), rel=accuracy, abs=accuracy)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_same_on_torch(shape):
    x, y = random(shape, 1), random((3, *shape), 2)
    assert np.allclose(to_numpy(gradient(torch.as_tensor(x), VOXEL)), gradient(x, VOXEL), atol=1e-12)
    assert np.allclose(to_numpy(gradient_adjoint(torch.as_tensor(y), VOXEL)), gradient_adjoint(y, VOXEL), atol=1e-12)


def test_gradient_of_a_ramp_is_its_slope_per_mm():
    ramp = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 5, 4)).copy()
    g = gradient(ramp, (2.0, 1.0, 1.0))
    assert np.allclose(g[0, :-1], 0.5)
    assert np.allclose(g[1:], 0)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_laplacian_spectrum_is_the_gradient_twice(shape):
    x = random(shape)
    twice = gradient_adjoint(gradient(x, VOXEL), VOXEL)
    assert np.allclose(irfftn(rfftn(x) * laplacian_spectrum(shape, VOXEL), shape), twice, atol=1e-5)


@pytest.mark.parametrize("kind", ["continuous", "integrated", "discrete"])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_dipole_convolution_is_its_own_adjoint(kind, shape):
    kernel = dipole_kernel(shape, VOXEL, (0.3, -0.5, 0.7), kind=kind).astype(np.float64)
    # The half spectrum of an odd or even last axis holds some frequencies once and some twice; the planes it
    # holds twice must be symmetric for this to be exact, so it is a test of the kernel too.
    x, y = random(shape, 1), random(shape, 2)
    forward, adjoint = irfftn(rfftn(x) * kernel, shape), irfftn(rfftn(y) * kernel, shape)
    assert dot(forward, y) == pytest.approx(dot(x, adjoint), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("radius", [1.0, 3.0, 5.5])
def test_spherical_mean_of_harmonic_functions_is_their_value(radius):
    shape, voxel = (33, 29, 31), (1.0, 1.5, 1.0)
    x, y, z = np.meshgrid(*((np.arange(n) - n // 2) * h for n, h in zip(shape, voxel, strict=True)), indexing="ij")
    inner = (slice(8, -8),) * 3
    kernel = sphere_kernel(shape, voxel, radius).astype(np.float64)
    for harmonic in (1 + 0 * x, x, y, z, x * y, x * z, y * z):
        smooth = irfftn(rfftn(harmonic) * kernel, shape)
        assert np.allclose(smooth[inner], harmonic[inner], atol=1e-5 * np.abs(harmonic).max())


def test_spherical_mean_of_quadratics_is_exact_for_cubic_voxels():
    shape = (31, 31, 31)
    x, y, z = np.meshgrid(*(np.arange(n) - 15.0 for n in shape), indexing="ij")
    kernel = sphere_kernel(shape, (1, 1, 1), 5).astype(np.float64)
    for harmonic in (x**2 - y**2, 2 * z**2 - x**2 - y**2):
        smooth = irfftn(rfftn(harmonic) * kernel, shape)
        assert np.allclose(smooth[8:-8, 8:-8, 8:-8], harmonic[8:-8, 8:-8, 8:-8], atol=1e-4)


def test_sphere_below_every_voxel_size_is_the_identity():
    assert np.allclose(sphere_kernel((6, 7, 8), (2, 2, 3), 1.9), 1)


def test_sphere_follows_millimetres_on_anisotropic_voxels():
    ball = irfftn(sphere_kernel((15, 15, 15), (1, 1, 3), 3).astype(complex), (15, 15, 15))
    assert ball[3, 0, 0] > 1e-4 and ball[0, 0, 1] > 1e-4
    assert abs(ball[4, 0, 0]) < 1e-6 and abs(ball[0, 0, 2]) < 1e-6 and abs(ball[1, 0, 1]) < 1e-6
