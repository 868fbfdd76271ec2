"""The symmetric gradient: adjoint, what it is blind to, and one result for numpy and torch."""

import numpy as np
import pytest

from qsmprep.numerics.operators import gradient
from qsmprep.numerics.symmetric_gradient import symmetric_gradient, symmetric_gradient_adjoint, tensor_inner_product

H = (1.0, 0.8, 1.7)


def test_adjoint():
    random = np.random.default_rng(0)
    v, t = random.standard_normal((3, 6, 7, 5)), random.standard_normal((6, 6, 7, 5))
    forward = tensor_inner_product(symmetric_gradient(v, H), t)
    assert forward == pytest.approx(np.vdot(v, symmetric_gradient_adjoint(t, H)), rel=1e-12)


def test_constant_and_rotating_fields_have_none():
    axes = np.meshgrid(*(np.arange(n) * h for n, h in zip((8, 9, 7), H, strict=True)), indexing="ij")
    rotation = np.stack([axes[1] - 2 * axes[2], -axes[0] + axes[2], 2 * axes[0] - axes[1]]) + 3.0
    tensor = symmetric_gradient(rotation, H)
    assert np.abs(tensor[:, 1:-1, 1:-1, 1:-1]).max() < 1e-12


def test_of_a_gradient_is_the_hessian():
    x, y, z = np.meshgrid(*(np.arange(n) * h for n, h in zip((8, 9, 7), H, strict=True)), indexing="ij")
    image = 0.5 * x * x - y * y + 1.5 * z * z + 0.3 * x * y - 0.7 * x * z + 0.2 * y * z
    tensor = symmetric_gradient(gradient(image, H), H)[:, 2:-2, 2:-2, 2:-2]
    expected = np.array([1.0, -2.0, 3.0, 0.3, -0.7, 0.2]).reshape(6, 1, 1, 1)
    np.testing.assert_allclose(tensor, np.broadcast_to(expected, tensor.shape), atol=1e-10)


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    v, t = (random.standard_normal((n, 4, 6, 5)).astype(np.float32) for n in (3, 6))
    np.testing.assert_allclose(symmetric_gradient(torch.as_tensor(v), H), symmetric_gradient(v, H), atol=1e-5)
    adjoint = symmetric_gradient_adjoint(torch.as_tensor(t), H)
    np.testing.assert_allclose(adjoint, symmetric_gradient_adjoint(t, H), atol=1e-5)
