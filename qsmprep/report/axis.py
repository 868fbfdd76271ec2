"""Axes of the report's inline drawings: the frame in pixels, round numbers for ticks, and their words."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Pixels of the drawing: all of it, and the frame of its axes inside.
WIDTH, HEIGHT = 640, 250
LEFT, RIGHT, TOP, BOTTOM = 70, 622, 30, 200


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in pixels and its words."""

    place: float
    label: str


def even_numbers(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high.

    >>> even_numbers(1, 400, 5)
    [100.0, 200.0, 300.0, 400.0]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def number_words(value: float) -> str:
    """A tick's number, short; powers of ten in figures beyond three zeros."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
