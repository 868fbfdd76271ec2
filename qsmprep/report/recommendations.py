"""What a run tells about each recommendation of the consensus: the value found, and whether it is as recommended."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from qsmprep import registry
from qsmprep.report.acquisition import Entry, look_up, missing_essentials
from qsmprep.report.figures import CHI_WINDOW_PPM
from qsmprep.report.methods import reference_values
from qsmprep.report.record import RecordedStep, Run, words
from qsmprep.stages import stage_of

# Limits that the paper gives in words; the numbers are ours.
LATEST_FIRST_ECHO_MS = 10.0  # at 3 T, in inverse proportion to the field
LAST_ECHO_OF_T2STAR = (0.5, 1.5)
LARGEST_VOXEL_MM, LARGEST_ANISOTROPY = 1.05, 1.1
SHORTEST_EDGE_MM = 120.0  # a slab thinner than that does not hold a brain
SMALLEST_SHARE_KEPT = 75.0  # percent; larger spheres at the edge cost more

# Warnings of a run that mean that its phase was filtered, and notes that tell how its phase is to be understood.
FILTERED = ("phase-filtered", "image-type-filtered")
CONVENTION = ("phase-scaling", "complex-input", "slice-alternation", "phase-sign")

Verdict = tuple[str | None, bool | None]  # value found, and whether it is as recommended; None: nothing tells


@dataclass(frozen=True)
class Evidence:
    """A run as the recommendations ask about it, and how many lines of regional values it has."""

    run: Run
    regions: int

    def item(self, key: str) -> Entry:
        """What is known of an acquisition item."""
        return look_up(self.run.acquisition, key)

    def steps(self, stage: str) -> list[RecordedStep]:
        """The steps of a stage that ran."""
        return [step for step in self.run.steps if stage_of(step.stage).name == stage]

    def method(self, stage: str) -> tuple[str, str]:
        """Name and title of the first method of a stage; empty where none ran."""
        steps = self.steps(stage)
        return (steps[0].method, steps[0].title or steps[0].method) if steps else ("", "")

    def value(self, stage: str, key: str) -> Any:
        """The value of a fact of a stage's first step; None where it is not told."""
        steps = self.steps(stage)
        return steps[0].value(key) if steps else None


def _recommended(stage: str, method: str) -> bool | None:
    """Whether the paper recommends a method, as the registry says; None for one that it does not know."""
    known = registry.judged(stage, method)
    return None if known is None else known.recommended


def three_dimensional(evidence: Evidence) -> Verdict:
    """Two or three dimensions, as the sidecar says."""
    entry = evidence.item("sequence_type")
    told = " ".join(str(part) for part in (entry.parts.values() or [entry.value or ""]))
    found = re.search(r"\b([23])D\b", told, re.IGNORECASE)
    return entry.text, found[1] == "3" if found else None


def monopolar(evidence: Evidence) -> Verdict:
    """Which way the echoes were read."""
    entry = evidence.item("readout_polarity")
    told = str(entry.value or "").lower()
    return entry.text, False if "bipolar" in told else True if "mono" in told else None


def echo_count(evidence: Evidence) -> Verdict:
    """How many echoes there are."""
    count = len(evidence.item("echoes").numbers)
    return (f"{count} echoes", count >= 3) if count else (None, None)


def first_echo(evidence: Evidence) -> Verdict:
    """When the first echo came."""
    first, field = evidence.item("echoes").number, evidence.item("field_strength").number
    if first is None:
        return None, None
    if not field:
        return f"TE1 {first:g} ms, field strength unknown", None
    limit = LATEST_FIRST_ECHO_MS * 3 / field
    return f"TE1 {first:g} ms at {field:g} T (limit {limit:.3g} ms)", first <= limit


def last_echo(evidence: Evidence) -> Verdict:
    """The last echo against T2* as the run measured it."""
    times, rate = evidence.item("echoes").numbers, evidence.value("relaxometry", "median_r2star")
    if not times:
        return None, None
    if not isinstance(rate, int | float) or rate <= 0:
        return f"last TE {times[-1]:g} ms, T2* of the brain not measured", None
    share = times[-1] * rate / 1000
    low, high = LAST_ECHO_OF_T2STAR
    return f"last TE {times[-1]:g} ms, median T2* of the brain {1000 / rate:.0f} ms", low <= share <= high


