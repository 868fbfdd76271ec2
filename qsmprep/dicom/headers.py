"""DICOM headers of a folder: one `Frame` a slice, alike for one file a slice (classic) and for many (enhanced)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID

from qsmprep.bids.foreign import is_dicom
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, open_regular

MR_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4": "MR image",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR image",
    "1.2.840.10008.5.1.4.1.1.4.4": "legacy converted enhanced MR image",
}
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Private elements by (group, creator, element): Siemens' text headers, GE's kind of image, the duration of its scan.
PRIVATE = {
    "SiemensCoilString": (0x0051, "SIEMENS MR HEADER", 0x0F),
    "SiemensAcquisitionText": (0x0051, "SIEMENS MR HEADER", 0x0A),
    "GEImageType": (0x0043, "GEMS_PARM_01", 0x2F),
    "GEAcquisitionDurationUs": (0x0019, "GEMS_ACQU_01", 0x5A),
}
# What is read of a header; no other element is looked at.
KEYWORDS = (
    "AcquisitionDateTime", "AcquisitionDuration", "AcquisitionMatrix", "AcquisitionTime", "BitsAllocated", "Columns",
    "ComplexImageComponent", "CoverageOfKSpace", "EchoNumbers", "EchoPlanarPulseSequence", "EchoPulseSequence",
    "EchoTime", "EchoTrainLength", "EffectiveEchoTime", "FlipAngle", "FlowCompensation", "FlowCompensationDirection",
    "FrameAcquisitionDateTime", "FrameAcquisitionDuration", "FrameType", "GeometryOfKSpaceTraversal", "ImageComments",
    "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "ImagingFrequency", "InPlanePhaseEncodingDirection",
    "InstanceNumber", "InstitutionName", "InversionRecovery", "InversionTime", "MagneticFieldStrength", "Manufacturer",
    "ManufacturerModelName", "MRAcquisitionFrequencyEncodingSteps", "MRAcquisitionPhaseEncodingStepsInPlane",
    "MRAcquisitionType", "Modality", "NumberOfAverages", "ParallelAcquisitionTechnique",
    "ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane", "PartialFourier", "PartialFourierDirection",
    "PatientBirthDate", "PatientID", "PatientName", "PercentSampling", "PhaseContrast", "PixelBandwidth",
    "PixelSpacing", "ProtocolName", "PulseSequenceName", "ReceiveCoilName", "RepetitionTime", "Rows", "SOPClassUID",
    "SOPInstanceUID", "ScanOptions", "ScanningSequence", "SequenceName", "SequenceVariant", "SeriesDescription",
    "SeriesInstanceUID", "SeriesNumber", "SliceThickness", "SoftwareVersions", "SpacingBetweenSlices", "Spoiling",
    "StudyDate", "StudyInstanceUID", "StudyTime", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "TransmitCoilName", "TransmitterFrequency",
)  # fmt: skip
WANTED = {tag_for_keyword(keyword) for keyword in KEYWORDS}
# Of the header of a frame among many, what may differ from that of another.
OF_A_FRAME = {tag_for_keyword(keyword) for keyword in (
    "ComplexImageComponent", "EffectiveEchoTime", "FrameAcquisitionDateTime", "FrameType", "ImageOrientationPatient",
    "ImagePositionPatient", "ReceiveCoilName", "TemporalPositionIndex",
)}  # fmt: skip
READ = [
    *sorted(tag for tag in (*WANTED, *map(tag_for_keyword, GROUPS)) if tag is not None),
    *(group << 16 | element for group, _, slot in PRIVATE.values() for element in (0x10, 0x11, 0x1000 + slot)),
]
GE_PARTS = {0: "mag", 1: "phase", 2: "real", 3: "imag"}
COMPONENTS = {"MAGNITUDE": "mag", "PHASE": "phase", "REAL": "real", "IMAGINARY": "imag"}
# Words of ImageType that tell the part, the rarer ones first: Philips' phase is also of a "phase map".
WORDS = (
    ("phase", {"P", "PHASE", "PHASE MAP", "PHASE_MAP"}),
    ("real", {"R", "REAL", "R_FFE"}),
    ("imag", {"I", "IMAGINARY", "I_FFE"}),
    ("mag", {"M", "MAGNITUDE", "M_FFE", "M_SE", "M_IR"}),
)
RECOPY = "Copy it anew from the scanner or the archive."


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes
    ----------
    path : file that holds it.
    part : "mag", "phase", "real" or "imag".
    image_type : of this slice, in capitals.
    echo_time_ms, echo_number : None where the header tells none.
    coil : of the receivers that the image is of; empty where it tells none.
    position, orientation : ImagePositionPatient and ImageOrientationPatient in mm; empty where it tells none.
    shape : rows and columns.
    time_s : when it was acquired, seconds of the day; None where it tells none.
    volume : number of the repetition in time.
    """

    path: Path
    part: str
    image_type: tuple[str, ...]
    echo_time_ms: float | None
    echo_number: int | None
    coil: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    shape: tuple[int, int]
    time_s: float | None
    volume: int


