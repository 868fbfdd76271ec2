"""Losses vanish at the truth and measure what they say."""

import pytest
import torch

from qsmprep.nets.losses import gradient_loss, source_model_loss
from qsmprep.nets.unrolled import convolve
from qsmprep.numerics.dipole import dipole_kernel

SHAPE = (8, 9, 10)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 1, *SHAPE)


@pytest.fixture
def dipole():
    return torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)))


def test_the_gradient_loss_does_not_see_a_constant(images):
    assert gradient_loss(images + 3, images) < 1e-5
    assert gradient_loss(2 * images, images) > 0.1


def test_the_gradient_loss_of_a_step_is_its_rise_over_the_distances():
    step = torch.zeros(1, 1, 4, 3, 3)
    step[:, :, 2:] = 1.0
    # One of the two inner voxels has nine higher neighbours: 1 at distance 1, 4 at root 2, 4 at root 3.
    assert gradient_loss(step, torch.zeros_like(step)).item() == pytest.approx((1 + 4 / 2**0.5 + 4 / 3**0.5) / 2)


def test_the_source_loss_vanishes_for_consistent_sources(dipole):
    torch.manual_seed(1)
    sources = torch.rand(2, 2, *SHAPE)
    chi = sources[:, :1] - sources[:, 1:]
    given = (convolve(chi, dipole), chi, sources.sum(dim=1, keepdim=True), dipole, torch.ones(2, 1, *SHAPE))
    assert source_model_loss(sources, *given) < 1e-5
    assert source_model_loss(sources + 0.1, *given).item() == pytest.approx(0.2, rel=1e-3)
