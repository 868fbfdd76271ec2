"""Sections 2 and 3 of the consensus: what the sidecars and the phase itself tell of the acquisition.

Where the paper speaks in words a limit of ours stands here; the three protocols that it suggests pass every one.
"""

from __future__ import annotations

import math
import re

from qsmprep.report.acquisition import is_spoiled
from qsmprep.report.evidence import (
    MET,
    NO_CASE,
    NOT_MET,
    Evidence,
    Verdict,
    short,
    suggested_edge_mm,
    t1_ms,
    t2star_ms,
    unknown,
    verdict,
)

LAST_ECHO_OF_T2STAR = 0.8  # the paper asks for T2*; its protocols end at 0.82 (1.5 T), 0.97 (3 T) and 1.25 (7 T) of it
SPARE_MS = 5.0  # for excitation and spoiling, beside one echo spacing
SHARE_OF_ERNST_SIGNAL = 0.95
LARGEST_EDGE_MM, LARGEST_ANISOTROPY = 1.05, 1.1  # rounding in headers
INTERPOLATED = 1.05  # image matrix over acquired matrix
SHORTEST_EDGE_MM = 120.0  # a slab thinner than that does not hold a brain
MANY_ELEMENTS = 12

Part = tuple[str, bool | None]


def sequence(evidence: Evidence) -> Verdict:
    """2.a: three-dimensional, spoiled, monopolar, three echoes or more, spanning T2*."""
    parts = [
        part
        for find in (_three_dimensional, _spoiled, _echo_count, _polarity, _last_echo)
        if (part := find(evidence))[0]
    ]
    if not parts:
        return unknown()
    told = "; ".join(text for text, _ in parts)
    verdicts = [good for _, good in parts]
    return verdict(told, False if False in verdicts else None if None in verdicts else True)


def _three_dimensional(evidence: Evidence) -> Part:
    entry = evidence.item("sequence_type")
    told = " ".join(str(part) for part in (entry.parts.values() or [entry.value or ""]))
    found = re.search(r"\b([23])D\b", told, re.IGNORECASE)
    return (f"{found[1]}D", found[1] == "3") if found else ("2D or 3D is not told", None)


def _spoiled(evidence: Evidence) -> Part:
    spoiled = is_spoiled({key: evidence.item(key) for key in ("excitation", "sequence_type")})
    return {True: "spoiled", False: "not spoiled", None: "spoiling is not told"}[spoiled], spoiled


def _echo_count(evidence: Evidence) -> Part:
    count = len(evidence.echo_times_ms())
    return (f"{count} echo{'es' if count > 1 else ''}", count >= 3) if count else ("the echoes are not told", None)


def _polarity(evidence: Evidence) -> Part:
    """Which way the echoes were read, by the sidecar, or by the phase where it could show."""
    if len(evidence.echo_times_ms()) == 1:
        return "", None
    told = str(evidence.item("readout_polarity").value or "").lower()
    seen, corrected = evidence.number("input", "bipolar_range"), evidence.value("input", "bipolar_corrected")
    found = evidence.value("input", "bipolar_found")
    after = " (corrected)" if corrected is True else " (not corrected)" if corrected is False else ""
    if "bipolar" in told:
        return "bipolar readout" + after, False
    if seen is not None and found is True:
        return f"bipolar readout: {seen:.2f} rad between odd and even echoes{after}", False
    if "mono" in told:
        return "monopolar readout", True
    if seen is not None and found is False:
        return f"no sign of a bipolar readout in the phase ({seen:.2f} rad between odd and even echoes)", True
    return "whether the readout is monopolar is not told", None


def _last_echo(evidence: Evidence) -> Part:
    times, field = evidence.echo_times_ms(), evidence.field_t()
    if not times or not field:
        return "whether the echo times span T2* is not told", None
    target = t2star_ms(field)
    text = f"last echo at {times[-1]:g} ms (T2* of the putamen {target:.0f} ms at {field:g} T)"
    return text, times[-1] >= LAST_ECHO_OF_T2STAR * target


