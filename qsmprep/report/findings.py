"""What a run tells about each recommendation of the consensus: the value found, and whether it is as recommended."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from qsmprep import registry
from qsmprep.report.acquisition import ITEMS, look_up, missing_essentials
from qsmprep.report.figures import CHI_WINDOW_PPM
from qsmprep.report.methods import reference_values
from qsmprep.report.record import Run, Step, words
from qsmprep.stages import stage_of

# Limits that the paper gives in words; the numbers are ours.
LATEST_FIRST_ECHO_MS = 10.0  # at 3 T, in inverse proportion to the field
LAST_ECHO_OF_T2STAR = (0.5, 1.5)
LARGEST_VOXEL_MM, LARGEST_ANISOTROPY = 1.05, 1.1
SHORTEST_EDGE_MM = 120.0  # a slab thinner than that does not hold a brain
SMALLEST_SHARE_KEPT = 75.0  # percent; larger spheres at the edge cost more

Finding = tuple[str | None, bool | None]  # value found, and whether it is as recommended; None: nothing tells


@dataclass(frozen=True)
class Facts:
    """A run as the recommendations ask about it."""

    run: Run
    regions: int

    def item(self, name: str) -> str:
        """The value of an acquisition item in words; empty where it is not available."""
        entry = look_up(self.run.acquisition, next(item for item in ITEMS if item.name == name))
        return "" if entry["value"] is None else words(entry["value"])

    def numbers(self, name: str) -> list[float]:
        """The numbers in the value of an acquisition item, in order."""
        return [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", self.item(name))]

    def steps(self, stage: str) -> list[Step]:
        """The steps of a stage that ran."""
        return [step for step in self.run.steps if stage_of(step.stage).name == stage]

    def method(self, stage: str) -> tuple[str, str]:
        """Name and title of the first method of a stage; empty where none ran."""
        steps = self.steps(stage)
        return (steps[0].method, steps[0].title or steps[0].method) if steps else ("", "")

    def fact(self, stage: str, name: str) -> Any:
        """A fact of a stage's first step; None where it is not told."""
        steps = self.steps(stage)
        return steps[0].facts.get(name) if steps else None

    def echo_times_ms(self) -> tuple[float, ...]:
        """First and last echo time; empty where they are not known."""
        times = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", self.item("Echoes").partition("=")[2])]
        return (times[0], times[-1]) if times else ()


def _recommended(stage: str, method: str) -> bool | None:
    """Whether the paper recommends a method, as the registry says; None for one that it does not know."""
    known = registry.judged(stage, method)
    return None if known is None else known.recommended


def three_dimensional(facts: Facts) -> Finding:
    """Two or three dimensions, as the sidecar says."""
    value = facts.item("Sequence type")
    found = re.search(r"\b([23])D\b", value, re.IGNORECASE)
    return value, found[1] == "3" if found else None


def monopolar(facts: Facts) -> Finding:
    """Which way the echoes were read."""
    value = facts.item("Readout polarity")
    plain = value.lower()
    return value, False if "bipolar" in plain else True if "mono" in plain else None


def echo_count(facts: Facts) -> Finding:
    """How many echoes there are."""
    counted = re.match(r"(\d+) echo", facts.item("Echoes"))
    return (f"{counted[1]} echoes", int(counted[1]) >= 3) if counted else (None, None)


def first_echo(facts: Facts) -> Finding:
    """When the first echo came."""
    times, field = facts.echo_times_ms(), facts.numbers("Field strength")
    if not times:
        return None, None
    if not field:
        return f"TE1 {times[0]:g} ms, field strength unknown", None
    limit = LATEST_FIRST_ECHO_MS * 3 / field[0]
    return f"TE1 {times[0]:g} ms at {field[0]:g} T (limit {limit:.3g} ms)", times[0] <= limit