@dataclass(frozen=True)
class Instance:
    """A file of images: `uid` is its own, `facts` values by DICOM keyword, `frames` its slices."""

    path: Path
    uid: str
    facts: Mapping[str, Any]
    frames: tuple[Frame, ...]

    @property
    def enhanced(self) -> bool:
        """Whether a file holds many slices, with their own headers."""
        return bool(self.facts.get("IsEnhanced"))


@dataclass(frozen=True)
class Folder:
    """What was found: images, how many files hold none, and what is wrong with files, by name."""

    instances: tuple[Instance, ...]
    other_dicom: int
    problems: tuple[Problem, ...]


def read_folder(folder: Path, tell: Callable[[int], None] | None = None) -> Folder:
    """Read the header of every DICOM file below a folder, in order of names; links to folders are not followed.

    Parameters
    ----------
    folder : of whatever depth.
    tell : called with the number of files read, now and then.

    Raises
    ------
    OSError : the folder itself cannot be listed.
    """
    os.listdir(folder)
    found: dict[str, Instance] = {}
    problems: list[Problem] = []
    other = 0
    for number, path in enumerate(_files(folder), 1):
        if tell is not None and number % 500 == 0:
            tell(number)
        instance = _read(path)
        if isinstance(instance, Problem):
            problems.append(instance)
        elif instance is None:
            other += 1
        elif instance.uid in found:
            text = f"the same image as {found[instance.uid].path}"
            problems.append(Problem("warning", "dicom-twice", path, f"{text}: used once", "", "Remove one of the two."))
        else:
            found[instance.uid] = instance
    return Folder(tuple(found.values()), other, tuple(problems))


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith(".") and name != "DICOMDIR")


def _read(path: Path) -> Instance | Problem | None:
    """The images of a file; what is wrong with it; None for DICOM without images of an MR scanner."""
    try:
        if not is_dicom(path):
            return Problem("warning", "not-dicom", path, "not a DICOM file: left out", "",
                           "Unpack archives first; other files may stay.")  # fmt: skip
        with os.fdopen(open_regular(path), "rb") as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=READ)
            left = os.fstat(stream.fileno()).st_size - stream.tell()
        if "SOPClassUID" not in dataset:
            raise EOFError("it ends before its first elements")
        if str(dataset.SOPClassUID) not in MR_IMAGES:
            return None
        instance = _instance(path, dataset)
    except UnreadableFileError as error:
        return Problem("warning", "dicom-unreadable", path, f"{error.found}: left out", "", error.remedy)
    except (InvalidDicomError, ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError,
            TypeError, ValueError, struct.error) as error:  # fmt: skip
        found = f"a damaged DICOM file ({' '.join(str(error).split())[:100] or type(error).__name__}): left out"
        return Problem("warning", "dicom-damaged", path, found, "", RECOPY)
    needed = len(instance.frames) * dataset.Rows * dataset.Columns * int(dataset.get("BitsAllocated", 16)) // 8
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    compressed = syntax is not None and UID(syntax).is_transfer_syntax and UID(syntax).is_compressed
    if left < (1 if compressed else needed):
        found = f"its pixels are cut off ({left} of {needed} bytes): left out"
        return Problem("warning", "dicom-truncated", path, found, "", RECOPY)
    return instance


def _instance(path: Path, dataset: Dataset) -> Instance:
    facts = _flat(dataset)
    for name, (group, creator, element) in PRIVATE.items():
        value = _private(dataset, group, creator, element)
        if value is not None:
            facts[name] = value
    shared = dataset.get(GROUPS[0]) or ()
    per_frame: Sequence[Dataset] = dataset.get(GROUPS[1]) or ()
    for group in shared:
        facts |= _flat_groups(group)
    frames = [facts | _flat_groups(group, OF_A_FRAME) for group in per_frame]
    if frames:
        facts = facts | _flat_groups(per_frame[0]) | {"IsEnhanced": True}
    return Instance(path, str(dataset.SOPInstanceUID), facts, tuple(map(partial(_frame, path), frames or [facts])))


def _flat(dataset: Dataset, wanted: Container[int | None] = WANTED) -> dict[str, Any]:
    """The wanted elements by keyword; empty ones and sequences are left out."""
    found = {}
    for tag in dataset.keys():  # noqa: SIM118  (a Dataset iterates over elements)
        if tag in wanted:
            element = dataset[tag]
            if element.VR != "SQ" and element.value not in (None, "", b""):
                found[element.keyword] = _value(element.value)
    return found


