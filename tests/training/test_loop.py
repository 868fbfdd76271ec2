"""A killed training resumes to the same bits; a tiny one learns; what it leaves can be loaded and used."""

import dataclasses

import numpy as np
import pytest
import torch

from qsmprep.cli.tools import main
from qsmprep.inversion.tkd import tkd
from qsmprep.scan import Scan
from qsmprep.training.loop import learning_rate, train
from qsmprep.training.objective import apply
from qsmprep.training.patches import make_batch
from qsmprep.training.recipe import TrainingOptions, parse_recipe
from qsmprep.weights.store import load_network

UNET = 'family = "unet"\nwidth = 2\nlevels = 2'
UNROLLED = 'family = "unrolled"\nkind = "modl"\nwidth = 2\nblocks = 1\niterations = 2'


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("unrolled", [False, True])
def test_resumed_training_gives_the_same_weights_as_one_without_a_break(tiny_text, tmp_path, unrolled):
    text = tiny_text
    if unrolled:  # with dropout, whose random numbers must go on too
        text = text.replace(UNET, UNROLLED).replace('["chi"]', '["chi33", "off-diagonal-field"]')
    recipe = parse_recipe(text)
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    through = train(recipe, (), (), tmp_path / "through")
    train(recipe, (), (), tmp_path / "broken", until=4)
    resumed = train(recipe, (), (), tmp_path / "broken", resume=True)
    assert same(through.module.state_dict(), resumed.module.state_dict())
    assert same(through.average.state_dict(), resumed.average.state_dict())
    assert through.losses == resumed.losses
    assert through.scores == resumed.scores


def test_a_checkpoint_of_another_recipe_is_refused(tiny, tiny_text, tmp_path):
    train(tiny, (), (), tmp_path, until=2)
    with pytest.raises(ValueError, match="another recipe"):
        train(parse_recipe(tiny_text.replace("width = 2", "width = 3")), (), (), tmp_path, resume=True)


def test_a_checkpoint_of_other_labels_is_refused(tiny, tmp_path):
    train(dataclasses.replace(tiny, labels="one"), (), (), tmp_path, until=2)
    with pytest.raises(ValueError, match="other --labels"):
        train(dataclasses.replace(tiny, labels="other"), (), (), tmp_path, resume=True)


def test_a_checkpoint_that_is_no_checkpoint_is_refused(tiny, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not one")
    with pytest.raises(ValueError, match="not a checkpoint"):
        train(tiny, (), (), tmp_path, resume=True)


def test_the_learning_rate_rises_then_falls_to_nought():
    options = TrainingOptions(steps=1000, warm_up=100, learning_rate=1e-2)
    rates = [learning_rate(options, step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates[-1] < 1e-6


def test_a_tiny_network_trained_by_the_command_line_beats_the_noise_of_tkd(tmp_path):
    recipe = tmp_path / "shapes.toml"
    recipe.write_text(
        """
[network]
name = "shapes"
task = "inversion"
inputs = ["tissue-field", "tkd"]
outputs = ["chi"]
[network.architecture]
family = "unet"
width = 4
levels = 2
shortcut = true
[data]
heads = 0
shapes = 1.0
patch = 32
[training]
steps = 150
batch = 2
learning_rate = 1e-2
warm_up = 20
average = 0.95
precision = "float32"
gradient = 0.0
validate_every = 50
validation_patches = 4
""",
        "utf-8",
    )
    out = tmp_path / "out"
    assert main(["train", str(recipe), "--out", str(out), "--quiet", "--threads", "1", "--device", "cpu"]) == 0
    assert {p.name for p in out.iterdir()} >= {"shapes.safetensors", "shapes.json", "shapes.tsv", "shapes.png"}
    network = load_network(out / "shapes.safetensors")
    from qsmprep.training.recipe import read_recipe

    data = read_recipe(recipe).data
    batch = make_batch(network.spec, data, (), 6, (99, 7))  # a key that training never used
    with torch.inference_mode():
        found = apply(network.spec, network.module, batch).numpy()
    truth = batch.labels.numpy()
    mask = np.ones(truth.shape[2:], bool)
    scan = Scan((1.0, 1.0, 1.0))
    ours, theirs = [], []
    for n in range(len(truth)):
        field = batch.inputs[n, 0].numpy()
        divided = tkd(field, mask, scan=scan).chi_ppm
        for errors, chi in ((ours, found[n, 0]), (theirs, divided)):
            wrong = chi - truth[n, 0]
            errors.append(np.linalg.norm(wrong - wrong.mean()) / np.linalg.norm(truth[n, 0] - truth[n, 0].mean()))
    assert np.mean(ours) < 0.9 * np.mean(theirs)


def test_training_over_a_checkpoint_without_resume_is_refused(tiny_text, tmp_path, capsys):
    (tmp_path / "recipe.toml").write_text(tiny_text, "utf-8")
    words = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out"), "--quiet", "--device", "cpu"]
    assert main([*words, "--stop-after", "2"]) == 0
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert (tmp_path / "out" / "tiny.safetensors").exists()