def last_echo(facts: Facts) -> Finding:
    """The last echo against T2* as the run measured it."""
    times, rate = facts.echo_times_ms(), facts.fact("relaxometry", "median R2* (1/s)")
    if not times:
        return None, None
    if not isinstance(rate, (int, float)) or rate <= 0:
        return f"last TE {times[1]:g} ms, T2* of the brain not measured", None
    share = times[1] * rate / 1000
    low, high = LAST_ECHO_OF_T2STAR
    return f"last TE {times[1]:g} ms, median T2* of the brain {1000 / rate:.0f} ms", low <= share <= high


def voxels(facts: Facts) -> Finding:
    """Voxel edges."""
    sizes = facts.numbers("Voxel size")
    if len(sizes) != 3 or min(sizes) <= 0:
        return None, None
    good = max(sizes) <= LARGEST_VOXEL_MM and max(sizes) / min(sizes) <= LARGEST_ANISOTROPY
    return facts.item("Voxel size"), good


def coverage(facts: Facts) -> Finding:
    """Edges of the field of view."""
    edges = facts.numbers("Field of view")
    return (facts.item("Field of view"), min(edges) >= SHORTEST_EDGE_MM) if len(edges) == 3 else (None, None)


def partial_fourier(facts: Facts) -> Finding:
    """Share of k-space that was sampled."""
    shares = facts.numbers("Partial Fourier")
    return facts.item("Partial Fourier"), shares[0] >= 1 or shares[0] == 0 if shares else None


def b0_direction(facts: Facts) -> Finding:
    """How the slab lies to B0."""
    value = facts.item("Orientation of the slab")
    return value, True if value else None


def unfiltered(facts: Facts) -> Finding:
    """What the run's own test for filtered phase found."""
    warned = [text for text in facts.run.all_warnings() if "filtered" in text]
    if warned:
        return warned[0], False
    return ("the phase images show no sign of a high-pass filter", True) if facts.steps("input") else (None, None)


def coil_combination(facts: Facts) -> Finding:
    """What tells of the coils: whether they were combined well shows in the pictures alone."""
    left = facts.fact("unwrapping", "voxels left wrapped")
    title = facts.method("phase-offset")[1]
    value = f"phase offset over echoes removed by {title}" if title else ""
    if isinstance(left, int):
        value += f"{'; ' if value else ''}{left} voxels left wrapped"
    return value, None  # whether the coils were combined well shows in the pictures alone


def phase_convention(facts: Facts) -> Finding:
    """How scaling and sign were decided."""
    notes = [note for step in facts.steps("input") for note in step.notes]
    told = [
        note for note in notes if note.startswith(("Phase to radians", "Phase sign", "Sign of every", "Magnitude and"))
    ]
    return " ".join(told), True if told else None


def exact_unwrapping(facts: Facts) -> Finding:
    """The unwrapping method."""
    method, title = facts.method("unwrapping")
    return title, _recommended("unwrapping", method)


def offset(facts: Facts) -> Finding:
    """Whether the offset of the phase over echoes was removed."""
    if method := facts.method("phase-offset")[1]:
        return method, True
    if facts.steps("unwrapping"):
        return "no phase offset was removed", False
    return None, None


def combined(facts: Facts) -> Finding:
    """How echoes were combined."""
    method, title = facts.method("echo-combination")
    return title, _recommended("echo-combination", method)


def before_background(facts: Facts) -> Finding:
    """What came first: combination or background removal."""
    combined, removed = facts.method("echo-combination")[1], facts.method("background")[1]
    return (f"{combined}, then {removed}", True) if combined and removed else (None, None)


def brain_mask(facts: Facts) -> Finding:
    """How the brain was extracted."""
    method, title = facts.method("mask")
    litres = facts.fact("mask", "volume of brain (L)")
    value = title + (f", {litres:.2f} L" if isinstance(litres, float) else "")
    return value, True if method == "imported" else _recommended("mask", method)


def reliable_phase(facts: Facts) -> Finding:
    """How unreliable phase was left out."""
    method, title = facts.method("reliable-mask")
    return title, method != "none" if method else None


def holes(facts: Facts) -> Finding:
    """How the mask of background removal was joined."""
    title = facts.method("background-mask")[1]
    return title, True if "holes" in title else None


def mask_seen(facts: Facts) -> Finding:
    """Only a person can look at masks."""
    return ("pictures of the masks are in this report; a person must look" if facts.steps("mask") else None), None


