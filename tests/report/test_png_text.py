"""Where the slices of a picture lie, as its file says."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qsmprep.report.figures import mosaic
from qsmprep.report.png_text import SLICES, read_slices


def png(text):
    stream, texts = io.BytesIO(), PngInfo()
    texts.add_text(SLICES, text)
    Image.new("L", (2, 2)).save(stream, "PNG", pnginfo=texts)
    return stream.getvalue()


def test_a_mosaic_says_where_each_of_its_slices_lies():
    affine = np.array([[0, 0, -2.5, 31], [1.5, 0, 0, -20], [0, 3, 0, -10.25], [0, 0, 0, 1]])
    found = read_slices(mosaic(np.ones((30, 20, 26), np.float32), affine))
    assert {plane: len(places) for plane, places in found.items()}.keys() == {"axial", "coronal", "sagittal"}
    for plane, step, start in (("axial", 3, -10.25), ("coronal", 1.5, -20), ("sagittal", 2.5, 31)):
        steps = (np.array(found[plane]) - start) / step
        assert np.allclose(steps, np.rint(steps)) and len(set(steps)) >= 3, "in the middle of a voxel, not rounded"


@pytest.mark.parametrize("text", ["", "x", "[1]", "3", '{"axial": "1"}', '{"axial": [true]}', '{"axial": [null]}',
                                  '{"axial": [NaN]}', "[" * 5000, '{"other": [1]}'])  # fmt: skip
def test_what_a_file_says_is_believed_only_if_it_is_places(text):
    assert read_slices(png(text)) == {}


def test_no_more_slices_are_believed_than_a_picture_has():
    assert len(read_slices(png(json.dumps({"axial": [1] * 1000})))["axial"]) == 32
    assert read_slices(b"") == read_slices(b"no picture") == {}
