"""Metadata of images: sidecars by BIDS' inheritance, and what the images of a run agree on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from qsmprep.bids.names import file_entities, file_suffix
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, read_json_object
from qsmprep.options import shown
from qsmprep.phase.sign import GE

# Keys that differ between echoes and parts by their nature.
OF_AN_IMAGE = frozenset({"EchoTime", "ImageType", "ImageTypeText", "ProtocolName", "SeriesDescription", "Units"})
# Keys that the maps depend on: of what the field and its sign are computed, and how a spin echo is refocused.
OF_THE_FIELD = frozenset({"ImagingFrequency", "MagneticFieldStrength", "Manufacturer"})
OF_SPIN_ECHOES = frozenset({"MRAcquisitionType"})
# Every key that is read from a sidecar, here or for the acquisition table; no other one is kept.
KEYS = OF_AN_IMAGE | OF_THE_FIELD | OF_SPIN_ECHOES | {
    "AcquisitionDuration", "AcquisitionMatrixPE", "BaseResolution", "CoilCombinationMethod", "CoilString",
    "CompressedSensingFactor", "ConversionSoftware", "ConversionSoftwareVersion", "DeviceSerialNumber",
    "EllipticalShutter", "FlipAngle", "FlowCompensation",
    "FrequencyEncodingSteps", "GradientSetType", "InstitutionName", "KSpaceTrajectory", "MTState",
    "ManufacturersModelName", "MultibandAccelerationFactor", "NumberOfChannels", "NumberOfCoils",
    "NumberOfReceiveCoils", "NumberReceiveCoilActiveElements",
    "ParallelAcquisitionTechnique",
    "ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane", "PartialEcho", "PartialFourier",
    "PartialFourierDirection", "PhaseStabilisation", "PhaseStabilization", "PixelBandwidth", "PulseSequenceDetails",
    "PulseSequenceType", "ReadoutPolarity", "ReceiveCoilActiveElements", "ReceiveCoilName", "ReconMatrixPE",
    "RepetitionTime", "RepetitionTimeExcitation", "ScanOptions", "ScanningSequence", "SequenceName", "SequenceVariant",
    "ProtocolName", "SeriesDescription", "SoftwareVersions", "SpoilingState", "StationName", "TransmitCoilName",
}  # fmt: skip
SAME_FREQUENCY = 1e-4  # relative: a scanner drifts by less between the parts of one scan
MOST_ROUNDED = 0.05  # relative: 2.89 T may be written 3, but a partial Fourier factor of 0.75 is not 1


class Sidecars:
    """The sidecars of a folder and of those above it; each is read once, and only if an image inherits from it.

    Parameters
    ----------
    paths : JSON files.
    above : those of the folders above, whose content is shared.
    """

    def __init__(self, paths: Sequence[Path], above: Sidecars | None = None):
        self._above = above
        self._read: dict[Path, dict[str, Any] | Problem] = {}
        # Folder and suffix -> entities and file, the less specific before the others.
        self._own: dict[tuple[Path, str], list[tuple[frozenset[tuple[str, str]], Path]]] = {}
        for path in paths:
            entities = frozenset(file_entities(path).items())
            self._own.setdefault((path.parent, file_suffix(path)), []).append((entities, path))
        for own in self._own.values():
            own.sort(key=lambda one: (len(one[0]), one[1].name))

    def of(self, image: Path) -> tuple[dict[str, Any], list[Problem]]:
        """The metadata of an image and the sidecars that cannot be read.

        It inherits from sidecars above it or beside it, of its suffix and with no entity that it has not; the nearer
        one comes before the others, then the more specific one.
        """
        facts, problems = self._above.of(image) if self._above else ({}, [])
        suffix, entities = file_suffix(image), frozenset(file_entities(image).items())
        for folder in reversed(image.parents):
            for own, path in self._own.get((folder, suffix), ()):
                if not own <= entities:
                    continue
                content = self._content(path)
                if isinstance(content, Problem):
                    problems.append(content)
                else:
                    facts = facts | content
        return facts, problems

    def _content(self, path: Path) -> dict[str, Any] | Problem:
        if path not in self._read:
            try:
                document = read_json_object(path, what="JSON sidecar", remedy="Mend it, or convert the images again.")
                self._read[path] = {key: document[key] for key in KEYS & document.keys()}
            except UnreadableFileError as error:
                code = "sidecar-missing" if error.absent else "sidecar-unreadable"
                self._read[path] = Problem("error", code, path, error.found, "", error.remedy)
        return self._read[path]


def number(value: Any) -> float | None:
    """A number of a sidecar as float; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return math.inf


