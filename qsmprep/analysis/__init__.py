"""Analysis of susceptibility maps: scores against a truth, and the choice of a method's parameter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One number that compares a map with the truth.

    Attributes
    ----------
    value : the number; NaN where it does not exist (a tissue that is not there).
    unit : "%", "dB", "ppm voxel", "nat", or empty for a pure number.
    better : "lower", "higher", or "1" for a slope.
    warning : what the reader should worry about; empty otherwise.
    """

    value: float
    unit: str
    better: str
    warning: str = ""
