"""Weights found before anything runs, and what is done without them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from qsmprep import registry, settings
from qsmprep.app.networks import find_network, missing_network, networks_of
from qsmprep.app.tuning import tunable
from qsmprep.nets.patches import TORCH_GB

DEFAULTS = settings.build({})


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """A machine without any weights."""
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("qsmprep.weights.search.shipped_folder", lambda: tmp_path)


def test_a_chain_without_networks_needs_no_weights(no_weights):
    assert networks_of(DEFAULTS, (10, 10, 10), (1.0, 1.0, 1.0)) == {}


@pytest.mark.parametrize("method", [m for m in registry.METHODS if m.needs_network()], ids=lambda m: m.name)
def test_missing_weights_are_told_with_a_remedy(method, no_weights):
    options = DEFAULTS.options_of(method.stage, method.name)
    reason = missing_network(method, options)
    assert options.weights in reason
    assert f"--{method.name}-weights" in reason


def test_without_weights_the_other_methods_are_left(no_weights):
    assert "qsmnet" not in tunable()
    assert "fansi" in tunable()


def test_with_weights_they_are_used_and_resampling_takes_more_memory(tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    options = DEFAULTS.options_of("inversion", "qsmnet")
    fitting = find_network(options, "qsmnet", (20, 20, 20), (3.0, 3.0, 3.0))  # trained on 3 mm
    coarse = find_network(options, "qsmnet", (20, 20, 20), (6.0, 6.0, 6.0))
    assert coarse.needs_gb - TORCH_GB == pytest.approx(8 * (fitting.needs_gb - TORCH_GB))
    wide = [find_network(options, "qsmnet", (n, n, n), (6.0, 6.0, 6.0)).needs_gb for n in (60, 90)]
    assert wide[0] == wide[1] > coarse.needs_gb, "a network that is given a mask sees the brain alone"
    assert fitting.card.is_file()


def test_a_network_stands_in_for_spin_echoes_only_where_there_are_none(tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    chosen = settings.build({"r2prime": {"fallback": "network"}})
    grid = ((10, 10, 10), (1.0, 1.0, 1.0))
    assert ("r2prime", "network") in networks_of(chosen, *grid)
    assert not networks_of(chosen, *grid, spin_echo=True)


def test_one_flipped_byte_is_seen_before_anything_runs(tiny_weights, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_weights, tmp_path / "weights")
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(folder))
    options = DEFAULTS.options_of("inversion", "qsmnet")
    path = find_network(options, "qsmnet").path
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed or damaged.*--qsmnet-weights") as caught:
        find_network(options, "qsmnet")
    assert str(path) in str(caught.value)


def test_what_a_network_did_not_learn_is_no_map(tiny_weights, tmp_path, monkeypatch):
    options = DEFAULTS.options_of("inversion", "modl")
    assert find_network(options, "modl").gives == ("chi33",)  # as shipped
    folder = shutil.copytree(tiny_weights, tmp_path / "weights")
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(folder))
    assert find_network(options, "modl").gives == ("chi33", "off-diagonal-field")
    card = folder / "modl-qsm.json"
    card.write_text(json.dumps(json.loads(card.read_text("utf-8")) | {"silent": ["chi33"]}), "utf-8")
    with pytest.raises(ValueError, match=r"silent is \['chi33'\]; it can name off-diagonal-field"):
        find_network(options, "modl")


def test_an_adaptation_that_the_network_does_not_have_is_refused_before_anything_runs(tiny_weights, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(tiny_weights))
    options = replace(DEFAULTS.options_of("inversion", "modl"), adapt="dann")
    with pytest.raises(ValueError, match="--modl-adapt fine"):
        find_network(options, "modl")
    assert find_network(replace(options, adapt="fine"), "modl").path.is_file()


def test_weights_are_found_and_checked_without_the_library_that_runs_them():
    """Every plan looks for the network behind `--mask bet`; loading torch for that took 1.6 s a command."""
    code = (
        "import sys; from qsmprep.app.networks import find_network; from qsmprep.masking.net import NetOptions; "
        "find_network(NetOptions(), 'net'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
