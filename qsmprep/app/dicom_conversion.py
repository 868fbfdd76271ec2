"""DICOM to BIDS: every planned scan through dcm2niix, looked at, and written whole or not at all."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsmprep.bids.images import open_image
from qsmprep.bids.names import listed
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, read_json_object
from qsmprep.dicom.headers import part_of
from qsmprep.dicom.plan import Plan, Target
from qsmprep.dicom.sidecars import sidecar
from qsmprep.dicom.write import Written, write_converted, write_dataset_files
from qsmprep.interfaces.dicom import convert_files

SAME_ECHO_MS = 0.005
AS_CLASSIC = "Export the scan as classic DICOM, one file a slice, as the consensus advises."
RECONVERT = "Look at these files with dcm2niix, or export the scan again."


@dataclass
class Outcome:
    """How many images were written and were there already, and what went wrong."""

    written: int = 0
    same: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Converted:
    """An image as dcm2niix wrote it: file, sidecar."""

    path: Path
    told: dict[str, Any]


def convert_planned(plan: Plan, bids_dir: Path, tell: Callable[[str], None], *, identified: bool = False) -> Outcome:
    """Convert and write every image of a plan; a scan of which one image fails is not written at all.

    Parameters
    ----------
    plan : what becomes what.
    bids_dir : the dataset, made if missing.
    tell : called with a line for each scan.
    identified : keep what names persons, dates and places.

    Raises
    ------
    OSError : dcm2niix is missing, or the dataset cannot be written.
    """
    outcome, version = Outcome(), "unknown"
    scans: dict[int, list[Target]] = defaultdict(list)
    for target in plan.targets:
        scans[id(target.scan)].append(target)
    done: dict[str, None] = {}
    for targets in scans.values():
        first = targets[0]
        name = f"{first.study.prefix}: {first.scan.name}"
        with tempfile.TemporaryDirectory(prefix="qsmprep-convert-") as temporary:
            found = _converted(targets, Path(temporary), identified)
            if isinstance(found, Problem):
                outcome.problems.append(found)
                tell(f"{name}: failed")
                continue
            version = next((str(one.told.get("ConversionSoftwareVersion", version)) for one in found), version)
            states = _write(targets, found, bids_dir, outcome, identified)
        done[first.study.participant] = None
        tell(f"{name}: {' and '.join(states) or 'not written'}")
    if done:
        write_dataset_files(bids_dir, list(done), converter=version)
    return outcome


def _write(
    targets: Sequence[Target], found: Sequence[Converted], bids_dir: Path, outcome: Outcome, identified: bool
) -> list[str]:
    """Write the images of a scan; how many became what, in words."""
    count = {state: 0 for state in Written}
    for target, image in zip(targets, found, strict=True):
        coil = target.image.coil if len(target.scan.coils) > 1 else ""
        facts = next(one.facts for one in target.scan.series if target.image in one.images)
        named = {"use": target.use, "part": target.image.part, "coil": coil}
        document = sidecar(image.told, facts, **named, identified=identified)
        if target.image.echo_time_ms is not None:
            document["EchoTime"] = round(target.image.echo_time_ms / 1000, 9)
        state = write_converted(bids_dir / target.stem, image.path.read_bytes(), document, identified=identified)
        if isinstance(state, Problem):
            outcome.problems.append(state)
        else:
            count[state] += 1
    outcome.written += count[Written.NEW]
    outcome.same += count[Written.SAME]
    return [f"{number} images {state.value}" for state, number in count.items() if number]


def _converted(targets: Sequence[Target], folder: Path, identified: bool) -> list[Converted] | Problem:
    """The images of a scan, in the order of `targets`.

    All at once where dcm2niix tells them apart as the headers do, which takes a fraction of the time; else each alone.
    Several enhanced files are never given to it at once: from the second on it scales them by numbers of its memory.
    """
    files = tuple(dict.fromkeys(path for target in targets for path in target.image.files))
    if len(targets[0].scan.coils) == 1 and not (targets[0].scan.series[0].enhanced and len(files) > 1):
        images, _ = convert_files(files, folder / "all", identified=identified)
        read = [_read(image) for image in images]
        found = [_fitting(target, read) for target in targets]
        if all(len(one) == 1 and _shape_of(one[0]) == _shape(t) for one, t in zip(found, targets, strict=True)):
            return [one[0] for one in found]
    return _one_by_one(targets, folder, identified)


def _one_by_one(targets: Sequence[Target], folder: Path, identified: bool) -> list[Converted] | Problem:
    """The images of a scan by their own files alone; a file that holds several of them is converted once."""
    batches: dict[tuple[Path, ...], tuple[list[Converted], str]] = {}
    found = []
    for target in targets:
        files = target.image.files
        if files not in batches:
            images, said = convert_files(files, folder / str(len(batches)), identified=identified)
            batches[files] = [_read(image) for image in images], said
        made, said = batches[files]
        fitting = made if len(made) == 1 else _fitting(target, made)
        remedy = AS_CLASSIC if target.scan.series[0].enhanced else RECONVERT
        if len(fitting) != 1:
            cause = listed(re.findall(r"(?:Error|Warning): *([^\n]+)", said), 2)
            what = f"dcm2niix made {len(fitting) or 'no'} images of {target.stem.name}"
            return Problem("error", "dicom-not-converted", target.scan.name, what + (f" ({cause})" if cause else ""),
                           "one image", remedy)  # fmt: skip
        if _shape_of(fitting[0]) != _shape(target):
            what = f"dcm2niix made an image of {_shape_of(fitting[0])} voxels of {target.stem.name}"
            return Problem("error", "dicom-converted-otherwise", target.scan.name, what,
                           f"{_shape(target)} by the header", remedy)  # fmt: skip
        found.append(fitting[0])
    return found


def _read(image: Path) -> Converted:
    """An image with its sidecar, if that can be read: headers with odd characters made some that cannot."""
    try:
        return Converted(image, read_json_object(image.with_suffix(".json")))
    except UnreadableFileError:
        return Converted(image, {})


def _shape(target: Target) -> tuple[int, ...]:
    """Numbers of voxels in ascending order: dcm2niix lays the axes of 3D scans as near to the patient's as can be."""
    rows, columns = target.image.frames[0].shape
    return tuple(sorted((columns, rows, len(target.image.frames))))


def _shape_of(image: Converted) -> tuple[int, ...]:
    return tuple(sorted(open_image(image.path).shape))


def _fitting(target: Target, images: Sequence[Converted]) -> list[Converted]:
    """Those of the target's echo and part."""
    echo = target.image.echo_time_ms
    return [
        one
        for one in images
        if part_of({}, [str(word).upper() for word in one.told.get("ImageType", ())]) == target.image.part
        and (echo is None or abs(1000 * float(one.told.get("EchoTime", -1)) - echo) < SAME_ECHO_MS)
    ]