def background(facts: Facts) -> Finding:
    """The method of background removal."""
    method, title = facts.method("background")
    return title, _recommended("background", method)


def background_mask(facts: Facts) -> Finding:
    """How much of mask 3 background removal kept."""
    kept = facts.fact("background", "share of mask 3 kept (%)")
    if not isinstance(kept, (int, float)) or not facts.steps("background-mask"):
        return None, None
    return f"within mask 3, of which {kept:.0f} % are kept", kept >= SMALLEST_SHARE_KEPT


def sparse(facts: Facts) -> Finding:
    """The method of inversion."""
    method, title = facts.method("inversion")
    known = registry.judged("inversion", method)
    return title, None if known is None else known.sparse


def weighted_inversion(facts: Facts) -> Finding:
    """What the inversion was weighted by."""
    title = facts.method("weights")[1]
    return title, True if title else None


def converged(facts: Facts) -> Finding:
    """How the iteration ended."""
    done, count = facts.fact("inversion", "converged"), facts.fact("inversion", "iterations")
    return (f"{words(count)} iterations, converged: {words(done)}", done) if isinstance(done, bool) else (None, None)


def parameters(facts: Facts) -> Finding:
    """Parameters of the inversion."""
    given = [p for step in facts.steps("inversion")[:1] for p in step.parameters]
    return ", ".join(f"{p.name} = {p.value} {p.unit}".strip() for p in given), True if given else None


def reference(facts: Facts) -> Finding:
    """Reference region and its values."""
    method, title = facts.method("reference")
    values = reference_values(facts.run)
    if not method:
        return None, None
    return title + (f": {values.mean} ± {values.deviation} ppm" if values else ""), method != "none"


def whole_brain(facts: Facts) -> Finding:
    """Whether the reference is the whole brain."""
    method, title = facts.method("reference")
    return title, method == "whole-brain" if method else None


def regional(facts: Facts) -> Finding:
    """Whether there are values of regions."""
    if facts.regions:
        return f"{facts.regions} lines of regional values", True
    return ("no regional values were made", False) if facts.steps("inversion") else (None, None)


def grey_window(facts: Facts) -> Finding:
    """How susceptibility is shown."""
    shown = any("_Chimap" in picture.file and picture.data for step in facts.run.steps for picture in step.figures)
    low, high = CHI_WINDOW_PPM
    return (f"linear grey, {low:g} to {high:g} ppm, masked", True) if shown else (None, None)


def unit(facts: Facts) -> Finding:
    """The unit of the maps."""
    return ("ppm (SI)", True) if facts.steps("inversion") else (None, None)


def reported(facts: Facts) -> Finding:
    """Essential items that are missing."""
    if not facts.run.acquisition:
        return None, None
    missing = missing_essentials(facts.run.acquisition)
    return (f"missing: {', '.join(missing).lower()}" if missing else "no essential item is missing"), not missing


def ernst_degrees(repetition_ms: float, t1_ms: float) -> float:
    """The flip angle of the largest signal of a spoiled gradient echo.

    >>> round(ernst_degrees(33, 1200), 1)
    13.4
    """
    return math.degrees(math.acos(math.exp(-repetition_ms / t1_ms)))


def flip_angle(facts: Facts) -> Finding:
    """The flip angle against that of the largest signal."""
    """The flip angle against that of the largest signal."""
    angle, repetition, field = (facts.numbers(n) for n in ("Flip angle", "Repetition time", "Field strength"))
    if not (angle and repetition and field):
        return ", ".join(filter(None, (facts.item("Flip angle"), facts.item("Repetition time")))), None
    t1_ms = 1200 * (field[0] / 3) ** (1 / 3)  # of brain tissue; T1 grows with about the cube root of the field
    ernst = ernst_degrees(repetition[0], t1_ms)
    value = f"{angle[0]:g} degrees, TR {repetition[0]:g} ms (Ernst angle of T1 {t1_ms:.0f} ms: {ernst:.0f} degrees)"
    return value, 0.6 <= angle[0] / ernst <= 1.6
