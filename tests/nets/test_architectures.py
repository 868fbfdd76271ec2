"""Networks have exactly the published numbers of parameters, and their physics is that of the solvers."""

import numpy as np
import pytest
import torch

from qsmprep.nets.unet import Unet, pack, unpack
from qsmprep.nets.unet_spec import PUBLISHED, UnetSpec
from qsmprep.nets.unrolled import Unrolled, convolve, modl_adjoint, modl_forward
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel

SHAPE = (16, 16, 16)


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (PUBLISHED["qsmnet"], 99_453_985),
        (UnetSpec(), 22_581_217),
        (UnetSpec(width=16), 5_647_857),
        (PUBLISHED["chi-sepnet"], 22_582_978),
    ],
    ids=["qsmnet", "kernel 3", "width 16", "chi-sepnet"],
)
def test_parameter_counts_are_the_published_ones(spec, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in Unet(spec).parameters()) == count


def test_modl_stores_as_many_numbers_as_the_released_file():
    state = Unrolled(UnrolledSpec()).state_dict()
    assert sum(t.numel() for name, t in state.items() if "num_batches" not in name) == 448_259


@pytest.mark.parametrize("order", ["skip-first", "up-first"])
def test_a_unet_keeps_the_image_size(order):
    net = Unet(UnetSpec(channels_in=3, channels_out=2, width=4, concatenation=order)).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 16, 32, 48)).shape == (1, 2, 16, 32, 48)


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        Unet(UnetSpec(width=2))(torch.zeros(1, 1, 16, 24, 16))


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"activation": "tanh"}, {"width": 0}, {"concatenation": "none"}])
def test_wrong_descriptions_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be odd|Unknown|at least one"):
        UnetSpec(**wrong)


def test_the_two_unknown_operator_passes_the_adjointness_test():
    torch.manual_seed(0)
    dipole = torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.3, 1.0)))
    x, y = torch.randn(2, 2, *SHAPE), torch.randn(2, 1, *SHAPE)
    left = (modl_forward(x, dipole) * y).sum()
    right = (x * modl_adjoint(y, dipole)).sum()
    assert torch.isclose(left, right, rtol=1e-4)


def test_convolution_is_that_of_the_solvers():
    from qsmprep.numerics.fourier import irfftn, rfftn

    kernel = dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 1.0))
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    there = convolve(torch.as_tensor(x)[None, None], torch.as_tensor(kernel))[0, 0].numpy()
    assert np.allclose(there, irfftn(rfftn(x) * kernel, SHAPE), atol=1e-5)


@pytest.mark.parametrize("kind", ["modl", "lpcnn"])
def test_unrolled_networks_give_their_unknowns_inside_the_mask(kind):
    net = Unrolled(UnrolledSpec(kind=kind, iterations=2, width=4, blocks=1)).eval()
    dipole = torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)))
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 4:12, 4:12, 4:12] = 1
    with torch.no_grad():
        found = net(torch.randn(1, 1, *SHAPE) * mask, dipole, mask)
    assert found.shape == (1, net.spec.unknowns, *SHAPE)
    assert not found[(mask == 0).expand_as(found)].any()


def test_gradients_reach_the_step_length():
    net = Unrolled(UnrolledSpec(iterations=2, width=4, blocks=1))
    dipole = torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)))
    net(torch.randn(1, 1, *SHAPE), dipole, torch.ones(1, 1, *SHAPE)).abs().mean().backward()
    assert net.step.grad.abs().item() > 0


def test_packed_voxels_come_back_where_they_were():
    x = torch.arange(2 * 3 * 4 * 8 * 6, dtype=torch.float32).reshape(2, 3, 4, 8, 6)
    packed = pack(x, 2)
    assert packed.shape == (2, 24, 2, 4, 3)
    assert torch.equal(unpack(packed, 2), x)
    assert torch.equal(packed[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].reshape(8))


def test_a_packing_network_keeps_the_size_and_sees_twice_as_far():
    torch.manual_seed(0)
    spec = UnetSpec(width=4, levels=1, packing=2, norm="none")
    assert spec.multiple == 4
    network, x = Unet(spec).eval(), torch.zeros(1, 1, 32, 32, 32)
    moved = x.clone()
    moved[0, 0, 16, 16, 16] = 1
    with torch.inference_mode():
        changed = (network(moved) - network(x))[0, 0].abs().amax((1, 2)) > 0
    assert network(x).shape == x.shape
    reach = changed.nonzero().ravel()
    assert 16 - reach.min() > 8 and reach.max() - 16 > 8