def voxels(evidence: Evidence) -> Verdict:
    """Voxel edges."""
    entry = evidence.item("voxel_size")
    sizes = entry.numbers
    if len(sizes) != 3 or min(sizes) <= 0:
        return None, None
    return entry.text, max(sizes) <= LARGEST_VOXEL_MM and max(sizes) / min(sizes) <= LARGEST_ANISOTROPY


def coverage(evidence: Evidence) -> Verdict:
    """Edges of the field of view."""
    entry = evidence.item("field_of_view")
    return (entry.text, min(entry.numbers) >= SHORTEST_EDGE_MM) if len(entry.numbers) == 3 else (None, None)


def partial_fourier(evidence: Evidence) -> Verdict:
    """Share of k-space that was sampled."""
    entry = evidence.item("partial_fourier")
    share = entry.number_of("PartialFourier")
    return entry.text, None if share is None else share >= 1 or share == 0


def b0_direction(evidence: Evidence) -> Verdict:
    """How the slab lies to B0."""
    entry = evidence.item("slab_orientation")
    return entry.text, True if entry.available else None


def unfiltered(evidence: Evidence) -> Verdict:
    """What the run's own test for filtered phase found."""
    warned = [warning.text for _, warning in evidence.run.all_warnings() if warning.code in FILTERED]
    if warned:
        return warned[0], False
    return ("the phase images show no sign of a high-pass filter", True) if evidence.steps("input") else (None, None)


def coil_combination(evidence: Evidence) -> Verdict:
    """What tells of the coils: whether they were combined well shows in the pictures alone."""
    left = evidence.value("unwrapping", "voxels_left_wrapped")
    title = evidence.method("phase-offset")[1]
    told = [f"phase offset over echoes removed by {title}"] if title else []
    told += [f"{left} voxels left wrapped"] if isinstance(left, int) else []
    return "; ".join(told), None


def phase_convention(evidence: Evidence) -> Verdict:
    """How scaling and sign were decided."""
    notes = [note for step in evidence.steps("input") for note in step.notes]
    told = [note.text for note in notes if note.code in CONVENTION]
    return " ".join(told), True if told else None


def exact_unwrapping(evidence: Evidence) -> Verdict:
    """The unwrapping method."""
    method, title = evidence.method("unwrapping")
    return title, _recommended("unwrapping", method)


def offset(evidence: Evidence) -> Verdict:
    """Whether the offset of the phase over echoes was removed."""
    if method := evidence.method("phase-offset")[1]:
        return method, True
    if evidence.steps("unwrapping"):
        return "no phase offset was removed", False
    return None, None


def combined(evidence: Evidence) -> Verdict:
    """How echoes were combined."""
    method, title = evidence.method("echo-combination")
    return title, _recommended("echo-combination", method)


def before_background(evidence: Evidence) -> Verdict:
    """What came first: combination or background removal."""
    combined, removed = evidence.method("echo-combination")[1], evidence.method("background")[1]
    return (f"{combined}, then {removed}", True) if combined and removed else (None, None)


def brain_mask(evidence: Evidence) -> Verdict:
    """How the brain was extracted."""
    method, title = evidence.method("mask")
    litres = evidence.value("mask", "volume")
    value = title + (f", {litres:.2f} L" if isinstance(litres, float) else "")
    return value, True if method == "imported" else _recommended("mask", method)


def reliable_phase(evidence: Evidence) -> Verdict:
    """How unreliable phase was left out."""
    method, title = evidence.method("reliable-mask")
    return title, method != "none" if method else None


def holes(evidence: Evidence) -> Verdict:
    """How the mask of background removal was joined."""
    title, filled = evidence.method("background-mask")[1], evidence.value("background-mask", "holes_filled")
    return title, filled if isinstance(filled, bool) else None


def mask_seen(evidence: Evidence) -> Verdict:
    """Only a person can look at masks."""
    return ("pictures of the masks are in this report; a person must look" if evidence.steps("mask") else None), None


