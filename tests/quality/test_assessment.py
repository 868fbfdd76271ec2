"""All quality numbers of a run, flags and verdict."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from qsmprep.quality.assessment import DEFINITIONS, Images, assess, document, flag_of, verdict_of
from qsmprep.scan import Scan

SCAN = Scan(voxel_size_mm=(4.0, 4.0, 4.0))
BALL = sum((np.indices((30, 30, 30)) - 14.5) ** 2) < 100


def test_with_a_mask_alone_every_other_number_is_unknown():
    quality = assess(Images(brain_mask=BALL), SCAN)
    known = {name for name, value in quality.metrics.items() if math.isfinite(value)}
    assert known == {"mask_volume"}
    assert [flag.metric for flag in quality.flags] == ["mask_volume"]
    assert quality.verdict == "check"


def test_the_document_has_no_nan_and_one_definition_a_number():
    found = document(assess(Images(brain_mask=BALL), SCAN))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["metrics"]["streaking"] is None
    assert list(found["metrics"]) == list(found["definitions"]) == list(DEFINITIONS)
    assert all(definition["title"] and definition["description"] for definition in found["definitions"].values())


def test_a_limit_has_an_artefact_and_a_remedy():
    for name, definition in DEFINITIONS.items():
        limited = definition.low is not None or definition.high is not None
        assert limited == bool(definition.artefact) == bool(definition.remedy), name


def test_a_flag_names_value_limit_and_side():
    flag = flag_of("iron_contrast", -0.02)
    assert (flag.side, flag.limit) == ("low", 0.0)
    assert "-0.02 ppm, below 0 ppm" in flag.message
    assert flag_of("iron_contrast", 0.02) is None
    assert flag_of("iron_contrast", math.nan) is None
    assert flag_of("field_noise", 1e6) is None


def test_one_severe_flag_or_many_others_spoil_a_run():
    assert verdict_of(()) == "usable"
    assert verdict_of((flag_of("ghost_level", 50.0),)) == "check"
    assert verdict_of((flag_of("iron_contrast", -1.0),)) == "do not use"
    many = {"ghost_level": 50.0, "mask_lost": 90.0, "unreliable": 50.0, "mask_volume": 1e4}
    assert verdict_of(tuple(flag_of(*item) for item in many.items())) == "do not use"


def test_shapes_that_differ_and_an_empty_mask_are_refused():
    with pytest.raises(ValueError, match="chi_ppm has shape"):
        assess(Images(brain_mask=BALL, chi_ppm=np.zeros((3, 3, 3), np.float32)), SCAN)
    with pytest.raises(ValueError, match="empty"):
        assess(Images(brain_mask=np.zeros_like(BALL)), SCAN)


def test_the_page_of_numbers_is_up_to_date():
    folder = Path(__file__).parents[2] / "docs"
    made = runpy.run_path(str(folder / "make_quality.py"))
    assert (folder / "quality.md").read_text("utf-8") == made["page"]()
