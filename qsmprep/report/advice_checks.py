"""What the paper's text and tables advise beside its list of recommendations, and good practice."""

from __future__ import annotations

from qsmprep.report.evidence import NO_CASE, Evidence, Verdict, short, unknown, verdict
from qsmprep.report.record import words

LATEST_FIRST_ECHO_MS = 10.0  # at 3 T, in inverse proportion to the field
FILTER_SHOWS_MS = 15.0  # echo time from which the run's test sees a filter
# Warnings of a run that mean that its phase was filtered, and notes that tell how its phase is to be understood.
FILTERED = ("phase-filtered", "image-type-filtered")
CONVENTION = ("phase-scaling", "complex-input", "slice-alternation", "phase-sign")


def first_echo(evidence: Evidence) -> Verdict:
    """The first echo as early as possible (text 2.1)."""
    times, field = evidence.echo_times_ms(), evidence.field_t()
    if not times or not field:
        return unknown()
    limit = LATEST_FIRST_ECHO_MS * 3 / field
    return verdict(f"TE1 {times[0]:g} ms at {field:g} T (limit {limit:.3g} ms)", times[0] <= limit)


def partial_fourier(evidence: Evidence) -> Verdict:
    """Full sampling of k-space (table 4)."""
    entry = evidence.item("partial_fourier")
    share = entry.number_of("PartialFourier")
    return verdict(entry.text, None if share is None else share >= 1 or share == 0)


def slab_angle(evidence: Evidence) -> Verdict:
    """The slab's angle to B0 known (text 2.1), held against the field itself."""
    entry, error = evidence.item("slab_orientation"), evidence.measured("b0_direction_error")
    told = f"; the field's own axis is {short(error)} off (limit: {error.limits})" if error else ""
    return verdict(entry.text + told, None if not entry.available else error is None or error.within is not False)


def unfiltered(evidence: Evidence) -> Verdict:
    """Unfiltered phase (text 3.1), as far as a filter could have been seen."""
    warned = [warning.text for _, warning in evidence.run.all_warnings() if warning.code in FILTERED]
    if warned:
        return verdict(warned[0], False)
    times = evidence.echo_times_ms()
    if not evidence.steps("input") or not times:
        return unknown()
    if times[-1] < FILTER_SHOWS_MS:
        return unknown(f"a filter could not be seen: the last echo is at {times[-1]:g} ms")
    return verdict("no sign of a high-pass filter in the phase", True)


def convention(evidence: Evidence) -> Verdict:
    """Scaling and sign of the phase (text 3.1)."""
    notes = [note for step in evidence.steps("input") for note in step.notes]
    told = [note.text for note in notes if note.code in CONVENTION]
    inverted = evidence.measured("iron_contrast")
    tested = [f"Susceptibility where R2* is highest: {short(inverted)}."] if inverted else []
    if not told:
        return unknown()
    good = inverted.within if inverted is not None else evidence.value("input", "phase_sign_known") or None
    return verdict(" ".join(told + tested), good)


def weighted(evidence: Evidence) -> Verdict:
    """Data weighted by their reliability (text 7.1)."""
    title = evidence.method("weights")[1]
    return verdict(title, True if title else None)


def converged(evidence: Evidence) -> Verdict:
    """How the iteration ended."""
    done, count = evidence.value("inversion", "converged"), evidence.value("inversion", "iterations")
    if evidence.value("inversion", "network"):
        return Verdict(NO_CASE, "a network does not iterate")
    if not isinstance(done, bool):
        return unknown()
    return verdict(f"{words(count)} iterations, converged: {words(done)}", done)


def parameters(evidence: Evidence) -> Verdict:
    """Every parameter stated (table 5)."""
    given = [p for step in evidence.steps("inversion")[:1] for p in step.parameters if p.acts]
    return verdict(", ".join(f"{p.name} = {p.value} {p.unit}".strip() for p in given), True if given else None)


def masks_seen(evidence: Evidence) -> Verdict:
    """Masks looked at by a person."""
    return unknown("pictures of the masks are in this report; a person must look" if evidence.steps("mask") else "")


def window(evidence: Evidence) -> Verdict:
    """Maps in linear grey, masked, their window stated (text 9.1.4)."""
    shown = any("_Chimap" in picture.file and picture.data for step in evidence.run.steps for picture in step.figures)
    limits = [step.value("window") for step in evidence.steps("display") if step.value("window_of") == "susceptibility"]
    if not shown or not limits or not isinstance(limits[0], list | tuple) or len(limits[0]) != 2:
        return unknown()
    low, high = limits[0]
    return verdict(f"linear grey, masked, {words(low)} to {words(high)} ppm", True)


def unit(evidence: Evidence) -> Verdict:
    """The unit of the maps (table 5)."""
    return verdict("ppm (SI)" if evidence.steps("inversion") else "", True)