def agreed(
    images: Sequence[tuple[Path, Mapping[str, Any]]], deciding: frozenset[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """What the images of a run say alike, and problems for what they contradict each other in.

    Values that differ in spelling or rounding alone are the same: the longer, the more precise one is taken. A key on
    which images differ is left out.

    Parameters
    ----------
    images : file and metadata of each.
    deciding : keys of which a difference is an error; of the others it is a warning, and nothing of those that differ
        by their nature.
    """
    common: dict[str, Any] = {}
    problems: list[Problem] = []
    told: list[str] = []
    for key in sorted({key for _, facts in images for key in facts}):
        given = [(path, facts[key]) for path, facts in images if not _is_empty(facts.get(key))]
        if not given:
            continue
        path, value = max(given, key=lambda one: _precision(one[1]))
        other = next((one for one in given if not same(key, one[1], value)), None)
        if other is None:
            common[key] = value
        elif key not in OF_AN_IMAGE:
            found = f"{key} is {shown(value)} in {path.name}, but {shown(other[1])} in {other[0].name}"
            if key in deciding:
                remedy = "Correct the sidecars."
                problems.append(Problem("error", "metadata-differ", other[0], found, "one value in all images of a run",
                                        remedy))  # fmt: skip
            else:
                told.append(found)
    if told:
        remedy = "Correct the sidecars, so that the report can tell it."
        found = "; ".join(told[:3]) + (f"; and {len(told) - 3} more keys" if len(told) > 3 else "")
        problems.append(
            Problem("warning", "metadata-differ-untold", images[0][0].parent, f"{found}: left out", "", remedy)
        )
    return common, problems


def _is_empty(value: Any) -> bool:
    """Whether a value says that there is none."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "n/a"))


def same(key: str, one: Any, other: Any) -> bool:
    """Whether two values of a key are the same but for spelling or rounding.

    >>> same("Manufacturer", "GE", "GE MEDICAL SYSTEMS"), same("ImagingFrequency", 123.252, 123.253)
    (True, True)
    >>> same("FlipAngle", 15, 15.2), same("FlipAngle", 15, 20)
    (True, False)
    """
    if isinstance(one, str) and isinstance(other, str):
        return _plain(key, one) == _plain(key, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(key, *pair) for pair in zip(one, other, strict=True))
    first, second = number(one), number(other)
    if first is None or second is None:
        return type(one) is type(other) and bool(one == other)
    if not (math.isfinite(first) and math.isfinite(second)):
        return first == second or (math.isnan(first) and math.isnan(second))
    size = max(abs(first), abs(second))
    tolerance = min(0.5 * max(_last_digit(first), _last_digit(second)), MOST_ROUNDED * size)
    if key == "ImagingFrequency":
        tolerance = max(tolerance, SAME_FREQUENCY * size)
    return first == second or abs(first - second) < tolerance * (1 - 1e-9)


def vendor(manufacturer: str) -> str:
    """The maker of the scanner in one word, however it is written: "ge", "siemens", "philips", else as it is told.

    >>> vendor("GE Healthcare"), vendor("SIEMENS"), vendor("Philips Medical Systems"), vendor("Canon  ")
    ('ge', 'siemens', 'philips', 'canon')
    """
    words = " ".join(manufacturer.split()).casefold()
    if GE.match(words):
        return "ge"
    return next((name for name in ("siemens", "philips") if name in words), words)


def _plain(key: str, text: str) -> str:
    return vendor(text) if key == "Manufacturer" else " ".join(text.split()).casefold()


def _precision(value: Any) -> float:
    """More for a text or a number that says more."""
    if isinstance(value, str | list):
        return len(value)
    number_ = number(value)
    return -_last_digit(number_) if number_ is not None and math.isfinite(number_) else -math.inf


def _last_digit(value: float) -> float:
    """What one step of the last digit that is written is worth: 0.01 for 2.89, and 1 for 300."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return float(10.0 ** min(int(exponent), 0))
