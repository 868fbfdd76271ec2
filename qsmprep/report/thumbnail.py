"""A small picture of a map that travels inside the large one: a text of the PNG file, so that a page over a thousand
runs reads the first kilobytes of each and decodes none."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from pathlib import Path

import numpy as np

from qsmprep.report.png_text import read_texts

KEYWORD = "qsmprep:thumbnail"  # of the tEXt chunk
HEIGHT = 72  # pixels of the longer side
QUALITY = 72  # of the JPEG: some 1.3 kB
MOST_BYTES = 4096  # of one that is believed
_JPEG = b"\xff\xd8\xff"


def make_thumbnail(pixels: np.ndarray) -> str:
    """A slice as a small grey JPEG in base64, its longer side 72 pixels.

    Parameters
    ----------
    pixels : (rows, columns, 3) uint8, as the large picture shows the slice.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    image.thumbnail((HEIGHT, HEIGHT), Image.Resampling.BOX)
    stream = BytesIO()
    image.save(stream, format="JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def read_thumbnail(picture: Path) -> str:
    """The thumbnail inside a PNG file, in base64; empty where the file is not there or holds none.

    What is no JPEG of a few kilobytes is not believed: the text goes into a page.
    """
    try:
        with Path(picture).open("rb") as stream:
            texts = dict(read_texts(stream.read(4 * MOST_BYTES)))
    except OSError:
        return ""
    text = texts.get(KEYWORD, b"")
    try:
        image = base64.b64decode(text, validate=True)
    except binascii.Error:
        return ""
    return text.decode("ascii") if image.startswith(_JPEG) and len(image) <= MOST_BYTES else ""
