"""Histograms of maps: counted once by the node that draws the map, drawn by the page as an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qsmprep.report.axis import BOTTOM, LEFT, RIGHT, TOP, Tick, even_numbers, number_words
from qsmprep.report.numbers import quantity_words

SUFFIX = "_histogram.json"
_BINS = 96
_TAIL = 0.1  # percent of the voxels left out at each end, so that a few wild ones do not squeeze the rest


@dataclass(frozen=True)
class Histogram:
    """How often each value occurs.

    Attributes
    ----------
    label : of the values, with unit.
    low, high : ends of the range that is counted, split into equal bins.
    counts : voxels of each bin.
    voxels : that have a finite value, those beyond the range included.
    mean, sd, median, p5, p95 : of all of them.
    """

    label: str
    low: float
    high: float
    counts: tuple[int, ...]
    voxels: int
    mean: float
    sd: float
    median: float
    p5: float
    p95: float

    def document(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "counts": list(self.counts)}


@dataclass(frozen=True)
class HistogramPlot:
    """A histogram ready to be drawn: outline of its area, ticks and words, and the sentence for who does not see it."""

    area: str
    across: tuple[Tick, ...]
    across_label: str
    zero: float | None
    title: str
    numbers: str


def histogram(volume: np.ndarray, mask: np.ndarray | None, *, label: str = "") -> Histogram | None:
    """Count the finite values of a map inside a mask; None where there are none or all are equal.

    Parameters
    ----------
    volume : (n0, n1, n2).
    mask : bool volume of that shape; None counts every voxel.
    label : of the values, with unit.
    """
    values = np.asarray(volume if mask is None else volume[np.asarray(mask, bool)], np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0 or values.min() == values.max():
        return None
    low, p5, median, p95, high = (float(p) for p in np.percentile(values, (_TAIL, 5, 50, 95, 100 - _TAIL)))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    return Histogram(
        label, low, high, tuple(int(n) for n in counts), int(values.size), float(values.mean()), float(values.std()),
        median, p5, p95,
    )  # fmt: skip


def read_histogram(document: Any) -> Histogram | None:
    """A histogram from its JSON document; None for what is not one."""
    if not isinstance(document, Mapping):
        return None
    try:
        numbers = [float(document[name]) for name in ("low", "high", "mean", "sd", "median", "p5", "p95")]
        counts = tuple(int(n) for n in document["counts"])
        voxels = int(document["voxels"])
    except (KeyError, TypeError, ValueError):
        return None
    low, high, *rest = numbers
    if not (all(math.isfinite(n) for n in numbers) and low < high and counts and max(counts) > 0 <= min(counts)):
        return None
    return Histogram(str(document.get("label", "")), low, high, counts, voxels, *rest)


def histogram_plot(found: Histogram) -> HistogramPlot:
    """The drawing of a histogram: a filled outline over an axis of values."""
    width = (RIGHT - LEFT) / len(found.counts)
    top = max(found.counts)
    points = [f"{LEFT},{BOTTOM}"]
    for i, count in enumerate(found.counts):
        y = round(BOTTOM - count / top * (BOTTOM - TOP), 1)
        points += [f"{round(LEFT + i * width, 1)},{y}", f"{round(LEFT + (i + 1) * width, 1)},{y}"]
    points.append(f"{RIGHT},{BOTTOM}")

    def place(value: float) -> float:
        return round(LEFT + (value - found.low) / (found.high - found.low) * (RIGHT - LEFT), 1)

    ticks = tuple(Tick(place(value), number_words(value)) for value in even_numbers(found.low, found.high, 7))
    # No finer than a hundredth of how far the values spread.
    decimals = 2 - math.floor(math.log10(found.sd)) if found.sd > 0 and math.isfinite(found.sd) else 4
    values = (found.mean, found.sd, found.median, found.p5, found.p95)
    told = [quantity_words(round(value, decimals)) for value in values]
    numbers = (
        f"mean {told[0]}, standard deviation {told[1]}, median {told[2]}, "
        f"5th to 95th percentile {told[3]} to {told[4]}; {found.voxels:,} voxels"
    )
    zero = place(0) if found.low < 0 < found.high else None
    return HistogramPlot(" ".join(points), ticks, found.label, zero, f"Histogram of {found.label}: {numbers}.", numbers)
