"""Sidecars: what dcm2niix tells, what it drops and the consensus asks to report, and nothing that names a person."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from qsmprep import __version__
from qsmprep.bids.metadata import KEYS
from qsmprep.dicom.headers import numbers, text_of

# Of a device or a place, which a sidecar does not tell unless it is asked to: with a date they may name a person.
OF_A_PLACE = frozenset({"DeviceSerialNumber", "InstitutionName", "StationName"})
# Beside what qsmprep reads: technical keys of dcm2niix that BIDS knows, or that tell how the numbers were scaled.
TECHNICAL = frozenset({
    "BodyPart", "EchoNumber", "EchoTrainLength", "ImageOrientationPatientDICOM", "InPlanePhaseEncodingDirectionDICOM",
    "InversionTime", "Modality", "NonlinearGradientCorrection", "NumberOfAverages", "PatientPosition",
    "PercentPhaseFOV", "PercentSampling", "PhaseEncodingAxis", "PhaseEncodingSteps",
    "PhaseEncodingStepsNoPartialFourier",
       "PhaseEncodingStepsOutOfPlane", "PhaseResolution", "PhilipsRWVIntercept", "PhilipsRWVSlope",
    "PhilipsRescaleIntercept", "PhilipsRescaleSlope", "PhilipsScaleSlope", "RawImage", "SliceThickness",
    "SpacingBetweenSlices", "SpoilingType", "UsePhilipsFloatNotDisplayScaling", "DwellTime",
})  # fmt: skip
# Free text, into which people write names: left out where it holds a word of the patient's.
FREE_TEXT = ("PulseSequenceDetails", "ProtocolName", "SeriesDescription", "SequenceName", "CoilString",
             "ReceiveCoilName")  # fmt: skip
SHORTEST_NAME = 3  # letters of a word of a name that is looked for
SHUTTER = {"ELLIPTICAL": True, "CYLINDRICAL": True, "FULL": False}
PERSONAL = ("PatientName", "PatientID", "PatientBirthDate")
# Key of the sidecar: DICOM keyword that tells it, where dcm2niix does not.
SAME = {
    "ReceiveCoilName": "ReceiveCoilName", "CoilString": "SiemensCoilString", "TransmitCoilName": "TransmitCoilName",
    "SoftwareVersions": "SoftwareVersions", "ManufacturersModelName": "ManufacturerModelName",
    "Manufacturer": "Manufacturer", "MRAcquisitionType": "MRAcquisitionType", "ProtocolName": "ProtocolName",
    "PixelBandwidth": "PixelBandwidth", "FlipAngle": "FlipAngle", "MagneticFieldStrength": "MagneticFieldStrength",
    "ImagingFrequency": "ImagingFrequency", "PartialFourierDirection": "PartialFourierDirection",
    "ParallelAcquisitionTechnique": "ParallelAcquisitionTechnique", "ScanningSequence": "ScanningSequence",
    "SequenceVariant": "SequenceVariant", "ScanOptions": "ScanOptions",
    "ParallelReductionFactorInPlane": "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane": "ParallelReductionFactorOutOfPlane",
}  # fmt: skip


def sidecar(
    told: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    use: str,
    part: str,
    coil: str = "",
    identified: bool = False,
) -> dict[str, Any]:
    """The sidecar of one image.

    Parameters
    ----------
    told : what dcm2niix wrote.
    facts : the DICOM header, by keyword.
    use, part : suffix of the image, and which part it is.
    coil : that it is of, where coils are not combined.
    identified : keep everything that dcm2niix tells, persons and places included.
    """
    known = dict(told) if identified else {key: told[key] for key in told if key in (KEYS | TECHNICAL) - OF_A_PLACE}
    found = {key: facts[keyword] for key, keyword in SAME.items() if facts.get(keyword) not in (None, "", ())}
    document = {key: list(v) if isinstance(v, tuple) else v for key, v in (_of_the_tables(facts) | found).items()}
    document |= known
    if isinstance(document.get("SoftwareVersions"), list):
        document["SoftwareVersions"] = "\\".join(map(str, document["SoftwareVersions"]))
    if use in ("MEGRE", "T2starw", "MESE") and "RepetitionTime" in document:
        document.setdefault("RepetitionTimeExcitation", document["RepetitionTime"])
    document["Units"] = "rad" if part == "phase" and _is_in_radians(told) else "arbitrary"
    if coil:
        document["CoilString"] = coil
    document["ConvertedBy"] = f"qsmprep-tools convert {__version__}"
    if not identified:
        for key in FREE_TEXT:
            if names_person(str(document.get(key, "")), facts):
                del document[key]
        document.pop("ImageComments", None)
    return dict(sorted(document.items()))


def _is_in_radians(told: Mapping[str, Any]) -> bool:
    """Whether a phase image is in radians: Philips', whose precise scaling divides by 1000 what shows milliradians.

    Others store integers, of which qsmprep finds the scaling and tells it.
    """
    slope, scale, intercept = (
        told.get(key) for key in ("PhilipsRescaleSlope", "PhilipsScaleSlope", "PhilipsRescaleIntercept")
    )
    if not told.get("UsePhilipsFloatNotDisplayScaling") or not slope or not scale or not intercept:
        return False
    return bool(abs(slope * scale - 1000) < 10 and abs(abs(intercept) - 1000 * math.pi) < 10)


def _of_the_tables(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What tables 3 and 4 of the consensus ask for, and DICOM says in another form than a sidecar."""
    found: dict[str, Any] = {}
    if time := numbers(facts, "RepetitionTime"):
        found["RepetitionTime"] = time[0] / 1000
    steps = numbers(facts, "AcquisitionMatrix")  # rows and columns along the readout, then along phase encoding
    if len(steps) == 4:
        found["FrequencyEncodingSteps"], found["AcquisitionMatrixPE"] = int(max(steps[:2])), int(max(steps[2:]))
    for key, keyword in (("FrequencyEncodingSteps", "MRAcquisitionFrequencyEncodingSteps"),
                         ("AcquisitionMatrixPE", "MRAcquisitionPhaseEncodingStepsInPlane")):  # fmt: skip
        if count := numbers(facts, keyword):
            found[key] = int(count[0])
    if elements := facts.get("CoilElements", ()):
        found["ReceiveCoilActiveElements"] = ", ".join(elements)
        if len(elements) > 1:
            found["NumberReceiveCoilActiveElements"] = len(elements)
    if text_of(facts, "PartialFourier") == "NO":
        found["PartialFourier"] = 1
    if text_of(facts, "GeometryOfKSpaceTraversal") == "RECTILINEAR":
        found["KSpaceTrajectory"] = "Cartesian"
    if (coverage := text_of(facts, "CoverageOfKSpace")) in SHUTTER:
        found["EllipticalShutter"] = SHUTTER[coverage]
    if flow := _flow_compensation(facts):
        found["FlowCompensation"] = flow
    if seconds := _duration_s(facts):
        found["AcquisitionDuration"] = seconds
    return found