def _flat_groups(group: Dataset, wanted: Container[int | None] = WANTED) -> dict[str, Any]:
    """The wanted elements of functional groups, one level down; of coils those used."""
    flat: dict[str, Any] = {}
    for tag in group.keys():  # noqa: SIM118
        if tag.is_private:
            continue
        element = group[tag]
        if element.VR == "SQ" and element.value:
            item = element.value[0]
            flat |= _flat(item, wanted)
            used = [e for e in item.get("MultiCoilDefinitionSequence") or () if e.get("MultiCoilElementUsed") == "YES"]
            if used:
                flat["CoilElements"] = tuple(str(e.get("MultiCoilElementName", "")) for e in used)
    return flat


def _value(value: Any) -> Any:
    """A value of pydicom as a plain number, text or tuple of these."""
    if isinstance(value, list | tuple | MultiValue):
        return tuple(_value(one) for one in value)
    if isinstance(value, bool | int) or type(value) is float:
        return int(value) if isinstance(value, int) else value
    if isinstance(value, float) or hasattr(value, "original_string"):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    return value if isinstance(value, bytes) else " ".join(str(value).split())


def _private(dataset: Dataset, group: int, creator: str, element: int) -> Any:
    try:
        value = dataset.private_block(group, creator)[element].value
    except KeyError:
        return None
    if isinstance(value, bytes):  # a transfer syntax without value representations
        value = int.from_bytes(value[:2], "little") if creator == "GEMS_PARM_01" else value.decode("latin-1")
    return _value(value)


def _frame(path: Path, facts: Mapping[str, Any]) -> Frame:
    words = facts.get("FrameType", facts.get("ImageType", ()))
    kinds = tuple(str(word).upper() for word in ([words] if isinstance(words, str) else words))
    time = numbers(facts, "EffectiveEchoTime") or numbers(facts, "EchoTime")
    number, volume = numbers(facts, "EchoNumbers"), numbers(facts, "TemporalPositionIndex")
    volume = volume or numbers(facts, "TemporalPositionIdentifier")
    return Frame(
        path=path,
        part=part_of(facts, kinds),
        image_type=kinds,
        echo_time_ms=time[0] if time else None,
        echo_number=int(number[0]) if number else None,
        coil=_coil(facts),
        position=numbers(facts, "ImagePositionPatient"),
        orientation=numbers(facts, "ImageOrientationPatient"),
        shape=(int(facts["Rows"]), int(facts["Columns"])),
        time_s=_seconds(facts),
        volume=int(volume[0]) if volume else 1,
    )


def _coil(facts: Mapping[str, Any]) -> str:
    """What the header says of the receivers of an image, on one line."""
    elements = facts.get("CoilElements", ())
    return str(facts.get("SiemensCoilString") or "+".join(elements) or facts.get("ReceiveCoilName", ""))


def part_of(facts: Mapping[str, Any], words: Sequence[str]) -> str:
    """Magnitude, phase, real or imaginary part, as DICOM, GE's own element or the words of ImageType tell it.

    >>> part_of({}, ("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")), part_of({"GEImageType": 3}, ("ORIGINAL",))
    ('phase', 'imag')
    """
    component = COMPONENTS.get(str(facts.get("ComplexImageComponent", "")).upper())
    if component:
        return component
    if "GEImageType" in facts and isinstance(facts["GEImageType"], int) and facts["GEImageType"] in GE_PARTS:
        return GE_PARTS[facts["GEImageType"]]
    return next((part for part, known in WORDS if known & set(words[2:])), "mag")


def numbers(facts: Mapping[str, Any], keyword: str) -> tuple[float, ...]:
    """The numbers of an element; none where it is missing or holds something else."""
    value = facts.get(keyword, ())
    try:
        return tuple(float(one) for one in (value if isinstance(value, tuple) else (value,)))
    except (TypeError, ValueError):
        return ()


def text_of(facts: Mapping[str, Any], keyword: str) -> str:
    """An element as text, several values joined by backslashes; empty where it is missing."""
    value = facts.get(keyword, "")
    return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _seconds(facts: Mapping[str, Any]) -> float | None:
    """When a slice was acquired, in seconds of the day."""
    for keyword, start in (("FrameAcquisitionDateTime", 8), ("AcquisitionTime", 0), ("AcquisitionDateTime", 8)):
        digits = text_of(facts, keyword)[start:].replace(":", "")
        if len(digits) >= 6 and digits[:6].isdecimal():
            return 3600.0 * int(digits[:2]) + 60.0 * int(digits[2:4]) + float(digits[4:].split("+")[0].split("-")[0])
    return None
