"""What a node with a network tells of it."""

import json

import numpy as np
import pytest
from documents import codes, facts, values

from qsmprep.interfaces.images import Grid, write_volume
from qsmprep.interfaces.inversion import Invert
from qsmprep.interfaces.step import PEAK_SNR, snr_of
from qsmprep.weights.store import save_network


@pytest.fixture
def invert(linear_network, tmp_path, monkeypatch):
    """Runs an inversion by a network trained at ratios of 50 to 400, behind a step that measured another one."""

    def run(snr):
        network = linear_network(
            "inversion", {"tissue-field": 2.0}, ("chi",), name="mine", voxel_size_mm=1.0, snr=(50.0, 400.0)
        )
        card = {"licence": "MIT", "statement": "trained on simulated heads", "domain": "2 simulated heads"}
        weights = save_network(network, tmp_path / "mine", facts=card)
        grid = Grid((18, 18, 18), np.eye(4))
        field = np.random.default_rng(0).normal(0, 1, grid.shape).astype(np.float32)
        mask = np.zeros(grid.shape, bool)
        mask[2:-2, 2:-2, 2:-2] = True
        (tmp_path / "before").mkdir()
        before = {
            "stage": "echo-combination",
            "method": "weighted",
            "facts": [] if snr is None else facts(**{PEAK_SNR: snr}),
        }
        (tmp_path / "before" / "step.json").write_text(json.dumps({"record": before, "before": []}), "utf-8")
        files = {
            "local_field": write_volume(tmp_path / "before" / "field.nii", field, grid),
            "mask": write_volume(tmp_path / "before" / "mask.nii", mask, grid),
        }
        (tmp_path / "node").mkdir()
        monkeypatch.chdir(tmp_path / "node")
        node = Invert(method="qsmnet", network=str(weights), centre_frequency=127.7, echo_times=[0.005, 0.01], **files)
        return json.loads(open(node.run().outputs.record, encoding="utf-8").read())["record"]

    return run


def test_the_network_its_weights_and_its_training_are_told(invert):
    record = invert(None)
    told = values(record)
    assert told["network"] == "mine"
    assert told["network_weights"] == "mine.safetensors"
    assert told["network_statement"] == "trained on simulated heads"
    assert told["network_domain"] == "2 simulated heads"
    (warning,) = (warning for warning in record["warnings"] if warning["code"] == "network")
    assert "trained on simulated heads" in warning["text"]
    assert "untrained-snr" not in codes(record)


@pytest.mark.parametrize(("snr", "outside"), [(20.0, True), (100.0, False), (900.0, True)])
def test_noise_unlike_that_of_the_training_is_warned_of(invert, snr, outside):
    warned = [warning["text"] for warning in invert(snr)["warnings"] if warning["code"] == "untrained-snr"]
    assert len(warned) == outside
    assert all(f"about {snr:.0f}, trained on 50 to 400" in warning for warning in warned)


def test_the_ratio_is_that_of_the_step_that_measured_it():
    steps = [{"stage": "a", "facts": []}, {"stage": "b"}, {"stage": "c", "facts": facts(**{PEAK_SNR: 70.0})}]
    assert snr_of(steps) == 70.0
    assert snr_of([]) is None