def _flow_compensation(facts: Mapping[str, Any]) -> str | bool:
    """Kind and direction in DICOM's words; empty where the header is silent, which is no "off"."""
    kind, direction = text_of(facts, "FlowCompensation"), text_of(facts, "FlowCompensationDirection")
    if kind == "NONE":
        return "off"
    if kind or direction:
        return ", ".join(filter(None, (kind.lower(), direction.lower().replace("_", " "))))
    options = re.split(r"[\\, ]+", text_of(facts, "ScanOptions"))
    return "on" if any(option == "FC" or option.startswith(("FC_", "FCOMP")) for option in options) else ""


def _duration_s(facts: Mapping[str, Any]) -> float | None:
    """Of the acquisition: DICOM's element, Siemens' text ("TA 05:33"), GE's microseconds."""
    if seconds := numbers(facts, "AcquisitionDuration"):
        return seconds[0]
    if found := re.match(r"TA (?:(\d+):)?(\d+(?:\.\d+)?)(?:s|$|\*)", text_of(facts, "SiemensAcquisitionText")):
        return 60.0 * int(found[1] or 0) + float(found[2])
    if micro := numbers(facts, "GEAcquisitionDurationUs"):
        return micro[0] / 1e6
    milli = numbers(facts, "FrameAcquisitionDuration")
    return milli[0] / 1000 if milli and milli[0] > 1000 else None


def names_person(text: str, facts: Mapping[str, Any]) -> bool:
    """Whether a text holds a word of the patient's name, the PatientID or the date of birth.

    >>> names_person("qsm doe", {"PatientName": "Doe^Jane"}), names_person("qsm", {"PatientName": "Doe^Jane"})
    (True, False)
    """
    folded = text.casefold()
    return any(re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", folded) for word in _words_of_person(facts))


def _words_of_person(facts: Mapping[str, Any]) -> Iterable[str]:
    for keyword in PERSONAL:
        whole = text_of(facts, keyword).casefold()
        yield from {word for word in (whole, *re.split(r"[\^\s=]+", whole)) if len(word) >= SHORTEST_NAME}
