"""Returns to the field from nought, as a channel of networks."""

import numpy as np
import pytest
import torch

from qsmprep.nets.channels.iterated import iterated_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.domain import is_directed
from qsmprep.nets.inference import predict
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet import UnetSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan

TILTED = Scan((1.0, 1.0, 1.0), (0.0, 0.42, 0.907))
SHAPE, WIDE = (40, 36, 32), (80, 80, 80)


@pytest.fixture(scope="module")
def balls():
    """Susceptibility of two balls within a larger one, its field with B0 tilted, and the mask."""
    axes = np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE), indexing="ij")
    mask = sum(x**2 for x in axes) < 14**2
    chi = 0.1 * (sum((x - 3) ** 2 for x in axes) < 9) - 0.05 * (sum((x + 4) ** 2 for x in axes) < 16)
    wide = np.zeros(WIDE, np.float32)
    wide[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = chi
    field = irfftn(rfftn(wide) * dipole_kernel(WIDE, (1, 1, 1), TILTED.b0_direction, kind="integrated"), WIDE)
    return chi.astype(np.float32), np.ascontiguousarray(field[: SHAPE[0], : SHAPE[1], : SHAPE[2]]), mask


def test_it_is_nearer_to_the_truth_than_a_division_that_takes_the_field_outside_for_nought(balls):
    chi, field, mask = balls

    def wrong(found):
        difference = (found - chi)[mask]
        return np.linalg.norm(difference - difference.mean()) / np.linalg.norm(chi[mask] - chi[mask].mean())

    found = iterated_channel(field, mask, scan=TILTED)
    assert not found[~mask].any()
    assert wrong(found) < 0.8 * wrong(tkd_channel(field, mask, scan=TILTED))
    field = np.where(mask, field, np.nan)
    assert np.array_equal(iterated_channel(field, mask, scan=TILTED), found)


def test_a_network_that_is_shown_it_sees_it_and_takes_any_direction(balls):
    _, field, mask = balls
    inputs = (Channel("tissue-field"), Channel("iterated", 0.01, 0.05))
    spec = NetworkSpec(
        "shown", "inversion", UnetSpec(2, 1, width=2, levels=1, shortcut=True), inputs, (Channel("chi"),)
    )
    assert spec.knows_kernel and not spec.consistent and not is_directed(spec)
    module = build_module(spec).eval()
    with torch.no_grad():
        for part in (module.out, module.shortcut):
            part.weight.zero_()
            part.bias.zero_()
        module.shortcut.weight[0, 1] = 0.05
        module.shortcut.bias[0] = 0.01
    found = predict(Network(spec, module), {"tissue-field": field}, mask, scan=TILTED)
    assert np.allclose(found.maps["chi"], iterated_channel(field, mask, scan=TILTED), atol=1e-6)
    assert not found.warnings
