"""U-nets of octave convolutions: built, fed and used as every other U-net."""

from importlib.resources import files

import numpy as np
import pytest
import torch

from qsmprep.inversion.qsmnet import QsmnetOptions, qsmnet
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.octave import OctaveUnet, split
from qsmprep.nets.spec import Channel, NetworkSpec, from_document, to_document
from qsmprep.nets.unet_spec import PUBLISHED, UnetSpec
from qsmprep.scan import Scan
from qsmprep.training.loop import train
from qsmprep.training.recipe import parse_recipe


def small(**changes) -> UnetSpec:
    return UnetSpec(**{"width": 4, "levels": 2, "octave": 0.5, "norm": "none", **changes})


def described(architecture):
    return NetworkSpec("xqsm", "inversion", architecture, (Channel("tissue-field", 0, 0.02),), (Channel("chi"),))


def test_published_xqsm_has_half_of_its_64_channels_at_half_the_resolution():
    spec = PUBLISHED["xqsm"]
    assert split(spec.width, spec) == (32, 32)
    assert spec.multiple == 8
    with torch.device("meta"):
        net = OctaveUnet(spec)
    assert net.entry.high_high[0].weight.shape == (32, 1, 3, 3, 3)
    assert net.middle.first.low_low[0].weight.shape == (128, 64, 3, 3, 3)
    assert net.up[0].low_high.weight.shape == (64, 64, 4, 4, 4)


@pytest.mark.parametrize("changes", [{}, {"octave": 0.25}, {"packing": 2}, {"levels": 1}, {"norm": "batch"}])
def test_the_answer_has_the_shape_of_the_question_and_every_weight_takes_part(changes):
    spec = described(small(**changes))
    module = build_module(spec)
    n = spec.multiple
    module(torch.randn(2, 1, n, 2 * n, 3 * n)).square().mean().backward()
    assert module(torch.randn(1, 1, n, 2 * n, 3 * n)).shape == (1, 1, n, 2 * n, 3 * n)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    with pytest.raises(ValueError, match=f"multiple of {n}"):
        module(torch.randn(1, 1, n, n, n + n // 2))


def test_it_sees_farther_than_a_plain_unet_of_as_many_levels():
    def reach(spec):
        torch.manual_seed(0)
        x = torch.zeros(1, 1, 64, 16, 16, requires_grad=True)
        build_module(described(spec))(x)[0, 0, 32, 8, 8].backward()
        seen = np.flatnonzero(x.grad[0, 0].abs().amax((1, 2)).numpy())
        return seen[-1] - seen[0]

    assert reach(small(activation="leaky-relu")) > reach(small(octave=0.0, activation="leaky-relu")) + 10


def test_its_description_is_kept_and_a_share_that_leaves_no_channels_is_refused():
    spec = described(small(consistency=0.1))
    assert from_document(to_document(spec)) == spec and spec.kind == "unet"
    for share in (1.0, 0.01, -0.5):
        if share == 0.01:
            assert split(4, small(octave=share)) == (3, 1)
            continue
        with pytest.raises(ValueError, match="half the resolution"):
            small(octave=share)


def test_the_inversion_by_a_unet_takes_it():
    torch.manual_seed(0)
    spec = described(small(consistency=0.05))
    network = Network(spec, build_module(spec).eval())
    mask = np.zeros((20, 22, 18), bool)
    mask[4:16, 4:18, 4:14] = True
    field = 0.02 * np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    whole = qsmnet(field, mask, network=network, scan=Scan((1.0, 1.0, 1.0)))
    assert whole.chi_ppm[mask].std() > 0 and not whole.chi_ppm[~mask].any()
    assert QsmnetOptions.role.fits(spec)


def test_its_recipe_trains_and_resumes_to_the_same_bits(tmp_path):
    text = files("qsmprep.data").joinpath("recipes/xqsm.toml").read_text("utf-8")
    for old, new in (("width = 24", "width = 4"), ("heads = 32", "heads = 0"), ("patch = 64", "patch = 16"),
                     ("shapes = 0.3", "shapes = 1.0"), ("steps = 2500", 'steps = 4\nprecision = "float32"'),
                     ("validation_patches = 12", "validation_patches = 1"),
                     ("checkpoint_every = 250", "checkpoint_every = 2")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    recipe = parse_recipe(text)
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    through = train(recipe, (), (), tmp_path / "through")
    train(recipe, (), (), tmp_path / "broken", until=2)
    resumed = train(recipe, (), (), tmp_path / "broken", resume=True)
    pairs = zip(through.module.state_dict().values(), resumed.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert through.losses == resumed.losses