def repetition_time(evidence: Evidence) -> Verdict:
    """2.b: the repetition time against the last echo."""
    times, repetition = evidence.echo_times_ms(), evidence.item("repetition_time").number
    if not times or not repetition:
        return unknown()
    room = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else times[0]
    value = f"TR {repetition:g} ms, {repetition - times[-1]:.3g} ms after the last echo"
    return verdict(value, repetition <= times[-1] + room + SPARE_MS)


def ernst_degrees(repetition_ms: float, t1: float) -> float:
    """The flip angle of the largest signal of a spoiled gradient echo; both times in ms.

    >>> round(ernst_degrees(33, 850), 1)
    15.9
    """
    return math.degrees(math.acos(math.exp(-repetition_ms / t1)))


def _signal(degrees: float, repetition_ms: float, t1: float) -> float:
    decay, angle = math.exp(-repetition_ms / t1), math.radians(degrees)
    return math.sin(angle) * (1 - decay) / (1 - decay * math.cos(angle))


def flip_angle(evidence: Evidence) -> Verdict:
    """2.c: the flip angle against the Ernst angle of white matter."""
    angle, repetition = evidence.item("flip_angle").number, evidence.item("repetition_time").number
    field = evidence.field_t()
    if angle is None or not repetition or not field:
        return unknown(", ".join(filter(None, (evidence.item(n).text for n in ("flip_angle", "repetition_time")))))
    t1 = t1_ms(field)
    ernst = ernst_degrees(repetition, t1)
    share = _signal(angle, repetition, t1) / _signal(ernst, repetition, t1)
    value = f"{angle:g} degrees; Ernst angle {ernst:.0f} degrees (TR {repetition:g} ms, T1 {t1:.0f} ms at {field:g} T)"
    return verdict(f"{value}: {100 * share:.0f} % of the largest signal", share >= SHARE_OF_ERNST_SIGNAL)


def coverage(evidence: Evidence) -> Verdict:
    """2.d: the field of view; that the brain mask ends within it a person sees."""
    entry, volume = evidence.item("field_of_view"), evidence.measured("mask_volume")
    if len(entry.numbers) != 3:
        return unknown()
    if min(entry.numbers) < SHORTEST_EDGE_MM:
        return verdict(f"field of view {entry.text}", False)
    if volume is not None and volume.within is False:
        return unknown(f"field of view {entry.text}; but the brain mask has {short(volume)}")
    return verdict(f"field of view {entry.text}", True)


def voxels(evidence: Evidence) -> Verdict:
    """2.e: isotropic, at most 1 mm, not interpolated; asked for at 3 T."""
    entry, field = evidence.item("voxel_size"), evidence.field_t()
    sizes = entry.numbers
    if len(sizes) != 3 or min(sizes) <= 0:
        return unknown()
    if not field:
        return unknown(f"{entry.text}; the field strength is not told")
    if not 2.5 <= field <= 3.5:
        suggested = f"{suggested_edge_mm(field):.2g} mm"
        return Verdict(NO_CASE, f"asked for at 3 T; {entry.text} at {field:g} T, where the paper suggests {suggested}")
    if max(sizes) > LARGEST_EDGE_MM or max(sizes) / min(sizes) > LARGEST_ANISOTROPY:
        return verdict(entry.text, False)
    told, interpolated = _interpolated(evidence)
    return verdict(f"{entry.text}; {told}", None if interpolated is None else not interpolated)


