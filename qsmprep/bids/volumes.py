"""Images of four dimensions: several echoes in one file, or a time series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qsmprep.bids.coils import last_axis
from qsmprep.bids.images import MOST_VOXELS, Header, read_header
from qsmprep.bids.metadata import number
from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import GreRun, Volumes
from qsmprep.options import shown

TIME_SERIES = ("bold",)  # suffixes of images whose fourth axis is time
DIGITS = 4  # of the number of a volume in names
NAMES_NO_ECHO = "echo-not-in-name"


def with_volumes(run: GreRun, *, echo_times_s: Sequence[float] = (), choice: str = "auto") -> tuple[GreRun, ...]:
    """The run, or the runs, that images of four dimensions make; others are left as they are.

    Where EchoTime is a list as long as the fourth axis, or the user gives such a list, the axis holds the echoes. Else
    it is the time of a `bold` image, or of any where the user says what is made of the volumes.

    Parameters
    ----------
    run : as `find_runs` gives it, before coils are looked for.
    echo_times_s : given by the user; empty: those of the sidecars.
    choice : of the volumes of a time series; "mean": their mean, "each": a run of each; "auto": "mean" for `bold`.
    """
    header = read_header(run.files[0]) if run.coils is None and run.files else None
    count = last_axis(header.shape) if isinstance(header, Header) and len(header.shape) == 4 else 0
    if count < 2:
        return (run,)
    listed = [times for echo in run.echoes for facts in echo.metadata.values() if (times := _listed(facts))]
    if len(run.echoes) == 1 and (echo_times_s or listed):
        return (_echoes(run, tuple(echo_times_s) or listed[0], count, given=bool(echo_times_s)),)
    if choice == "each":
        told = "time" if run.suffix in TIME_SERIES else "--volumes"
        return tuple(
            replace(run, volumes=Volumes(count, "time", told, index),
                    entities={**run.entities, "vol": f"{index + 1:0{DIGITS}d}"})
            for index in range(count)
        )  # fmt: skip
    if choice == "mean" or run.suffix in TIME_SERIES:
        return (replace(run, volumes=Volumes(count, "time", run.suffix if choice == "auto" else "--volumes mean")),)
    return (run,)


def check_volumes(run: GreRun, headers: Sequence[Header]) -> tuple[list[Problem], list[Header]]:
    """Problems of the fourth axis of a run's images, and the headers without it."""
    if run.volumes is None:
        return [], list(headers)
    problems, spatial = [], []
    for header in headers:
        count = last_axis(header.shape) if len(header.shape) == 4 else 1
        if count != run.volumes.count:
            found, needed = f"{count} volumes", f"{run.volumes.count} as in {run.files[0].name}"
            problems.append(Problem("error", "volume-number-differs", header.path, found, needed,
                                    "Give as many volumes of every echo and part."))  # fmt: skip
        elif math.prod(header.shape[:3]) > MOST_VOXELS:
            found = f"{math.prod(header.shape[:3])} voxels a volume, more than {MOST_VOXELS}"
            problems.append(Problem("error", "volume-too-large", header.path, found, "", "Is the header damaged?"))
        else:
            spatial.append(replace(header, shape=header.shape[:3]))
    return problems, spatial


def _listed(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """EchoTime where it is a list."""
    value = facts.get("EchoTime")
    return tuple(value) if isinstance(value, list) else ()


def _echoes(run: GreRun, times: Sequence[Any], count: int, *, given: bool) -> GreRun:
    """The run with an echo of each volume; a problem where there is not a time of each, or parts tell other times."""
    whole = run.echoes[0]
    source = "--echo-times" if given else "EchoTime in its metadata"
    found = f"{count} volumes, but {len(times)} times in {source}: {shown(list(times))}"
    if not given:
        others = [other for facts in whole.metadata.values() if (other := _listed(facts)) and other != tuple(times)]
        found = (
            f"EchoTime is {shown(list(times))} in one part, {shown(list(others[0]))} in another" if others else found
        )
    if len(times) != count or (not given and others):
        problem = Problem("error", "echo-times-not-of-volumes", run.files[0], found, "one time in seconds a volume",
                          "Correct EchoTime in the sidecars, or give --echo-times.")  # fmt: skip
        return replace(run, problems=(*run.problems, problem))
    echoes = [
        replace(
            whole,
            number=index + 1,
            echo_time_s=number(time),
            metadata={part: {**facts, "EchoTime": time} for part, facts in whole.metadata.items()},
        )
        for index, time in enumerate(times)
    ]
    return replace(
        run,
        echoes=tuple(sorted(echoes, key=lambda echo: echo.echo_time_s or 0.0)),
        problems=tuple(problem for problem in run.problems if problem.code != NAMES_NO_ECHO),
        volumes=Volumes(count, "echoes", "--echo-times" if given else "a list of EchoTime"),
    )
