"""Line plots of how an iteration went, as the lines and words of an inline SVG that the page's template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsmprep.report.axis import BOTTOM, LEFT, RIGHT, TOP, Tick, even_numbers, number_words
from qsmprep.report.record import Curve, words


@dataclass(frozen=True)
class Plot:
    """A line plot ready to be drawn.

    Attributes
    ----------
    points : of the line, "x,y x,y" in pixels.
    end : x and y of its last point in pixels.
    across, up : ticks of both axes.
    across_label, up_label : of the axes.
    title : what the plot shows, in a sentence, for who does not see it.
    """

    points: str
    end: tuple[float, float]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    across_label: str
    up_label: str
    title: str


def line_plot(curve: Curve, over: str = "iteration", *, logarithmic: bool | None = None) -> Plot:
    """A plot over the iterations, or over what `over` says.

    Parameters
    ----------
    curve : of two points or more, finite, at two iterations or more.
    over : what is counted across, in the singular.
    logarithmic : upwards (default: where all values are above 0).
    """
    x, y = curve.iterations, curve.values
    logarithmic = min(y) > 0 if logarithmic is None else logarithmic
    low, high = _range(y, logarithmic)

    def across(value: float) -> float:
        return round(LEFT + (value - min(x)) / (max(x) - min(x)) * (RIGHT - LEFT), 1)

    def up(value: float) -> float:
        value = math.log10(value) if logarithmic else value
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    upward = _decades(low, high) if logarithmic else even_numbers(low, high, 5)
    whole = [value for value in even_numbers(min(x), max(x), 6) if value == round(value)]
    return Plot(
        " ".join(f"{across(i)},{up(v)}" for i, v in zip(x, y, strict=True)),
        (across(x[-1]), up(y[-1])),
        tuple(Tick(across(value), f"{value:.0f}") for value in whole),
        tuple(Tick(up(value), number_words(value)) for value in upward),
        over,
        curve.name + (" (log scale)" if logarithmic else ""),
        f"Line plot over the {over}s: {curve.name} goes from {words(y[0])} at {over} {words(x[0])} to "
        f"{words(y[-1])} at {over} {words(x[-1])}; the smallest value is {words(min(y))}.",
    )


def _range(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    """Ends of the upward axis, a little beyond the values; logarithms where the axis is of that kind."""
    low, high = min(values), max(values)
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    margin = 0.06 * (high - low) or (0.1 if logarithmic else 0.1 * abs(high) or 1.0)
    return low - margin, high + margin


def _decades(low: float, high: float) -> list[float]:
    """Round numbers between 10**low and 10**high: powers of ten, with numbers between them where those are few."""
    for factors in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(low), math.floor(high) + 1)
        found = [f * 10.0**p for p in powers for f in factors if low <= math.log10(f) + p <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / 8)]
    return even_numbers(10**low, 10**high, 4)
