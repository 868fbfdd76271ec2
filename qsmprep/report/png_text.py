"""Texts inside PNG files: what a picture says of itself, read without decoding a pixel."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from qsmprep.report.montage import PLANES

SLICES = "qsmprep:slices"  # keyword of the places of the slices: JSON, plane -> mm along the patient's axis through it
MOST_SLICES = 32  # of a plane that are believed
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 64


def read_texts(start: bytes) -> Iterator[tuple[str, bytes]]:
    """Keyword and text of the tEXt chunks before the pixels in the first bytes of a PNG file."""
    if not start.startswith(_SIGNATURE):
        return
    place = len(_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(start):
            return
        length, kind = struct.unpack_from(">I4s", start, place)
        if kind == b"IDAT":
            return
        if kind == b"tEXt":
            keyword, _, text = start[place + 8 : place + 8 + length].partition(b"\0")
            yield keyword.decode("latin-1"), text
        place += 12 + length  # length, kind and checksum stand around the content


def read_slices(png: bytes) -> Mapping[str, tuple[float, ...]]:
    """Where the slices of a mosaic lie in mm, by plane; empty where the file does not say, or no such thing."""
    text = dict(read_texts(png)).get(SLICES, b"")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    known = {plane.name: found.get(plane.name) for plane in PLANES}
    return {
        name: tuple(float(mm) for mm in places[:MOST_SLICES])
        for name, places in known.items()
        if isinstance(places, list) and all(type(mm) in (int, float) and math.isfinite(mm) for mm in places)
    }
