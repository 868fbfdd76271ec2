"""Images of single coils in a dataset: how they are recognised, and whether they are complete."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qsmprep.bids.images import MOST_VOXELS, Header, read_header
from qsmprep.bids.metadata import number, same
from qsmprep.bids.names import COIL_ENTITIES, file_entities, listed
from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import Coils, Echo, GreRun
from qsmprep.options import shown

# A label of acq that names a coil: "coil01", "hirescoil1".
_IN_ACQ = re.compile(r"(.*?)coil([0-9]+)", re.IGNORECASE)
# Keys of sidecars that tell how many coils there are, as a number or as a list of their names.
COUNT_KEYS = ("NumberOfCoils", "NumberOfReceiveCoils", "NumberOfChannels", "NumberReceiveCoilActiveElements")
LIST_KEYS = ("CoilString", "ReceiveCoilActiveElements")
OF_A_COIL = frozenset(LIST_KEYS)  # differ between coils by their nature
_ALIKE = ("EchoTime", "Units")  # what the coils of one echo and part must have in common
REMEDY = "See docs/coils.md for the forms in which single coils are read."


def without_coil(entities: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The label of the coil that entities of a name tell, empty for none, and the others.

    >>> without_coil({"sub": "01", "acq": "hirescoil07"})
    ('07', {'sub': '01', 'acq': 'hires'})
    >>> without_coil({"sub": "01", "coil": "H12"})
    ('H12', {'sub': '01'})
    """
    rest = dict(entities)
    for entity in COIL_ENTITIES:
        if entity in rest:
            return rest.pop(entity), rest
    if found := _IN_ACQ.fullmatch(rest.get("acq", "")):
        rest["acq"] = found[1]
        return found[2], {name: label for name, label in rest.items() if label}
    return "", rest


def coil_labels(images: Iterable[Path]) -> dict[Path, str]:
    """The coil of every image that is one of several coils by its name.

    Numbers at the end of `acq` are coils where there are two or more, of which the first is 0 or 1: a scan named after
    its coil of 32 elements is none.
    """
    sets: dict[tuple[tuple[str, str], ...], dict[Path, str]] = {}
    for image in images:
        label, rest = without_coil(file_entities(image))
        if label:
            key = {name: value for name, value in rest.items() if name not in ("echo", "part")}
            sets.setdefault(tuple(sorted(key.items())), {})[image] = label
    found: dict[Path, str] = {}
    for own in sets.values():
        labels = set(own.values())
        by_entity = any(set(COIL_ENTITIES) & file_entities(image).keys() for image in own)
        if len(labels) > 1 and (by_entity or min(int(label) for label in labels) <= 1):
            found |= own
    return found


def echo_of(
    echo_number: int | None, parts: Mapping[str, Mapping[str, Path]], facts: Mapping[Path, Mapping[str, Any]]
) -> tuple[Echo, list[Problem]]:
    """An echo of the images of its parts, each of one coil or more, and what the coils of one part contradict.

    Parameters
    ----------
    echo_number : of its name.
    parts : part -> label of the coil, empty for none -> file.
    facts : metadata of each file.
    """
    files = {part: tuple(own[label] for label in sorted(own, key=_place)) for part, own in parts.items() if part}
    problems = []
    for paths in files.values():
        for key, path in ((key, path) for key in _ALIKE for path in paths[1:]):
            one, other = facts[paths[0]].get(key), facts[path].get(key)
            if not same(key, one, other):
                found = f"{key} is {shown(other)}, but {shown(one)} in {paths[0].name}"
                needed = "one value for all coils of an echo"
                problems.append(Problem("error", "coils-differ", path, found, needed, "Correct the sidecars."))
                break
    times = (number(facts[path].get("EchoTime")) for own in parts.values() for path in own.values())
    return Echo(
        echo_number,
        next((time for time in times if time is not None), None),
        **{part: paths[0] for part, paths in files.items()},
        metadata={part: facts[next(iter(own.values()))] for part, own in parts.items()},
        coils={part: paths for part, paths in files.items() if any(parts[part])},
    ), problems


def by_echo_time(echoes: Sequence[Echo]) -> tuple[list[Echo], Coils | None]:
    """Echoes of which as many as there are coils have one echo time, joined to one each; others as they are.

    Two times or more are needed, each as often as the others: a sidecar that was copied makes all times one.
    """
    times = Counter(echo.echo_time_s for echo in echoes)
    count = min(times.values(), default=0)
    if None in times or count < 2 or len(times) < 2 or len(set(times.values())) > 1:
        return list(echoes), None
    joined = []
    for rank, time in enumerate(sorted(times, key=lambda time: time or 0.0), start=1):
        own = sorted((echo for echo in echoes if echo.echo_time_s == time), key=lambda echo: echo.number or 0)
        if any(set(echo.files) != set(own[0].files) for echo in own):
            return list(echoes), None
        coils = {part: tuple(echo.files[part] for echo in own) for part in own[0].files}
        joined.append(replace(own[0], number=rank, coils=coils))
    labels = tuple(str(rank + 1) for rank in range(count))
    return joined, Coils(count, labels, f"{count} images of each of {len(times)} echo times")