def _interpolated(evidence: Evidence) -> tuple[str, bool | None]:
    """Whether the image has more voxels in plane than were acquired."""
    image = sorted(int(n) for n in evidence.item("matrix").numbers[:2])
    parts = evidence.item("acquired_matrix")
    read = parts.number_of("BaseResolution") or parts.number_of("FrequencyEncodingSteps")
    phase = parts.number_of("AcquisitionMatrixPE")
    acquired = sorted(n for n in (read, phase) if n)
    if len(image) != 2 or not acquired:
        return "whether it is interpolated is not told (no acquired matrix in the sidecar)", None
    text = f"acquired {' x '.join(f'{n:g}' for n in acquired)}, image {image[0]} x {image[1]} in plane"
    compared = zip(reversed(image), reversed(acquired), strict=False)
    return text, any(n > INTERPOLATED * known for n, known in compared)


def acceleration(evidence: Evidence) -> Verdict:
    """2.f: parallel imaging or the like."""
    entry = evidence.item("acceleration")
    names = ("ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane", "MultibandAccelerationFactor",
             "CompressedSensingFactor")  # fmt: skip
    factors = [factor for name in names if (factor := entry.number_of(name)) is not None]
    if not factors:
        return verdict(entry.text, True if entry.parts.get("ParallelAcquisitionTechnique") else None)
    return verdict(entry.text, max(factors) > 1)


def coil(evidence: Evidence) -> Verdict:
    """2.g: elements of the receive coil, as far as its name tells."""
    name, elements = evidence.item("receive_coil").text, evidence.item("coil_elements").text
    channels = evidence.item("coil_channels").number
    told = "; ".join(dict.fromkeys(filter(None, (name, elements))))
    if channels is not None:
        return verdict(
            f"{channels:g} channels ({told})" if told else f"{channels:g} channels", channels >= MANY_ELEMENTS
        )
    found = [int(n) for n in re.findall(r"(?<![\d.])(\d{1,3})(?![\d.])", name) if 4 <= int(n) <= 256]
    return verdict(told, max(found) >= MANY_ELEMENTS) if found else unknown(told)


def combination(evidence: Evidence) -> Verdict:
    """3.a: phase from the vendor's combination of coils; open-ended fringes show one that failed.

    It is no case for images of single coils, which ASPIRE and MCPC-3D-S combine, as the paper says (S3).
    """
    method = evidence.item("coil_combination").text
    fringes = evidence.measured("open_fringes_input")
    seen = f"{short(fringes)} of open-ended fringe lines" if fringes else ""
    told = "; ".join(filter(None, (method, seen)))
    if fringes is not None and fringes.within is False:
        return verdict(told, False)
    lines = evidence.number("input", "open_fringe_lines")
    if lines:
        return verdict("; ".join(filter(None, (told, f"{lines:g} open-ended fringe lines as it came"))), False)
    if coils := evidence.number("coil-combination", "coils"):
        own = f"{coils:g} single coils, combined here by {evidence.method('coil-combination')[1]}"
        return Verdict(NO_CASE, "; ".join(filter(None, (own, told))))
    if re.search(r"sum[ _-]*of[ _-]*squares|\bsos\b", method, re.IGNORECASE):
        return verdict(told, False)
    if re.search(r"adaptive|sense|asset|arc|speeder|inter.?coil", method, re.IGNORECASE):
        return verdict(told, True)
    return unknown("; ".join(filter(None, (told, "the sidecar does not tell how the coils were combined"))))


def dicom(evidence: Evidence) -> Verdict:
    """3.b: classic or enhanced DICOM, which NIfTI files do not tell."""
    software = evidence.item("conversion").text
    converted = f"the images are NIfTI, converted by {software}" if software else "the images are NIfTI"
    return unknown(converted + "; which DICOM was exported is not told") if evidence.run.inputs else unknown()


def conversion(evidence: Evidence) -> Verdict:
    """3.c: which program made the NIfTI files."""
    software = evidence.item("conversion").text
    if not software:
        return unknown("the sidecar names no ConversionSoftware" if evidence.run.acquisition else "")
    return Verdict(MET if "dcm2niix" in software.lower() else NOT_MET, software)
