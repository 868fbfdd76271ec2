"""Strip plots of the group report, one dot a run, as places and words of an inline SVG that the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.report.axis import Tick, even_numbers
from qsmprep.report.group.runs import GroupRun

# Pixels of the drawing.
WIDTH, LEFT, RIGHT = 360, 12, 348
TOP, LANE, ALONE, FOOT = 6, 46, 64, 24
NAME_HEIGHT = 13  # above the dots of a lane, for the lane's name
LONGEST_NAME = 46
FEWEST_OF_BOX = 5  # runs from which quartiles are drawn
MOST_LANES = 8
MOST_LABELS = 6
FARTHEST = 12.0  # robust spreads from the median at which the axis ends: a farther dot is drawn at its end
LETTER = 6.2  # width of a letter of a label
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Number:
    """A number of every run.

    Attributes
    ----------
    title, unit : what it is.
    values : (runs,), NaN where there is none.
    outliers : for each run in words why it stands out, empty where it does not.
    flagged : for each run whether it is beyond an absolute limit.
    limits : (name, value) of absolute limits, NaN where there is none; drawn when they are near the values.
    """

    title: str
    unit: str
    values: np.ndarray
    outliers: Sequence[str]
    flagged: Sequence[bool]
    limits: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Axis:
    """The values at both ends of the drawing."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Pixel of a value; of one beyond the axis, that of its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def holds(self, value: float) -> bool:
        """Whether a value lies on it."""
        return self.low <= value <= self.high


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

    @property
    def plain(self) -> str:
        """Run, x and y of each dot that does not stand out: the page's script draws them when the plot is seen."""
        return " ".join(f"{dot.run} {dot.x:g} {dot.y:g}" for dot in self.dots if not dot.kind)

    @property
    def marked(self) -> list[Dot]:
        """The dots that stand out."""
        return [dot for dot in self.dots if dot.kind]


def strip_plot(
    number: Number, runs: Sequence[GroupRun], lanes: Sequence[tuple[str, str, Sequence[int]]], *, boxes: bool = False
) -> StripPlot | None:
    """Dots of a number over the runs, a lane for each group; None where no run has the number.

    Parameters
    ----------
    lanes : (name, longer name, numbers of its runs) of each group; one without a value is left out.
    boxes : whether quartiles are drawn.
    """
    there = np.isfinite(number.values)
    if not there.any():
        return None
    axis, limits = _axis(number.values[there], [(name, v) for name, v in number.limits if math.isfinite(v)])
    lanes = [lane for lane in lanes if there[list(lane[2])].any()]
    height = LANE if len(lanes) > 1 else ALONE
    dots, drawn = [], []
    for i, (name, longer, members) in enumerate(lanes):
        top = TOP + i * height
        middle = top + NAME_HEIGHT + (height - NAME_HEIGHT) / 2
        own = [m for m in members if there[m]]
        for rank, run in enumerate(own):
            # Multiples of the golden ratio spread evenly, however many there are, and are the same every time.
            jitter = (2 * ((rank + 0.5) * GOLDEN % 1) - 1) * ((height - NAME_HEIGHT) / 2 - 5)
            dots.append(_dot(number, runs[run], axis, round(middle + jitter, 1)))
        marks = np.percentile(number.values[own], (25, 50, 75)) if boxes and len(own) >= FEWEST_OF_BOX else ()
        shown = shortened(f"{name} ({len(own)} {'run' if len(own) == 1 else 'runs'})" if name else "")
        drawn.append(Lane(shown, longer, top, middle, tuple(axis.place(float(mark)) for mark in marks)))
    bottom = TOP + len(lanes) * height
    return StripPlot(
        bottom + FOOT,
        bottom,
        tuple(drawn),
        tuple(sorted(dots, key=lambda dot: dot.kind != "")),  # those that stand out are drawn last
        tuple(_labels([dot for dot in dots if dot.kind], runs)),
        tuple(Tick(axis.place(value), figure(value)) for value in even_numbers(axis.low, axis.high, 4)),
        tuple(Tick(axis.place(value), f"{name} limit {figure(value)}") for name, value in limits),
        _sentence(number, there),
        sum(not axis.holds(float(value)) for value in number.values[there]),
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


def _dot(number: Number, run: GroupRun, axis: Axis, y: float) -> Dot:
    value, why = float(number.values[run.number]), number.outliers[run.number]
    words = [f"{run.name}: {figure(value)} {number.unit}".rstrip(), why, run.verdict]
    words.append("" if axis.holds(value) else "beyond the axis")
    kind = "outlier" if why else ("flagged" if number.flagged[run.number] else "")
    return Dot(axis.place(value), y, run.number, "; ".join(filter(None, words)), run.report, kind)


def _sentence(number: Number, there: np.ndarray) -> str:
    """What the plot shows, for who does not see it."""
    values = number.values[there]
    ends = [figure(float(value)) for value in (np.median(values), values.min(), values.max())]
    unit = f" {number.unit}" if number.unit else ""
    far = sum(bool(why) for why, has in zip(number.outliers, there, strict=True) if has)
    return f"{number.title}: {values.size} runs, median {ends[0]}{unit}, from {ends[1]} to {ends[2]}; {far} outliers."


def _axis(values: np.ndarray, limits: Sequence[tuple[str, float]]) -> tuple[Axis, list[tuple[str, float]]]:
    """The axis, and the limits that lie near enough to the values to be drawn."""
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    low, high = float(values.min()), float(values.max())
    if spread > 0:
        low, high = max(low, median - FARTHEST * spread), min(high, median + FARTHEST * spread)
    span = (high - low) or abs(median) or 1.0
    near = [(name, value) for name, value in limits if low - 0.4 * span <= value <= high + 0.4 * span]
    low, high = min([low, *(value for _, value in near)]), max([high, *(value for _, value in near)])
    margin = 0.04 * (high - low) or 0.5 * (abs(median) or 1.0)
    return Axis(low - margin, high + margin), near


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
