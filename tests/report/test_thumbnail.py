"""The small picture inside the large one of a susceptibility map."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qsmprep.report.figures import mosaic
from qsmprep.report.pictures import PICTURES
from qsmprep.report.thumbnail import HEIGHT, KEYWORD, MOST_BYTES, read_thumbnail

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def picture(path, **shown):
    volume = np.zeros((24, 30, 21), np.float32)
    volume[:12, :, 10] = 0.2  # the patient's left half (the axis runs to the right), of the middle slice alone
    path.write_bytes(mosaic(volume, AFFINE, window=(-0.2, 0.2), **shown))
    return path


def test_it_is_the_middle_axial_slice_small_and_grey(tmp_path):
    text = read_thumbnail(picture(tmp_path / "map.png", thumbnail=True))
    small = Image.open(BytesIO(base64.b64decode(text)))
    pixels = np.asarray(small, float)
    assert small.mode == "L" and max(small.size) == HEIGHT and len(text) < 3000
    left, right = pixels[:, : small.width // 2 - 4].mean(), pixels[:, small.width // 2 + 4 :].mean()
    assert left == pytest.approx(128, abs=4) and right > 245  # the patient's left is on the right


def test_only_the_susceptibility_map_carries_one(tmp_path):
    assert read_thumbnail(picture(tmp_path / "map.png")) == ""
    assert [name for name, kind in PICTURES.items() if kind.display.get("thumbnail")] == ["chi"]


@pytest.mark.parametrize(
    "text",
    ['"><script>alert(1)</script>', base64.b64encode(b"<svg onload=alert(1)>").decode(), "not base64",
     base64.b64encode(b"\xff\xd8\xff" + bytes(MOST_BYTES)).decode(), base64.b64encode(b"\xff\xd8\xff").decode() + '"'],
)  # fmt: skip
def test_what_is_no_small_jpeg_is_not_believed(text, tmp_path):
    texts = PngInfo()
    texts.add_text(KEYWORD, text)
    Image.new("L", (8, 8)).save(tmp_path / "map.png", pnginfo=texts)
    assert read_thumbnail(tmp_path / "map.png") == ""


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"])
def test_a_file_that_is_no_picture_has_none(content, tmp_path):
    (tmp_path / "map.png").write_bytes(content)
    assert read_thumbnail(tmp_path / "map.png") == "" == read_thumbnail(tmp_path / "gone.png")
