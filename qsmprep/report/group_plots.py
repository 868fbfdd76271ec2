"""Strip plots of the group report, one dot a run, as places and words of an inline SVG that the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.report.axis import Tick, even_numbers
from qsmprep.report.group_runs import GroupRun

# Pixels of the drawing.
WIDTH, LEFT, RIGHT = 360, 12, 348
TOP, LANE, ALONE, FOOT = 6, 46, 64, 24
NAME_HEIGHT = 13  # above the dots of a lane, for the lane's name
LONGEST_NAME = 46
MOST_LANES = 8
MOST_LABELS = 6
FARTHEST = 12.0  # robust spreads from the median at which the axis ends: a farther dot is drawn at its end
LETTER = 6.2  # width of a letter of a label
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Dot:
    """A run: its place, what it tells when pointed at, where it leads, and how it is drawn."""

    x: float
    y: float
    run: int
    title: str
    href: str
    kind: str


@dataclass(frozen=True)
class Label:
    """The name beside a dot that stands out."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Lane:
    """A row of dots: its name, its middle, its quartiles (x of 25, 50, 75 %; empty with few values)."""

    name: str
    title: str
    top: float
    middle: float
    quartiles: tuple[float, ...]


@dataclass(frozen=True)
class StripPlot:
    """A strip plot ready to be drawn."""

    height: float
    bottom: float
    lanes: tuple[Lane, ...]
    dots: tuple[Dot, ...]
    labels: tuple[Label, ...]
    ticks: tuple[Tick, ...]
    limits: tuple[Tick, ...]
    title: str
    beyond: int


def strip_plot(
    values: np.ndarray,
    runs: Sequence[GroupRun],
    *,
    title: str,
    unit: str,
    lanes: Sequence[tuple[str, str, Sequence[int]]],
    outliers: Sequence[str],
    flagged: Sequence[bool],
    limits: Sequence[tuple[str, float]] = (),
    boxes: bool = False,
) -> StripPlot | None:
    """Dots of a number over the runs, a lane for each group; None where no run has the number.

    Parameters
    ----------
    values : (runs,), NaN where there is none.
    title, unit : what the number is.
    lanes : (name, longer name, numbers of its runs) of each group.
    outliers : for each run in words why it stands out, empty where it does not; flagged : beyond an absolute limit.
    limits : (name, value) of absolute limits, drawn when they are near the values.
    boxes : whether quartiles are drawn.
    """
    there = np.isfinite(values)
    if not there.any():
        return None
    low, high, near = _range(values[there], [value for _, value in limits if math.isfinite(value)])
    height = LANE if len(lanes) > 1 else ALONE

    def place(value: float) -> float:
        return round(LEFT + (min(max(value, low), high) - low) / (high - low) * (RIGHT - LEFT), 1)

    dots, drawn = [], []
    for i, (name, longer, members) in enumerate(lanes):
        top = TOP + i * height
        middle = top + NAME_HEIGHT + (height - NAME_HEIGHT) / 2
        own = [m for m in members if there[m]]
        spread = (height - NAME_HEIGHT) / 2 - 5
        dots += [_dot(m, k, values, runs, place, middle, spread, unit, outliers, flagged, low, high)
                 for k, m in enumerate(own)]  # fmt: skip
        marks = np.percentile(values[own], (25, 50, 75)) if boxes and len(own) >= 5 else ()
        shown = shortened(f"{name} ({len(own)} {'run' if len(own) == 1 else 'runs'})" if name else "")
        drawn.append(Lane(shown, longer, top, middle, tuple(place(float(mark)) for mark in marks)))
    bottom = TOP + len(lanes) * height
    beyond = int(((values[there] < low) | (values[there] > high)).sum())
    median = float(np.median(values[there]))
    said = f"{title}: {there.sum()} runs, median {figure(median)} {unit}".rstrip()
    said += f", from {figure(float(values[there].min()))} to {figure(float(values[there].max()))}; "
    said += f"{sum(bool(outliers[d.run]) for d in dots)} outliers."
    return StripPlot(
        bottom + FOOT,
        bottom,
        tuple(drawn),
        tuple(sorted(dots, key=lambda dot: dot.kind != "")),  # those that stand out are drawn last
        tuple(_labels([dot for dot in dots if dot.kind], runs)),
        tuple(Tick(place(value), figure(value)) for value in even_numbers(low, high, 4)),
        tuple(Tick(place(value), f"{name} limit {figure(value)}") for name, value in limits if value in near),
        said,
        beyond,
    )


def figure(value: float) -> str:
    """A number, short, with a true minus sign; empty when there is none.

    >>> figure(-0.012345)
    '−0.0123'
    """
    if not math.isfinite(value):
        return ""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.5g}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    """The text, its middle left out where it is too long for the drawing."""
    if len(text) <= most:
        return text
    kept = most - 1
    return text[: kept - kept // 3] + "…" + text[-(kept // 3) :]


def _dot(run, rank, values, runs, place, middle, spread, unit, outliers, flagged, low, high) -> Dot:
    value = float(values[run])
    # The multiples of the golden ratio spread evenly, however many there are, and are the same every time.
    jitter = 2 * ((rank + 0.5) * GOLDEN % 1) - 1
    words = [f"{runs[run].name}: {figure(value)} {unit}".rstrip(), outliers[run], runs[run].verdict]
    kind = "outlier" if outliers[run] else ("flagged" if flagged[run] else "")
    if not low <= value <= high:
        words.append("beyond the axis")
    return Dot(
        place(value), round(middle + jitter * spread, 1), run, "; ".join(filter(None, words)), runs[run].report, kind
    )


def _range(values: np.ndarray, limits: Sequence[float]) -> tuple[float, float, tuple[float, ...]]:
    """Ends of the axis, and the limits that lie near enough to the values to be drawn."""
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    low, high = float(values.min()), float(values.max())
    if spread > 0:
        low, high = max(low, median - FARTHEST * spread), min(high, median + FARTHEST * spread)
    span = (high - low) or abs(median) or 1.0
    shown = tuple(limit for limit in limits if low - 0.4 * span <= limit <= high + 0.4 * span)
    low, high = min((low, *shown)), max((high, *shown))
    margin = 0.04 * (high - low) or 0.5 * (abs(median) or 1.0)
    return low - margin, high + margin, shown


def _labels(dots: Sequence[Dot], runs: Sequence[GroupRun]) -> list[Label]:
    """Names beside the dots that stand out, as far as there is room for them."""
    labels: list[Label] = []
    taken: list[tuple[float, float, float]] = []
    for dot in sorted(dots, key=lambda dot: (dot.kind != "outlier", -abs(dot.x - (LEFT + RIGHT) / 2))):
        text = shortened(runs[dot.run].name, 24)
        width = LETTER * len(text)
        right = dot.x + 7 + width <= WIDTH
        start = dot.x + 7 if right else dot.x - 7 - width
        free = all(start + width < a or start > b or abs(dot.y - y) >= 11 for a, b, y in taken)
        if free and start >= 0 and len(labels) < MOST_LABELS:
            taken.append((start, start + width, dot.y))
            labels.append(Label(dot.x + 7 if right else dot.x - 7, dot.y + 3.5, "start" if right else "end", text))
    return labels
