"""The heads of benchmarks/masks.py are made harder without moving the brain, and its tables tell the worst."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def masks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("masks")


def test_a_slab_keeps_its_place_in_the_world(masks):
    random = np.random.default_rng(0)
    brain = np.zeros((12, 12, 40), bool)
    brain[3:9, 3:9, 5:35] = True
    case = masks.Case(
        random.random((2, *brain.shape)), np.array([0.01, 0.02]), np.diag([2.0, 2, 3, 1]), brain.astype(int), brain
    )
    cut = masks.HARDER["slab, middle"](case)
    first = round(float(cut.affine[2, 3]) / 3)
    assert 5 < first < 35
    assert np.array_equal(cut.magnitude, case.magnitude[..., first : first + cut.brain.shape[2]])
    for change in masks.HARDER.values():
        changed = change(case)
        assert changed.magnitude.shape[1:] == changed.brain.shape == changed.labels.shape
        assert np.isfinite(changed.magnitude).all() and changed.magnitude.min() >= 0


def test_a_column_tells_the_worst_head_and_the_last_the_worst_generator(masks):
    rows = [{"dice": dice, "outside": 1.0, "lost": 2.0, "seconds": 3.0} for dice in (0.9, 0.8)]
    better = [{"dice": 0.95, "outside": 9.0, "lost": 2.0, "seconds": 3.0}]
    found = {("as it is", "bet", "ellipsoids"): rows, ("as it is", "bet", "icbm152"): better}
    text = masks.document(found, "command", ["bet"])
    assert "| as it is | bet | 0.800 | 0.950 | – | 0.800 |" in text
    assert "| as it is | bet | 1.0 | 9.0 | – | 9.0 |" in text
