"""What the sidecars say of the scan behind a field map that qsmprep wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from qsmprep.bids.reading import read_json_object
from qsmprep.findings import fact_values

HERE, RAW = "bids::", "bids:raw:"


@dataclass(frozen=True)
class ScanBehind:
    """Facts of a scan; None or empty where no sidecar tells.

    Attributes
    ----------
    centre_frequency_mhz : of the scanner.
    echo_times_s : of the echoes that were used, ascending.
    units : of the field map.
    """

    centre_frequency_mhz: float | None = None
    echo_times_s: tuple[float, ...] = ()
    units: str = ""


def scan_behind(field_map: Path) -> ScanBehind:
    """Facts of the scan that a field map was made from.

    The frequency is a fact of the processing steps (or is `ImagingFrequency`); the echo times are those of
    the raw images that the sources lead to (or are `EchoTime`), the choice of echoes made in processing applied.
    """
    document = _json(_sidecar(field_map))
    facts: dict[str, Any] = {}
    for step in document.get("ProcessingSteps", ()):
        facts = fact_values(step.get("facts")) | facts  # that of the earliest step counts
    frequency = document.get("ImagingFrequency") or facts.get("centre_frequency")
    return ScanBehind(
        centre_frequency_mhz=float(frequency) if frequency else None,
        echo_times_s=_echo_times(Path(field_map), document, facts.get("echoes_used")),
        units=str(document.get("Units", "")),
    )


def _echo_times(field_map: Path, document: dict[str, Any], chosen: list[int] | None) -> tuple[float, ...]:
    given = document.get("EchoTime")
    if given is not None:
        return tuple(float(time) for time in (given if isinstance(given, list) else [given]))
    times = sorted(
        {time for path in _raw_images(field_map, document) if (time := _json(_sidecar(path)).get("EchoTime"))}
    )
    if chosen and times:
        times = [times[number - 1] for number in chosen if number <= len(times)]
    return tuple(float(time) for time in times)


def _raw_images(field_map: Path, document: dict[str, Any]) -> list[Path]:
    """Raw images that the sources of a derivative lead to, through other derivatives where need be."""
    roots = [folder for folder in field_map.absolute().parents if (folder / "dataset_description.json").is_file()]
    if not roots:
        return []
    link = _json(roots[0] / "dataset_description.json").get("DatasetLinks", {}).get("raw", "")
    raw = Path(unquote(urlsplit(link).path)) if link.startswith("file:") else roots[0] / link
    images, waiting, seen = [], list(document.get("Sources", ())), set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if source.startswith(RAW):
            images.append(raw / source.removeprefix(RAW))
        elif source.startswith(HERE):
            waiting += _json(_sidecar(roots[0] / source.removeprefix(HERE))).get("Sources", ())
    return images


def _sidecar(image: Path) -> Path:
    return image.with_name(re.sub(r"\.nii(\.gz)?$", "", image.name) + ".json")


def _json(path: Path) -> dict[str, Any]:
    """The document of a JSON file; empty where there is none that can be read."""
    try:
        return read_json_object(path)
    except ValueError:
        return {}
