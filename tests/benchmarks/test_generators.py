"""The tables of benchmarks/generators.py: a method is as good as on the generator that it likes least."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HEADS = {
    "ellipsoids": ("ellipsoids, tilted", "ellipsoids, noisy, thick, lesions"),
    "icbm152": ("icbm152, tilted",),
    "qsm-forward": ("qsm-forward, tilted",),
}


@pytest.fixture
def module(monkeypatch):
    """A file of the folder, which is in no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def tables(module):
    return module("generator_tables")


def rows_of(tables, method, *, ellipsoids=(), icbm152=(), qsm_forward=(), key="nrmse"):
    """Rows with one value a head, of the heads above; None: a failed run."""
    keys = [score.key for score in (*tables.SCORES, *tables.MASK_SCORES)]
    values = {"ellipsoids": ellipsoids, "icbm152": icbm152, "qsm-forward": qsm_forward}
    rows = []
    for generator, of_heads in values.items():
        for head, value in zip(HEADS[generator], of_heads, strict=False):
            row = {"head": head, "voxel_size": tables.voxel_size(head, None), "method": method, "status": "ok"}
            row |= dict.fromkeys(keys, "")
            rows.append(row | ({"status": tables.FAILED} if value is None else {key: str(value)}))
    return rows


def score(tables, key):
    return next(score for score in tables.SCORES if score.key == key)


def methods(text):
    return [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines()[2:]]


def test_the_worst_generator_sorts_and_not_the_mean(tables):
    tuned = rows_of(tables, "tuned on one", ellipsoids=(5, 5), icbm152=(10,), qsm_forward=(60,))
    even = rows_of(tables, "even", ellipsoids=(40, 40), icbm152=(40,), qsm_forward=(41,))
    text = tables.table(tuned + even, score(tables, "nrmse"))
    assert methods(text) == ["even", "tuned on one"]
    assert "60.0 (qsm-forward)" in text and "41.0 (qsm-forward)" in text


def test_a_column_tells_the_worst_head_of_its_generator(tables):
    text = tables.table(rows_of(tables, "m", ellipsoids=(5, 9), icbm152=(7,), qsm_forward=(8,)), score(tables, "nrmse"))
    assert text.splitlines()[-1] == "| m | 9.0 | 7.0 | 8.0 | 9.0 (ellipsoids) |"


def test_a_similarity_is_worst_where_it_is_smallest_and_a_slope_where_it_is_furthest_from_one(tables):
    given = {"ellipsoids": (0.9, 1.05), "icbm152": (0.8,), "qsm_forward": (1.1,)}
    for key, expected in (("xsim", "0.800 (icbm152)"), ("slope", "0.800 (icbm152)")):
        text = tables.table(rows_of(tables, "m", **given, key=key), score(tables, key))
        assert text.splitlines()[-1].endswith(f"| {expected} |")


def test_a_failed_run_is_worse_than_any_value_and_cannot_hide_behind_another_head(tables):
    failed = rows_of(tables, "failed once", ellipsoids=(5, None), icbm152=(5,), qsm_forward=(5,))
    bad = rows_of(tables, "bad", ellipsoids=(99, 99), icbm152=(99,), qsm_forward=(99,))
    text = tables.table(failed + bad, score(tables, "nrmse"))
    assert methods(text) == ["bad", "failed once"]
    assert text.splitlines()[-1] == "| failed once | failed | 5.0 | 5.0 | failed (ellipsoids) |"
    nowhere = rows_of(tables, "nowhere", ellipsoids=(None, None), icbm152=(None,), qsm_forward=(None,))
    assert methods(tables.table(nowhere, score(tables, "nrmse"))) == ["nowhere"]


def test_a_method_that_lacks_a_generator_stands_after_those_that_have_all(tables):
    part = rows_of(tables, "part", ellipsoids=(1, 1))
    whole = rows_of(tables, "whole", ellipsoids=(50, 50), icbm152=(50,), qsm_forward=(50,))
    text = tables.table(part + whole, score(tables, "nrmse"))
    assert methods(text) == ["whole", "part"] and "| part | 1.0 | – | – | 1.0 (ellipsoids) |" in text


def test_rows_of_other_voxels_are_left_out(tables):
    rows = rows_of(tables, "consensus-fansi", ellipsoids=(5,), icbm152=(6,), qsm_forward=(7,))
    assert "7.0 (qsm-forward)" in tables.document(rows, [row["head"] for row in rows], None, 8.0)
    assert "7.0 (qsm-forward)" not in tables.document(rows, [row["head"] for row in rows], 3.0, 8.0)


def test_every_generator_has_two_heads_and_says_who_made_them(module):
    heads = module("heads")
    assert {name: len(of) for name, of in heads.OF_GENERATOR.items()} == dict.fromkeys(heads.GENERATORS, 2)
    for name, generator in heads.GENERATOR.items():
        assert f"made by {generator}" in heads.facts(name)
        assert heads.EVERY_HEAD[name].checked()
    assert heads.with_voxels_of(heads.EVERY_HEAD["noisy, thick, lesions"], 3.0).voxel_size_mm() == (3.0, 3.0, 6.0)


def test_a_mask_finer_than_its_grid_keeps_its_volume_and_its_place(module):
    """The grid of qsm-forward starts at the centre of the scanner's first voxel."""
    finer_mask = module("qsm_forward_head").finer_mask
    mask = np.zeros((5, 4, 6), bool)
    mask[1:3, 2, 3:5] = True
    for factor in (1, 2, 3, 4):
        share = finer_mask(mask, factor)
        assert share.shape == tuple(n * factor for n in mask.shape)
        assert share.sum() == pytest.approx(mask.sum() * factor**3)
        centre = [(share.sum(axis=tuple({0, 1, 2} - {a})) @ np.arange(share.shape[a])) / share.sum() for a in range(3)]
        assert centre == pytest.approx([1.5 * factor, 2 * factor, 3.5 * factor])


def test_what_a_mask_holds_too_much_and_lacks(module):
    brain = np.zeros((4, 4, 4), bool)
    brain[:2] = True
    found = np.zeros_like(brain)
    found[1:3] = True
    assert module("generator_scores").scores_of_mask(found, brain) == {"dice": 0.5, "outside": 50.0, "lost": 50.0}
