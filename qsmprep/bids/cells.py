"""Cells of a table as text, that neither break the table nor are taken for a formula."""

from __future__ import annotations

import math
import re
from typing import Any

MISSING = "n/a"
_QUANTITY = re.compile(r"[+-][\d.]+(e[+-]?\d+)?( [\w%/.,;]+)*")  # a signed number, with words after it
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet evaluates when a cell begins with it


def cell(value: Any, digits: int = 10) -> str:
    """One cell: a number to so many digits, a text in one line, `n/a` for what is not known.

    A text that a spreadsheet would evaluate begins with an apostrophe, by which it is shown as the text it is.

    >>> cell(0.1), cell(float("nan")), cell("left\\tputamen"), cell(" ")
    ('0.1', 'n/a', 'left putamen', 'n/a')
    >>> cell("=cmd|'/c calc'!A1"), cell("-2+3+cmd"), cell("-left"), cell("-0.05 ppm")
    ("'=cmd|'/c calc'!A1", "'-2+3+cmd", "'-left", '-0.05 ppm')
    """
    if isinstance(value, float):
        return f"{value:.{digits}g}" if math.isfinite(value) else MISSING
    text = " ".join(str(value).split())
    return f"'{text}" if text.startswith(FORMULA) and not _QUANTITY.fullmatch(text) else text or MISSING
