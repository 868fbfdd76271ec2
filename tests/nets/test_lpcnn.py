"""The learned proximal network is gradient descent on the masked misfit with a network as proximal operator."""

import numpy as np
import pytest
import torch
from torch import nn

from qsmprep.nets.network import build_module, forward
from qsmprep.nets.spec import Channel, NetworkSpec, from_document, to_document
from qsmprep.nets.unrolled import Unrolled, convolve
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel

SHAPE = (16, 18, 20)


@pytest.fixture
def dipole():
    return torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.3, 1.0)))


@pytest.fixture
def mask():
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 4:12, 4:14, 4:16] = 1
    return mask


def small(iterations: int) -> Unrolled:
    torch.manual_seed(0)
    return Unrolled(UnrolledSpec(kind="lpcnn", iterations=iterations, width=4, blocks=1)).eval()


def without_network(iterations: int) -> Unrolled:
    net = small(iterations)
    net.nets[0] = nn.Identity()
    return net


def test_one_network_and_one_step_serve_all_iterations():
    counts = {sum(p.numel() for p in small(n).parameters()) for n in (1, 3, 5)}
    assert len(counts) == 1
    assert small(3).step.tolist() == [4.0]  # as released


def test_the_network_first_sees_the_scaled_adjoint_of_the_field(dipole, mask):
    field = torch.randn(1, 1, *SHAPE) * mask
    with torch.no_grad():
        found = without_network(1)(field, dipole, mask)
    assert torch.allclose(found, 4 * convolve(field, dipole) * mask, atol=1e-5)


def test_without_a_network_it_is_projected_gradient_descent_that_lowers_the_masked_misfit(dipole, mask):
    chi = torch.randn(1, 1, *SHAPE) * mask
    field = convolve(chi, dipole) * mask
    misfits = []
    with torch.no_grad():
        for iterations in (1, 2, 5, 20):
            net = without_network(iterations)
            net.step.fill_(2.0)  # below 2 / (2/3)^2
            misfits.append((mask * (convolve(net(field, dipole, mask), dipole) - field)).norm() / field.norm())
    assert np.all(np.diff(misfits) < 0)
    assert misfits[-1] < 0.2


def test_field_outside_the_mask_does_not_matter(dipole, mask):
    field = torch.randn(1, 1, *SHAPE)
    net = small(3)
    with torch.no_grad():
        assert torch.equal(net(field, dipole, mask), net(field * mask, dipole, mask))


def test_gradients_reach_the_step_length_and_the_network(dipole, mask):
    net = small(3)
    net(torch.randn(1, 1, *SHAPE) * mask, dipole, mask).abs().mean().backward()
    assert net.step.grad.abs().item() > 0
    assert all(p.grad is not None for p in net.parameters())


def test_it_is_described_and_built_like_the_others(dipole, mask):
    channels = (Channel("tissue-field", 0.0, 0.02),), (Channel("chi", 0.01, 0.05),)
    spec = NetworkSpec("mine", "inversion", UnrolledSpec(kind="lpcnn", width=4, blocks=1), *channels)
    assert from_document(to_document(spec)) == spec
    module = build_module(spec).eval()
    assert module.deviation.item() == pytest.approx(0.05)
    with torch.no_grad():
        assert forward(spec, module, torch.randn(1, 1, *SHAPE), mask, dipole).shape == (1, 1, *SHAPE)


def test_with_an_exact_return_to_the_data_the_field_inside_the_mask_is_explained(dipole, mask):
    field = convolve(torch.randn(1, 1, *SHAPE) * mask, dipole)
    misfits = []
    for data_term in ("gradient", "proximal"):
        net = Unrolled(UnrolledSpec("lpcnn", 3, 4, 1, start="division", data_term=data_term, first_step=0.03)).eval()
        net.nets[0] = nn.Identity()
        with torch.no_grad():
            found = net(field, dipole, mask)
        assert not found[mask == 0].any()
        misfits.append((mask * (convolve(found, dipole) - field)).norm() / (mask * field).norm())
    assert misfits[1] < 0.5 * misfits[0]
    assert len(net.step) == 3
