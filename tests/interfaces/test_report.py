"""The node that chooses the window of susceptibility, and how captions tell it."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import values

from qsmprep.interfaces.report import ChooseWindow, DrawFigure
from qsmprep.report.pictures import PICTURES
from qsmprep.report.window import told_windows
from qsmprep.workflows.report import Figure

MASK = np.ones((16, 16, 16), bool)
BLEED = np.where(np.arange(16) < 6, 0.62, 0.01)[:, None, None] * MASK


def write(path, array):
    nib.save(nib.Nifti1Image(array.astype(np.uint8 if array.dtype == bool else np.float32), np.eye(4)), path)
    return str(path)


def chosen(tmp_path, window, style="chi"):
    """Window and record of a map with a bleed."""
    files = {"in_file": write(tmp_path / "chi.nii", BLEED), "mask": write(tmp_path / "mask.nii", MASK)}
    step = ChooseWindow(**files, style=style, label="susceptibility", options={"chi_window": window})
    found = step.run(cwd=str(tmp_path)).outputs
    return tuple(found.window), json.loads(Path(found.record).read_text("utf-8"))["record"]


@pytest.mark.parametrize(
    ("window", "style", "limits"),
    [
        ("-0.2,0.2", "chi", (-0.2, 0.2)),
        ("0.3", "chi", (-0.3, 0.3)),
        ("0.3", "source", (0, 0.1)),
        ("auto", "chi", (-0.65, 0.65)),
        ("auto", "source", (0, 0.65)),
    ],
)
def test_the_window_is_as_given_or_holds_what_would_saturate(tmp_path, window, style, limits):
    found, record = chosen(tmp_path, window, style)
    assert found == pytest.approx(limits)
    assert values(record)["window"] == pytest.approx(limits)
    assert record["method"] == ("auto" if window == "auto" else "fixed")


def test_captions_state_the_window_that_was_chosen(tmp_path):
    _, record = chosen(tmp_path, "auto")
    windows = told_windows([{"stage": "input"}, record])
    assert "-0.65 to 0.65 ppm" in Figure(PICTURES["chi"], ("inversion", "chi")).caption(windows)
    for other in ("local", "paramagnetic"):
        assert Figure(PICTURES[other], ("x", "x")).caption(windows) == PICTURES[other].caption


def test_a_picture_is_drawn_in_the_window_it_is_given(tmp_path):
    image, mask = write(tmp_path / "chi.nii", BLEED), write(tmp_path / "mask.nii", MASK)
    pictures = []
    for name, given in (("a", {}), ("b", {"window": [-0.65, 0.65]})):
        draw = DrawFigure(in_file=image, mask=mask, display=dict(PICTURES["chi"].display), **given,
                          out_file=str(tmp_path / f"{name}.png"))  # fmt: skip
        pictures.append(Path(draw.run(cwd=str(tmp_path)).outputs.out_file).read_bytes())
    assert pictures[0] != pictures[1]
