"""Returns to the field from nought, as a channel of networks."""

import numpy as np
import torch

from qsmprep.nets.channels.iterated import iterated_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.domain import is_directed
from qsmprep.nets.inference import predict
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.scan import Scan

TILTED = Scan((1.0, 1.0, 1.0), (0.0, 0.42, 0.907))


def test_it_is_nearer_to_the_truth_than_a_division_that_takes_the_field_outside_for_nought(ball):
    chi, field, mask = ball

    def wrong(found):
        difference = (found - chi)[mask]
        return np.linalg.norm(difference - difference.mean()) / np.linalg.norm(chi[mask] - chi[mask].mean())

    found = iterated_channel(field, mask, scan=TILTED)
    assert not found[~mask].any()
    assert wrong(found) < 0.8 * wrong(tkd_channel(field, mask, scan=TILTED))
    field = np.where(mask, field, np.nan)
    assert np.array_equal(iterated_channel(field, mask, scan=TILTED), found)


def test_a_network_that_is_shown_it_sees_it_and_takes_any_direction(ball):
    _, field, mask = ball
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
