"""Networks that tell how wrong they expect to be."""

import dataclasses

import numpy as np
import pytest
import torch

from qsmprep.nets.inference import predict
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.scan import Scan
from qsmprep.training.loop import train
from qsmprep.training.objective import _misjudged
from qsmprep.training.patches import make_batch

SCAN = Scan((1.0, 1.0, 1.0))


def described(consistency):
    unet = UnetSpec(1, 2, width=4, levels=1, consistency=consistency)
    outputs = (Channel("chi", 0, 0.03), Channel("expected-error", 0, 0.03))
    return NetworkSpec("unsure", "inversion", unet, (Channel("tissue-field", 0, 0.02),), outputs)


def test_the_expected_error_that_is_least_misjudged_is_the_mean_of_the_errors():
    random = np.random.default_rng(0)
    wrong = torch.from_numpy(random.exponential(np.array([[0.6], [3.0]]), (2, 4000)).astype(np.float32))
    width = torch.tensor([0.5, 0.5], requires_grad=True)
    for _ in range(400):
        _misjudged(wrong, width[:, None].expand_as(wrong), torch.ones_like(wrong)).backward()
        with torch.no_grad():
            width -= 0.1 * width.grad * width**2
            width.grad = None
    assert np.allclose(width.detach(), wrong.mean(1), rtol=0.15)


@pytest.mark.parametrize("consistency", [0.0, 0.01])
def test_the_expected_error_lies_beside_the_map_and_changes_nothing_of_it(consistency):
    torch.manual_seed(0)
    spec = described(consistency)
    module = build_module(spec).eval()
    field = np.random.default_rng(1).normal(0, 0.02, (24, 24, 16)).astype(np.float32)
    mask = np.zeros(field.shape, bool)
    mask[4:-4, 4:-4, 4:-4] = True
    found = predict(Network(spec, module), {"tissue-field": field}, mask, scan=SCAN)
    assert list(found.maps) == ["chi", "expected-error"]
    assert np.all(found.maps["expected-error"][mask] > 0)
    assert np.all(found.maps["expected-error"][~mask] == 0)
    with torch.no_grad():
        module.out.bias[1] += 3.0
    surer = predict(Network(spec, module), {"tissue-field": field}, mask, scan=SCAN)
    assert np.array_equal(surer.maps["chi"], found.maps["chi"])
    assert np.all(surer.maps["expected-error"][mask] > found.maps["expected-error"][mask])


def test_training_brings_it_near_to_the_error(tiny_with_error, tmp_path):
    """From a start at 0.7 deviations to the mean error of patches that were not trained on."""
    state = train(tiny_with_error, (), (), tmp_path)
    batch = make_batch(state.spec, tiny_with_error.data, (), 6, (0, 9, 9))
    with torch.inference_mode():
        values = state.average.eval()(
            (batch.inputs - state.spec.inputs[0].mean) / state.spec.inputs[0].deviation * batch.mask
        )
    unit = state.spec.outputs[0].deviation
    wrong = (values[:, :1] - (batch.labels[:, :1] - state.spec.outputs[0].mean) / unit).abs().mean()
    expected = torch.nn.functional.softplus(values[:, 1:]).mean()
    assert 0.6 < float(expected / wrong) < 1.6


@pytest.fixture
def tiny_with_error():
    from qsmprep.training.recipe import DataOptions, Recipe, TrainingOptions

    spec = dataclasses.replace(described(0.0), inputs=(Channel("tissue-field"),))
    spec = dataclasses.replace(spec, architecture=dataclasses.replace(spec.architecture, norm="none"))
    data = DataOptions(heads=0, shapes=1.0, patch=16)
    options = TrainingOptions(steps=120, batch=4, learning_rate=5e-3, error=0.3, precision="float32", average=0.9,
                              warm_up=5, model=0.0, gradient=0.0, validate_every=120)  # fmt: skip
    return Recipe(spec, data, options, "tiny")
