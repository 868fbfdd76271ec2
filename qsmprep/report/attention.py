"""What to look at in a run: each error, number beyond its limits and warning, once, with its remedy and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qsmprep.report.quality import ShownQuality
from qsmprep.report.record import RecordedStep, Run
from qsmprep.stages import stage_of

# Stage whose pictures show what a quality number tells. Those that are not here are shown by the table of numbers.
SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "unwrapping": (
        "phase_linearity",
        "phase_nonlinearity",
        "echo_time_offset",
        "bipolar_phase",
        "residual_wraps",
        "open_fringes",
    ),
    "input": ("open_fringes_input", "ghost_level"),
    "mask": ("unreliable", "mask_volume", "mask_holes", "mask_lost", "air_in_mask", "brain_outside_mask"),
    "background": ("total_field_rms", "tissue_field_rms", "background_rim", "background_harmonics", "field_noise"),
    "echo-combination": ("peak_snr",),
    "inversion": (
        "chi_sd_white_matter",
        "streaking",
        "shadow",
        "data_residual",
        "b0_direction_error",
        "iron_contrast",
    ),
    "relaxometry": ("r2star_relative",),
    "reference": ("reference_mean", "reference_sd"),
}
# Codes of warnings of a run, no step's -> the part of its page that shows it.
SHOWN_IN: Mapping[str, str] = {"files-of-other-options": "files", "files-of-failed-run": "files"}
KINDS = ("error", "number", "warning")


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes
    ----------
    id : of its place in the list.
    kind : one of `KINDS`: an error, a quality number beyond its limits, a warning.
    title : in a few words.
    text, remedy : what was found, and what to do.
    place : id of the part of the report that shows it; empty where none does.
    """

    id: str
    kind: str
    title: str
    text: str
    remedy: str
    place: str


def findings_of(name: str, run: Run, quality: ShownQuality) -> tuple[Finding, ...]:
    """Everything to look at in a run, the gravest kind first, each text once.

    Parameters
    ----------
    name : id of the run in the page.
    run : its record.
    quality : its numbers.
    """
    places = step_places(name, run)
    found: list[tuple[str, str, str, str, str]] = []
    for error in run.errors:
        found.append(("error", error.step or "The run", error.message, "", ""))
    if not run.succeeded and not run.errors:
        found.append(("error", "The run", "The run did not finish and left no message; see the log folder.", "", ""))
    for flag in quality.flags:
        stage = next((stage for stage, metrics in SHOWN_BY.items() if flag.metric in metrics), "")
        found.append(("number", flag.title, flag.message, flag.remedy, places.get(stage, f"{name}-quality")))
    for warning in run.warnings:
        part = SHOWN_IN.get(warning.code)
        found.append(("warning", "", warning.text, warning.remedy, f"{name}-{part}" if part else ""))
    known = set(run.warnings)
    numbers = {flag.message for flag in quality.flags}  # the step that measured them warns of each, too
    for number, step in enumerate(run.steps, start=1):
        title = step_heading(step, run)
        found += [
            ("warning", title, w.text, w.remedy, f"{name}-step-{number}")
            for w in step.warnings
            if w not in known and w.text not in numbers
        ]
    once = {(kind, text): (kind, title, text, *rest) for kind, title, text, *rest in reversed(found)}
    ordered = [once[kind, text] for kind, _, text, *_ in found if (kind, text) in once]
    return tuple(
        Finding(f"{name}-finding-{number}", *entry) for number, entry in enumerate(dict.fromkeys(ordered), start=1)
    )


def step_places(name: str, run: Run) -> dict[str, str]:
    """Id of the first step of each stage of a run."""
    places: dict[str, str] = {}
    for number, step in enumerate(run.steps, start=1):
        places.setdefault(stage_of(step.stage).name, f"{name}-step-{number}")
    return places


def count_words(findings: Sequence[Finding]) -> str:
    """How many findings there are of each kind.

    >>> count_words([Finding("a", "warning", "", "", "", "")])
    '1 warning'
    """
    names = {"error": "error", "number": "number beyond its limits", "warning": "warning"}
    plural = {"error": "errors", "number": "numbers beyond their limits", "warning": "warnings"}
    counted = {kind: sum(finding.kind == kind for finding in findings) for kind in KINDS}
    return ", ".join(f"{n} {(names if n == 1 else plural)[kind]}" for kind, n in counted.items() if n)


def step_heading(step: RecordedStep, run: Run) -> str:
    """The stage's heading; where several steps are of one stage, with what tells them apart."""
    heading = stage_of(step.stage).heading
    rivals = [other for other in run.steps if other.stage == step.stage]
    if len({other.method for other in rivals}) > 1:
        return f"{heading} ({step.method})"
    return f"{heading} ({step.label})" if step.label and len(rivals) > 1 else heading
