"""Networks that are given no mask learn from the field of the head, and are shown it in use."""

import dataclasses
import json
from importlib.resources import files

import numpy as np
import pytest
import torch

from qsmprep.background.sharqnet import sharqnet
from qsmprep.inversion.autoqsm import autoqsm
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, Domain, NetworkSpec, from_document, to_document
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.phantom.options import SimulationOptions
from qsmprep.scan import Scan
from qsmprep.training import heads, pool
from qsmprep.training.heads import SURROUNDINGS, training_head
from qsmprep.training.loop import train
from qsmprep.training.patches import make_batch
from qsmprep.training.pool import _add_surroundings, _Job
from qsmprep.training.recipe import parse_recipe

SCAN = Scan((1.0, 1.0, 1.0), centre_frequency_mhz=127.7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A coarse head as it was kept before anyone asked for its surroundings, which are then added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "VOXEL_SIZE_MM", (4.0, 4.0, 4.0))
        patch.setattr(heads, "random_options", lambda *_, textured: SimulationOptions(voxel_size="4", seed=3))
        volumes, facts = training_head(0, 5, anatomy="ellipsoids")
        path = tmp_path_factory.mktemp("head")
        for name, image in volumes.items():
            np.save(path / f"{name}.npy", image.astype(pool._kind(name)))
        (path / "head.json").write_text(json.dumps({**facts, "shape": list(volumes["mask"].shape)}), "utf-8")
        job = _Job(path, 0, 5, "ellipsoids", True, False, True)
        _add_surroundings(job)
        with pytest.raises(ValueError, match="comes out otherwise"):
            _add_surroundings(dataclasses.replace(job, seed=6, number=1))
    return path


@pytest.fixture(scope="module")
def head(folder):
    return pool._open(folder)


def test_the_field_goes_on_beyond_the_brain_where_there_is_signal(head):
    mask = np.asarray(head.volume("mask"))
    total, known = (np.asarray(head.volume(name)) for name in ("total-field-head", "total-field"))
    shown = total != 0
    assert np.allclose(total[mask & shown], known[mask & shown], atol=1e-4)
    assert 0.1 * mask.sum() < (shown & ~mask).sum() and not shown.all()
    assert (mask & ~shown).sum() < 0.05 * mask.sum()  # bleeds have no signal
    for name in SURROUNDINGS.values():
        assert np.isfinite(head.volume(name)).all() and not head.volume(name)[~shown].any()


def recipe(name, **changes):
    text = files("qsmprep.data").joinpath(f"recipes/{name}.toml").read_text("utf-8")
    for old, new in {
        "width = 32": "width = 2",
        "patch = 128": "patch = 32",
        "heads = 32": "heads = 1",
        **changes,
    }.items():
        assert old in text
        text = text.replace(old, new)
    return parse_recipe(text)


@pytest.mark.parametrize("name", ["sharqnet-nomask", "autoqsm-nomask"])
def test_patches_show_it_and_labels_end_with_the_brain(head, name):
    made = recipe(name)
    batch = make_batch(made.network, made.data, (head,), 4, (0, 0, 1))
    outside = batch.mask == 0
    assert batch.inputs[outside].abs().max() > 0 and not batch.labels[outside].any()
    masked = dataclasses.replace(made.network, masked=True)
    inside = make_batch(masked, made.data, (head,), 4, (0, 0, 1))
    assert not inside.inputs[outside].any()
    both = (batch.mask > 0) & (batch.inputs != 0)
    assert torch.allclose(inside.inputs[both], batch.inputs[both], atol=2e-3)


def test_it_trains_and_resumes_to_the_same_bits(head, tmp_path):
    changes = {"steps = 4000": 'steps = 4\nprecision = "float32"', "checkpoint_every = 250": "checkpoint_every = 2",
               "validation_patches = 12": "validation_patches = 1"}  # fmt: skip
    made = recipe("sharqnet-nomask", **changes)
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    through = train(made, (head,), (head,), tmp_path / "through")
    train(made, (head,), (head,), tmp_path / "broken", until=2)
    resumed = train(made, (head,), (head,), tmp_path / "broken", resume=True)
    assert through.losses == resumed.losses and not through.spec.masked


@pytest.fixture
def network():
    def build(task, output, masked=False):
        torch.manual_seed(2)
        channels = (Channel("total-field", 0, 0.1),), (Channel(output, 0, 0.02),)
        unet = UnetSpec(width=4, levels=1, norm="none", activation="leaky-relu")
        spec = NetworkSpec("x", task, unet, *channels, Domain(), masked=masked)
        return Network(spec, build_module(spec).eval())

    return build


@pytest.fixture
def image():
    random = np.random.default_rng(0)
    mask = np.zeros((26, 24, 30), bool)
    mask[6:18, 7:17, 8:22] = True
    return (0.05 * random.standard_normal(mask.shape)).astype(np.float32), mask


@pytest.mark.parametrize(("masked", "matters"), [(False, True), (True, False)])
def test_what_lies_around_the_mask_matters_to_such_a_network_alone(network, image, masked, matters):
    field, mask = image
    alone = np.where(mask, field, 0)
    found = [sharqnet(f * 127.7, mask, network=network("background", "tissue-field", masked), scan=SCAN).tissue_field
             for f in (field, alone)]  # fmt: skip
    assert np.array_equal(*found) is not matters
    maps = [autoqsm(f, mask, network=network("total-inversion", "chi", masked), scan=SCAN).chi_ppm
            for f in (field, alone)]  # fmt: skip
    assert np.array_equal(*maps) is not matters
    assert not maps[0][~mask].any()


def test_where_nothing_was_measured_the_field_may_be_anything_not_finite(network, image):
    field, mask = image
    zero, nan = field.copy(), field.copy()
    zero[:, :, 25:], nan[:, :, 25:] = 0, np.nan
    found = [autoqsm(f, mask, network=network("total-inversion", "chi"), scan=SCAN).chi_ppm for f in (zero, nan)]
    assert np.array_equal(*found)


def test_a_network_without_a_mask_takes_the_total_field_alone_and_keeps_its_description(network):
    spec = network("background", "tissue-field").spec
    assert from_document(to_document(spec)) == spec and not spec.masked
    old = to_document(spec)
    del old["masked"]  # a card written before there were such networks
    assert from_document(old).masked
    with pytest.raises(ValueError, match="total field alone"):
        NetworkSpec("x", "inversion", UnetSpec(width=2), (Channel("tissue-field"),), (Channel("chi"),), masked=False)
