"""U-nets whose answer returns to the data: the data decide where the kernel is strong, the network where it is weak."""

import numpy as np
import pytest
import torch
from documents import told

from qsmprep.nets.inference import predict
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.network import CONSISTENT_KERNEL, Network, answer, build_module, forward, kernel_of
from qsmprep.nets.spec import Channel, NetworkSpec, from_document, to_document
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan

TILTED = Scan((1.0, 1.0, 1.0), (0.0, 0.42, 0.907))
SHAPE, WIDE = (40, 36, 32), (80, 80, 80)


def described(**architecture):
    unet = UnetSpec(width=4, levels=1, **architecture)
    return NetworkSpec("random", "inversion", unet, (Channel("tissue-field", 0, 0.02),), (Channel("chi", 0, 0.03),))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    spec = described(consistency=0.01)
    return Network(spec, build_module(spec).eval())


def misfit(chi, field, mask):
    wide = np.zeros(WIDE, np.float32)
    wide[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = chi
    kernel = dipole_kernel(WIDE, (1, 1, 1), TILTED.b0_direction, kind=CONSISTENT_KERNEL)
    found = irfftn(rfftn(wide) * kernel, WIDE)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return np.linalg.norm((found - field)[mask]) / np.linalg.norm(field[mask])


def test_the_map_explains_the_field_whatever_the_network_says(network, ball):
    _, field, mask = ball
    found = predict(network, {"tissue-field": field}, mask, scan=TILTED)
    given = {"tissue-field": torch.from_numpy(field * mask)[None, None]}
    inside = torch.from_numpy(mask.astype(np.float32))[None, None]
    with torch.no_grad():
        alone = answer(network.spec, network.module, given["tissue-field"], inside)[0, 0].numpy()
    assert misfit(alone, field, mask) > 0.8  # random weights know nothing
    assert misfit(found.maps["chi"], field, mask) < 0.25 * misfit(alone, field, mask)
    assert not found.maps["chi"][~mask].any()
    assert told(found)["network_grid"] == "as acquired"  # it knows the kernel: nothing is turned


def test_where_the_kernel_is_nought_the_network_decides(network):
    spectrum = torch.zeros(1, 1, 48, 48, 25)
    values = 0.02 * torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(2))
    inside = torch.ones_like(values)
    with torch.no_grad():
        alone = answer(network.spec, network.module, values, inside)
        assert torch.allclose(forward(network.spec, network.module, values, inside, spectrum), alone, atol=1e-6)


def test_patches_return_to_the_data_of_the_whole_volume(network, ball):
    _, field, mask = ball
    whole = predict(network, {"tissue-field": field}, mask, scan=TILTED)
    options = InferenceOptions(patch=24, precision="float32")
    parts = predict(network, {"tissue-field": field}, mask, scan=TILTED, options=options)
    assert misfit(parts.maps["chi"], field, mask) == pytest.approx(misfit(whole.maps["chi"], field, mask), rel=0.3)


def test_it_needs_the_kernel_and_the_tissue_field(network, ball):
    _, field, mask = ball
    images = (torch.from_numpy(field)[None, None], torch.from_numpy(mask.astype(np.float32))[None, None])
    with pytest.raises(ValueError, match="needs the dipole kernel"):
        forward(network.spec, network.module, *images)
    with pytest.raises(ValueError, match="must take tissue-field"):
        NetworkSpec("x", "inversion", UnetSpec(width=4, consistency=0.1), (Channel("tkd"),), (Channel("chi"),))
    with pytest.raises(ValueError, match="from 0 to 1"):
        described(consistency=2.0)


def test_its_kernel_has_room_for_the_field_and_its_description_is_kept(network):
    assert kernel_of(network.spec, (40, 40, 41), TILTED).shape[0] >= 72
    assert from_document(to_document(network.spec)) == network.spec
    assert network.spec.knows_kernel and not network.spec.unrolled
    assert not described().knows_kernel