def named_coils(labels: Iterable[str]) -> Coils | None:
    """The coils that names tell; None for none."""
    row = tuple(sorted(set(labels), key=_place))
    return Coils(len(row), row, "the names of the files") if row else None


def with_last_axis(run: GreRun, choice: str) -> GreRun:
    """The run, with its coils where the last axis of its images holds them.

    Parameters
    ----------
    run : as `find_runs` gives it.
    choice : "last-axis": the user says so of images of four dimensions; "auto": a sidecar must tell their number.
    """
    header = read_header(run.files[0]) if run.coils is None and run.files else None
    count = last_axis(header.shape) if isinstance(header, Header) else 0
    if count < 2:
        return run
    told = "--coils last-axis" if choice == "last-axis" else _told_by(run.metadata, count)
    return replace(run, coils=Coils(count, (), told, last_axis=True)) if told else run


def last_axis(shape: Sequence[int]) -> int:
    """Length of the axis that may hold coils: the fourth, or the fifth beside a fourth of 1; 0 where there is none.

    >>> last_axis((64, 64, 40, 32)), last_axis((64, 64, 40, 1, 32)), last_axis((64, 64, 40)), last_axis((9, 9, 9, 5, 8))
    (32, 32, 0, 0)
    """
    beyond = [length for length in shape[3:] if length != 1]
    return int(beyond[0]) if len(beyond) == 1 and len(shape) <= 5 else 0


def check_coils(run: GreRun, headers: Sequence[Header]) -> tuple[list[Problem], list[Header]]:
    """Problems of a run's coils, and the headers without the axis of the coils.

    Each echo and part needs every coil, and there must be two echoes.
    """
    if run.coils is None:
        return [], list(headers)
    problems = []
    if len(run.echoes) < 2:
        found, needed = f"{run.coils.count} coils of a single echo", "two echoes or more, by which coils are combined"
        problems.append(Problem("error", "coils-of-one-echo", run.files[0], found, needed, REMEDY))
    for echo in run.echoes:
        for part, paths in echo.coils.items():
            if len(paths) != run.coils.count and not problems:
                found = f"{len(paths)} images of part-{part} of echo {echo.number}, but {run.coils.count} coils"
                found += f" ({listed(run.coils.labels)})"
                remedy = "Add the files that are missing, or leave out the coil in all echoes and parts."
                problems.append(Problem("error", "coil-missing", paths[0], found, "one image a coil", remedy))
    numbers = [int(label) for label in run.coils.labels if label.isascii() and label.isdecimal()]
    missing = sorted(set(range(min(numbers, default=0), max(numbers, default=0))) - set(numbers))
    if missing and len(numbers) == run.coils.count:
        found = f"missing: coils {listed(numbers)} are there, but not {listed(missing)}"
        remedy = "Add its files, or number the coils without a gap if it was left out on purpose."
        problems.append(Problem("error", "coil-number-missing", run.files[0], found, "", remedy))
    spatial = []
    for header in headers:
        if not run.coils.last_axis:
            spatial.append(header)
            continue
        count = last_axis(header.shape)
        if count != run.coils.count:
            found, needed = f"an image of {count} coils", f"{run.coils.count} as in {run.files[0].name}"
            problems.append(Problem("error", "coil-number-differs", header.path, found, needed, REMEDY))
        elif math.prod(header.shape[:3]) > MOST_VOXELS:
            found = f"{math.prod(header.shape[:3])} voxels a coil, more than {MOST_VOXELS}"
            problems.append(Problem("error", "coil-too-large", header.path, found, "", "Is the header damaged?"))
        else:
            spatial.append(replace(header, shape=header.shape[:3]))
    return problems, spatial


def _told_by(metadata: Mapping[str, Any], count: int) -> str:
    """The key of a sidecar that tells this number of coils; empty where none does."""
    for key in COUNT_KEYS:
        if number(metadata.get(key)) == count:
            return key
    lists = ((key, metadata.get(key)) for key in LIST_KEYS)
    return next((key for key, value in lists if isinstance(value, list) and len(value) == count), "")


def _place(label: str) -> tuple[Any, ...]:
    """Order of labels: numbers in them by their value."""
    return tuple(
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in re.split(r"([0-9]+)", label)
    )
