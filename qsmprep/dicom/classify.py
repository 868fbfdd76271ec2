"""What a scan is, told by its metadata: never by the name that somebody gave to a protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qsmprep.dicom.headers import numbers, text_of
from qsmprep.dicom.runs import Scan

USES = ("MEGRE", "T2starw", "MESE", "T1w")
FEWEST_SLICES = 10
FEWEST_SPIN_ECHOES = 3  # two are those of a turbo spin echo with two contrasts
LATEST_OF_T1W_MS = 10.0
# Words of ImageType. Siemens writes MNIP, GE and Philips PROJECTION IMAGE; SWI and SWIP are processed magnitudes.
LOCALIZER = {"LOCALIZER", "SCOUT"}
PROCESSED = {"MPR", "MIP", "MINIP", "MNIP", "PROJECTION IMAGE", "PROJECTION", "SUBTRACT", "AVERAGE", "ADC", "TRACEW",
             "T2 MAP", "T2_STAR_MAP", "T2STAR MAP", "T1 MAP", "T2MAP", "R2_STAR MAP", "RESAMPLED"}  # fmt: skip
FILTERED = {"SWI", "SWIP", "FILTERED", "FILT_PHA", "FILTERED_PHASE", "HIGH_PASS", "HPF", "HOMODYNE"}
FIELD_MAP = {"B0", "B0 MAP", "B0_MAP", "FIELD MAP", "FIELD_MAP", "FIELDMAP"}
DIFFERENCE = {"PHASE_DIFFERENCE", "PHASEDIFF", "PHASE DIFFERENCE", "PHDIFF"}
FLOW = {"PCA", "PCM", "VELOCITY", "VELOCITY MAP"}
UNIFORM = {"UNI", "UNIFORM"}
NO_SWI = "its phase is high-pass filtered (SWI), which takes away what QSM needs; acquire without the SWI option"
ONE_PHASE = "a phase difference alone: QSM needs the phase of every echo; export that, or acquire it"


@dataclass(frozen=True)
class Kind:
    """What a scan is used as: one of USES, or nothing, and why. `refused` where it looks like data for QSM."""

    use: str
    reason: str = ""
    refused: bool = False


def classify(scan: Scan) -> Kind:
    """What to use a scan as.

    Gradient echoes with phase (or real and imaginary parts) are MEGRE, or T2starw for one echo; spin echoes of three
    echo times or more MESE; a 3D gradient echo of one early echo with an inversion T1w. All else is left out.
    """
    return _excluded(scan) or _spin_echo(scan) or _t1_weighted(scan) or _gradient_echo(scan)


def _excluded(scan: Scan) -> Kind | None:
    words, facts = scan.image_types, scan.facts
    slices = max(len(image.frames) for image in scan.images)
    if words & LOCALIZER or any(series.planes > 1 for series in scan.series):
        return Kind("", "a localizer")
    if words & FIELD_MAP:
        return Kind("", "a field map made by the scanner")
    if words & FLOW or text_of(facts, "PhaseContrast") == "YES":
        return Kind("", "a phase-contrast (flow) scan")
    if words & FILTERED or re.search(r"(?<![a-z])swi", _sequence(scan)):
        with_phase = set(scan.parts) != {"mag"}
        return Kind("", NO_SWI if with_phase else "a processed susceptibility-weighted image (SWI)", with_phase)
    if words & PROCESSED or "DERIVED" in words:
        return Kind("", "made by the scanner from other images (derived)")
    if any(series.volumes > 1 for series in scan.series):
        return Kind("", "several volumes in time")
    if "EP" in _of_sequence(scan) or text_of(facts, "EchoPlanarPulseSequence") == "YES":
        return Kind("", "echo planar images")
    return Kind("", f"{slices} slices, too few for a volume") if slices < FEWEST_SLICES else None


def _spin_echo(scan: Scan) -> Kind | None:
    pulse = text_of(scan.facts, "EchoPulseSequence")
    if "SE" not in _of_sequence(scan) and pulse not in ("SPIN", "BOTH"):
        return None
    if len(scan.echo_times_ms) >= FEWEST_SPIN_ECHOES and not _inverted(scan):
        return Kind("MESE")
    return Kind("", f"a spin echo with fewer than {FEWEST_SPIN_ECHOES} echo times")


def _t1_weighted(scan: Scan) -> Kind | None:
    """MPRAGE and its kin."""
    prepared = _inverted(scan) or "MP" in text_of(scan.facts, "SequenceVariant").split("\\")
    if not prepared:
        return None
    early = max(scan.echo_times_ms, default=0.0) < LATEST_OF_T1W_MS
    if scan.image_types & UNIFORM:
        return Kind("", "an image that was combined of two inversions (MP2RAGE); name it by a rule to use it as T1w")
    if early and len(scan.echo_times_ms) == 1 and scan.parts == ("mag",) and is_3d(scan):
        return Kind("T1w")
    return Kind("", "an inversion-prepared scan that is no T1-weighted volume")


def _gradient_echo(scan: Scan) -> Kind:
    parts, times = set(scan.parts), scan.echo_times_ms
    sequence = _of_sequence(scan)
    pulse = text_of(scan.facts, "EchoPulseSequence")
    if sequence and "GR" not in sequence and "RM" not in sequence and pulse != "GRADIENT":
        return Kind("", "no gradient echo")
    if parts == {"mag"}:
        return Kind("", "a gradient echo without phase")
    phases = {image.echo_time_ms for image in scan.images if image.part == "phase"}
    magnitudes = {image.echo_time_ms for image in scan.images if image.part == "mag"}
    is_map = re.match(r"fm\dd", _sequence(scan)) is not None
    if scan.image_types & DIFFERENCE or (phases and is_map) or (len(phases) == 1 and len(magnitudes) == 2):
        return Kind("", ONE_PHASE, refused=True)
    if not {"real", "imag"} <= parts and not {"mag", "phase"} <= parts:
        lacking = "magnitude" if "phase" in parts else "imaginary part" if "real" in parts else "real part"
        return Kind("", f"{' and '.join(scan.parts)} without {lacking}: export both", refused=True)
    return Kind("MEGRE" if len(times) > 1 else "T2starw")


def used_parts(scan: Scan, use: str) -> tuple[str, ...]:
    """Which parts are written: real and imaginary ones before magnitude and phase, which only say the same again."""
    parts = scan.parts
    if use in ("MESE", "T1w"):
        return ("mag",)
    return ("real", "imag") if {"real", "imag"} <= set(parts) else ("mag", "phase")


def is_3d(scan: Scan) -> bool:
    """Whether the header tells of a 3D acquisition, or nothing of how it was acquired."""
    return text_of(scan.facts, "MRAcquisitionType") in ("3D", "")


def _inverted(scan: Scan) -> bool:
    inversion = next(iter(numbers(scan.facts, "InversionTime")), 0.0)
    return "IR" in _of_sequence(scan) or text_of(scan.facts, "InversionRecovery") == "YES" or inversion > 0


def _of_sequence(scan: Scan) -> set[str]:
    """The words of ScanningSequence: SE, IR, GR, EP, RM."""
    return set(re.split(r"[\\_, ]+", text_of(scan.facts, "ScanningSequence"))) - {""}


def _sequence(scan: Scan) -> str:
    """The scanner's own name of the sequence, which the protocol does not change: "swi3d1r" of "*swi3d1r"."""
    name = text_of(scan.facts, "SequenceName") or text_of(scan.facts, "PulseSequenceName")
    return name.lstrip("*").casefold()
