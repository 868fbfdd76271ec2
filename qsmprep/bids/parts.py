"""Whether magnitude and phase are what their names say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qsmprep.bids.images import Header, VoxelSurvey
from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import GreRun

RADIANS = ("rad", "radian", "radians")
NEGATIVE_NOISE = 1e-3  # share of the largest magnitude that interpolation may leave below zero


def check_swapped(run: GreRun, surveys: Mapping[Path, VoxelSurvey], headers: Mapping[Path, Header]) -> list[Problem]:
    """A magnitude that is one only by its name: negative, or a phase beside a phase that is a magnitude."""
    if run.is_complex:
        return []
    problems = []
    for echo in run.echoes:
        if echo.magnitude is None or echo.phase is None:
            continue
        low, high = _scaled_range(surveys[echo.magnitude], headers[echo.magnitude])
        least, greatest = _scaled_range(surveys[echo.phase], headers[echo.phase])
        units = echo.metadata.get("phase", {}).get("Units")
        radians = isinstance(units, str) and units.strip().lower() in RADIANS
        is_period = abs(high - low - 2 * np.pi) < 0.2 and high < 2 * np.pi + 0.1
        never_wraps = radians and least >= 0 and greatest < np.pi
        negative = low < -NEGATIVE_NOISE * max(high, 0)
        if least >= 0 and (negative or (is_period and never_wraps)):
            problems.append(Problem("error", "parts-swapped", echo.magnitude,
                                    "the values are those of a phase, and those of its part-phase of a magnitude",
                                    "magnitude as part-mag, phase as part-phase",
                                    "Exchange the names of the two, with their JSON."))  # fmt: skip
        elif negative:
            problems.append(Problem("error", "magnitude-negative", echo.magnitude, "a magnitude with values below 0",
                                    "values of 0 and more",
                                    "Is it the phase, or was it filtered? Convert the images again."))  # fmt: skip
    return problems


def _scaled_range(survey: VoxelSurvey, header: Header) -> tuple[float, float]:
    """Least and greatest value with the header's slope and intercept."""
    ends = [header.slope * value + header.intercept for value in (survey.minimum, survey.maximum)]
    return min(ends), max(ends)
