"""Whether a scan has all its slices and echoes: what a copy lost must not become a map."""

from __future__ import annotations

from itertools import pairwise

from qsmprep.bids.names import listed
from qsmprep.bids.problem import Problem
from qsmprep.dicom.headers import numbers
from qsmprep.dicom.runs import Image, Scan

UNEVEN = 0.05  # of the distance of two slices: what rounding of positions in headers may make
WORDS = {"mag": "magnitude", "phase": "phase", "real": "real part", "imag": "imaginary part"}
EXPORT_AGAIN = "Export the whole scan again from the scanner or the archive."


def check_complete(scan: Scan) -> list[Problem]:
    """Problems of slices and echoes that are missing, or that there are twice; nothing where all is there."""
    images = scan.images
    if any(len(frame.position) != 3 or len(frame.orientation) != 6 for image in images for frame in image.frames):
        found = "slices without a position or an orientation in their header"
        return [Problem("error", "slice-place-missing", scan.name, found, "", EXPORT_AGAIN)]
    problems = _slices(scan) or _gaps(scan)
    return problems + _echoes(scan) + _coils(scan) + (_numbering(scan) if not problems else [])


def _slices(scan: Scan) -> list[Problem]:
    """Images of which one place has two slices, or that lack places of others."""
    places = sorted({place for image in scan.images for place in image.places})
    joined = [place for place, following in zip(places, [*places[1:], float("inf")], strict=True)
              if following - place > 0.015]  # fmt: skip
    for image in scan.images:
        own = image.places
        if len(set(own)) < len(own):
            found = f"{len(own)} slices of the {_words(scan, image)} lie at {len(set(own))} places"
            remedy = "Are images of two scans, or several volumes, under one series? Export the scan again."
            return [Problem("error", "slices-doubled", scan.name, found, "one slice at a place", remedy)]
        missing = [place for place in joined if all(abs(place - there) > 0.015 for there in own)]
        if missing:
            found = f"{len(missing)} of {len(joined)} slices of the {_words(scan, image)} are missing ({_at(missing)})"
            return [Problem("error", "slices-missing", scan.name, found, "all slices of every image", EXPORT_AGAIN)]
    return []


def _gaps(scan: Scan) -> list[Problem]:
    """Slices missing in all images alike leave a gap."""
    places = scan.images[0].places
    steps = [after - before for before, after in pairwise(places)]
    if not steps:
        return []
    usual = sorted(steps)[len(steps) // 2]
    wide = [before for before, step in zip(places, steps, strict=False) if step > (1 + UNEVEN) * usual + 0.02]
    if not wide:
        return []
    found = f"slices are missing in every image after the one(s) at {_at(wide, '')}"
    return [Problem("error", "slices-gap", scan.name, found, "slices of one distance", EXPORT_AGAIN)]


def _at(places: list[float], begin: str = "at ") -> str:
    return f"{begin}{listed([f'{place:g}' for place in places], 5)} mm"


def _echoes(scan: Scan) -> list[Problem]:
    """Echoes that the others, or their numbers, tell to be missing."""
    times = scan.echo_times_ms
    if any(image.echo_time_ms is None for image in scan.images):
        return [Problem("error", "dicom-without-echo-time", scan.name, "images without an echo time", "", EXPORT_AGAIN)]
    problems = []
    for part in scan.parts:
        own = {image.echo_time_ms for image in scan.images if image.part == part}
        missing = [f"{time:g}" for time in times if time not in own]
        if missing:
            found = f"no {WORDS[part]} of the echo at {listed(missing)} ms"
            problems.append(Problem("error", "echo-part-missing", scan.name, found, "every part of every echo",
                                    EXPORT_AGAIN))  # fmt: skip
    told = {image.echo_number for image in scan.images if image.echo_number is not None}
    if len(told) == len(times) and (absent := set(range(1, max(told, default=0))) - told):
        found = f"echo {listed(sorted(absent))} is missing: there are the echoes {listed(sorted(told))}"
        problems.append(Problem("error", "echo-number-missing", scan.name, found, "all echoes", EXPORT_AGAIN))
    train = next(iter(numbers(scan.facts, "EchoTrainLength")), 0)
    if not problems and len(times) > 1 and train > len(times):
        found = f"{len(times)} echoes, but the header tells of a train of {train:g}"
        problems.append(Problem("warning", "echo-train-longer", scan.name, found, "",
                                "Were the later echoes not exported? Then export the scan again."))  # fmt: skip
    return problems


def _coils(scan: Scan) -> list[Problem]:
    keys = {image.key for image in scan.images}
    missing = [
        f"{coil} ({WORDS[part]}, {time:g} ms)"
        for part in scan.parts for time in scan.echo_times_ms for coil in scan.coils if (part, time, coil) not in keys
        if any(key[:2] == (part, time) for key in keys)
    ]  # fmt: skip
    if not missing:
        return []
    return [Problem("error", "dicom-coil-missing", scan.name, f"no image of the coil {listed(missing, 5)}",
                    "every coil in every image", EXPORT_AGAIN)]  # fmt: skip


def _numbering(scan: Scan) -> list[Problem]:
    """Numbers that are missing among the files of a series: whole rows of slices at the slab's end leave no gap."""
    for series in scan.series:
        there = series.instance_numbers
        if series.enhanced or len(set(there)) < 2:
            continue
        missing = sorted(set(range(there[0], there[-1])) - set(there))
        if missing and len(missing) < len(there) / 2:  # others number by steps of their own
            found = f"of series {series.number} the files numbered {listed(missing, 5)} are not there"
            return [Problem("warning", "dicom-numbers-missing", scan.name, found, "",
                            "Look whether the slab is whole; export the scan again if not.")]  # fmt: skip
    return []


def _words(scan: Scan, image: Image) -> str:
    echo = f" of the echo at {image.echo_time_ms:g} ms" if image.echo_time_ms is not None else ""
    coil = f" of the coil {image.coil}" if len(scan.coils) > 1 else ""
    return f"{WORDS[image.part]}{echo}{coil}"
