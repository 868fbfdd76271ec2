"""Batches are pure functions of their number, also where patches are shown again; Muon's updates are orthogonal."""

import numpy as np
import pytest
import torch

from qsmprep.training import stream
from qsmprep.training.loop import train
from qsmprep.training.muon import Muon, orthogonal
from qsmprep.training.objective import loss
from qsmprep.training.patches import make_batch
from qsmprep.training.recipe import TrainingOptions, parse_recipe

SHOWN = "[data]\nshowings = 3"


def shown(recipe, steps):
    return list(stream.batches(recipe.network, recipe.data, (), recipe.training, steps))


@pytest.fixture
def again(tiny_text, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 8)
    return parse_recipe(tiny_text.replace("[data]", SHOWN))


def test_batches_with_patches_shown_again_do_not_depend_on_where_one_begins(again):
    through, late = shown(again, range(12)), shown(again, range(7, 12))
    for a, b in zip(through[7:], late, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.labels, b.labels)


def test_new_patches_fill_the_window_then_come_as_seldom_as_asked(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 8)
    assert [stream.newest(step, 2, 4) for step in range(12)] == [2, 4, 6, 8, 9, 9, 10, 10, 11, 11, 12, 12]


def test_a_patch_shown_again_is_turned(again):
    labels = torch.cat([batch.labels for batch in shown(again, range(30))])
    sizes = [round(float(label.double().square().sum()), 6) for label in labels]
    often = max(sizes, key=sizes.count)
    same = [label for label, size in zip(labels, sizes, strict=True) if size == often]
    assert len(same) > 2
    assert not all(torch.equal(same[0], other) for other in same[1:])


def test_a_training_by_muon_with_patches_shown_again_resumes_to_the_same_bits(tiny_text, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 6)
    text = tiny_text.replace("[data]", SHOWN).replace("width = 2", "width = 10")
    recipe = parse_recipe(text.replace("[training]", '[training]\noptimizer = "muon"\nlogarithmic = true'))
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    through = train(recipe, (), (), tmp_path / "through")
    train(recipe, (), (), tmp_path / "broken", until=4)
    resumed = train(recipe, (), (), tmp_path / "broken", resume=True)
    assert through.losses == resumed.losses
    for name, tensor in through.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name])


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_an_orthogonal_matrix_has_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    assert np.sign(float((orthogonal(matrix) * matrix).sum())) == 1


def test_muon_learns_a_convolution_and_its_bias():
    torch.manual_seed(0)
    true, learnt = (torch.nn.Conv3d(10, 12, 3) for _ in range(2))
    optimizer = Muon(learnt.parameters(), 0.01)
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 200)
        x = torch.randn(4, 10, 5, 5, 5)
        wrong = (learnt(x) - true(x).detach()).square().mean()
        optimizer.zero_grad()
        wrong.backward()
        optimizer.step()
    assert float(wrong.detach()) < 0.02 * float(true(x).detach().square().mean())


def test_a_logarithmic_loss_has_the_same_slope_for_easy_and_hard_patches(tiny):
    batch = make_batch(tiny.network, tiny.data, (), 1, (1, 2))
    options = TrainingOptions(logarithmic=True, gradient=0.0, model=0.0)

    def at(factor):
        """The loss of a network whose error is the label times a factor."""
        wrong = torch.nn.Module()
        wrong.forward = lambda x: batch.labels * (1 + factor)
        return float(loss(tiny.network, wrong, batch, options))

    assert at(256.0) - at(128.0) == pytest.approx(np.log(2), rel=0.02)
    assert at(64.0) - at(32.0) == pytest.approx(np.log(2), rel=0.1)