def background(evidence: Evidence) -> Verdict:
    """The method of background removal."""
    method, title = evidence.method("background")
    return title, _recommended("background", method)


def background_mask(evidence: Evidence) -> Verdict:
    """How much of mask 3 background removal kept."""
    kept = evidence.value("background", "share_kept")
    if not isinstance(kept, int | float) or not evidence.steps("background-mask"):
        return None, None
    return f"within mask 3, of which {kept:.0f} % are kept", kept >= SMALLEST_SHARE_KEPT


def sparse(evidence: Evidence) -> Verdict:
    """The method of inversion."""
    method, title = evidence.method("inversion")
    known = registry.judged("inversion", method)
    return title, None if known is None else known.sparse


def weighted_inversion(evidence: Evidence) -> Verdict:
    """What the inversion was weighted by."""
    title = evidence.method("weights")[1]
    return title, True if title else None


def converged(evidence: Evidence) -> Verdict:
    """How the iteration ended."""
    done, count = evidence.value("inversion", "converged"), evidence.value("inversion", "iterations")
    return (f"{words(count)} iterations, converged: {words(done)}", done) if isinstance(done, bool) else (None, None)


def parameters(evidence: Evidence) -> Verdict:
    """Parameters of the inversion."""
    given = [p for step in evidence.steps("inversion")[:1] for p in step.parameters]
    return ", ".join(f"{p.name} = {p.value} {p.unit}".strip() for p in given), True if given else None


def reference(evidence: Evidence) -> Verdict:
    """Reference region and its values."""
    method, title = evidence.method("reference")
    values = reference_values(evidence.run)
    if not method:
        return None, None
    return title + (f": {values.mean} ± {values.deviation} ppm" if values else ""), method != "none"


def whole_brain(evidence: Evidence) -> Verdict:
    """Whether the reference is the whole brain."""
    method, title = evidence.method("reference")
    return title, method == "whole-brain" if method else None


def regional(evidence: Evidence) -> Verdict:
    """Whether there are values of regions."""
    if evidence.regions:
        return f"{evidence.regions} lines of regional values", True
    return ("no regional values were made", False) if evidence.steps("inversion") else (None, None)


def grey_window(evidence: Evidence) -> Verdict:
    """How susceptibility is shown."""
    shown = any("_Chimap" in picture.file and picture.data for step in evidence.run.steps for picture in step.figures)
    low, high = CHI_WINDOW_PPM
    return (f"linear grey, {low:g} to {high:g} ppm, masked", True) if shown else (None, None)


def unit(evidence: Evidence) -> Verdict:
    """The unit of the maps."""
    return ("ppm (SI)", True) if evidence.steps("inversion") else (None, None)


def reported(evidence: Evidence) -> Verdict:
    """Essential items that are missing."""
    if not evidence.run.acquisition:
        return None, None
    missing = missing_essentials(evidence.run.acquisition)
    return (f"missing: {', '.join(missing).lower()}" if missing else "no essential item is missing"), not missing


def ernst_degrees(repetition_ms: float, t1_ms: float) -> float:
    """The flip angle of the largest signal of a spoiled gradient echo.

    >>> round(ernst_degrees(33, 1200), 1)
    13.4
    """
    return math.degrees(math.acos(math.exp(-repetition_ms / t1_ms)))


def flip_angle(evidence: Evidence) -> Verdict:
    """The flip angle against that of the largest signal."""
    """The flip angle against that of the largest signal."""
    turned, repeated = evidence.item("flip_angle"), evidence.item("repetition_time")
    angle, repetition, field = turned.number, repeated.number, evidence.item("field_strength").number
    if angle is None or not repetition or not field:
        return ", ".join(filter(None, (turned.text, repeated.text))), None
    t1_ms = 1200 * (field / 3) ** (1 / 3)  # of brain tissue; T1 grows with about the cube root of the field
    ernst = ernst_degrees(repetition, t1_ms)
    value = f"{angle:g} degrees, TR {repetition:g} ms (Ernst angle of T1 {t1_ms:.0f} ms: {ernst:.0f} degrees)"
    return value, 0.6 <= angle / ernst <= 1.6
