"""What the report's template shows of a run: every text ready, every id counted and never taken from the data."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from qsmprep.findings import Fact
from qsmprep.presets import SLOPPY
from qsmprep.report.acquisition import look_up, missing_essentials
from qsmprep.report.attention import Finding, count_words, findings_of, step_heading
from qsmprep.report.bibliography import references
from qsmprep.report.checklist import advice, checklist, counted
from qsmprep.report.curve import line_plot
from qsmprep.report.deviations import deviations_of
from qsmprep.report.histogram import histogram_plot
from qsmprep.report.methods import reference_values
from qsmprep.report.montage import PLANES, place_words
from qsmprep.report.numbers import quantity_words
from qsmprep.report.pictures import COMPARISONS, ON_TOP, PICTURES, SIDE_BY_SIDE, picture_name
from qsmprep.report.quality import NOT_MEASURED, ShownQuality
from qsmprep.report.record import Crash, Curve, Picture, RecordedStep, Run, words
from qsmprep.report.regional import RegionTable
from qsmprep.report.tables import acquisition_lines, further_lines, reconstruction_lines, tables_text
from qsmprep.report.usage import usage_view
from qsmprep.report.viewer import is_prefix, picture_link
from qsmprep.stages import STAGES, rank_of, stage_of

_LONGEST_LIST = 8
# What a verdict asks of the reader.
MEANINGS = {
    "usable": "No quality number lies beyond its limits. Look at the map all the same.",
    "check": "Numbers lie beyond their limits: look at what is listed here before the map is used.",
    "do not use": "A number lies beyond a limit that makes a map useless, or several lie beyond theirs.",
}
ADAPTED = "network_adapted_by"  # key of the fact of a network that was
# Facts of a step that tell which network it used, in the order of their table.
NETWORK_FACTS = (
    "network",
    "network_weights",
    "network_sha256",
    "network_statement",
    "network_domain",
    "network_grid",
    "network_precision",
    "network_patches",
    ADAPTED,
)
# Without these there is no map: a run that does not tell of them says that they are missing.
_NEEDED_STAGES = tuple(stage.name for stage in STAGES if stage.needed)


def run_view(number: int, run: Run, quality: ShownQuality, regions: Sequence[RegionTable]) -> dict[str, Any]:
    """What the template shows of a run."""
    name = f"run-{number}"
    items = checklist(run, regions=regions, quality=quality)
    findings = findings_of(name, run, quality)
    steps = [
        step_view(f"{name}-step-{k}", step, run, findings=findings, above=ON_TOP)
        for k, step in enumerate(run.steps, start=1)
    ]
    return {
        "id": name,
        "record": run,
        "findings": findings,
        "look": count_words(findings),
        "missing": missing_essentials(run.acquisition),
        "duration": duration_words(run.seconds),
        "started": started_words(run.started),
        "glance": _glance(run),
        "sections": _in_order(steps, _missing_views(name, run)),
        "steps": steps,
        "assumed": [
            (step_heading(step, run), f"{name}-step-{k}", [note.text for note in step.notes])
            for k, step in enumerate(run.steps, start=1)
            if step.notes
        ],
        "more": [picture_view(picture) for picture in run.more_figures],
        "verdict": _verdict(run, quality),
        "quality": quality,
        "regions": regions,
        "checklist": items,
        "deviations": deviations_of(run),
        "advice": advice(run, regions=regions, quality=quality),
        "counted": counted(items),
        "hardware": acquisition_lines(run, 3),
        "sequence": acquisition_lines(run, 4),
        "further": further_lines(run),
        "reconstruction": reconstruction_lines(run),
        "usage": usage_view(run.resources),
        "tables": tables_text(run),
        "tables_link": text_link(tables_text(run), "text/tab-separated-values"),
    }


def _verdict(run: Run, quality: ShownQuality) -> dict[str, Any]:
    """The answer to "can this map be used?", why, and the map itself."""
    there = {picture_name(p.file): p for step in run.steps for p in step.figures if p.data}
    shown = [there[name] for name in ON_TOP if name in there]
    word = quality.verdict if run.succeeded else "do not use"
    kind = {"usable": "ok", "check": "warned", "do not use": "failed"}.get(word, "unknown")
    why = "The run failed: what it left is not complete." if not run.succeeded else ""
    if any(warning.code == SLOPPY for warning in run.warnings):
        word, kind, why = "do not use", "failed", "A sloppy run is made to see whether the dataset can be processed."
    if run.succeeded and quality.verdict == NOT_MEASURED:
        why = "No quality numbers were found for this run: look at the pictures of every step."
    meaning = MEANINGS.get(word, "")
    return {
        "word": word,
        "kind": kind,
        "why": why,
        "meaning": meaning,
        "pictures": [picture_view(picture, prefix=run.run) for picture in shown],
    }


def _missing_views(name: str, run: Run) -> list[dict[str, Any]]:
    """Steps that were planned, or that every map needs, and did not come to an end; each says why, once a stage."""
    made = {stage_of(step.stage).name for step in run.steps}
    planned = {stage_of(step.stage).name: step.title for step in run.planned}
    if not run.succeeded and not planned:
        planned = dict.fromkeys(_NEEDED_STAGES, "")
    missing = {stage: title for stage, title in planned.items() if stage not in made}
    if run.succeeded:  # a step that the graph had no need of is no loss
        missing = {stage: title for stage, title in missing.items() if stage in _NEEDED_STAGES}
    ordered = sorted(missing, key=rank_of)
    return [
        {
            "id": f"{name}-missing-{k}",
            "missing": True,
            "stage": stage,
            "heading": stage_of(stage).heading,
            "title": missing[stage],
            "crash": _crash_behind(run),
            "first": k == 1,
        }
        for k, stage in enumerate(ordered, start=1)
    ]


def _crash_behind(run: Run) -> Crash | None:
    """What stopped the run: the first failure that is not of a picture; the run's error where no crash was kept."""
    computed = [crash for crash in run.crashes if not crash.picture]
    if computed:
        return computed[0]
    if not run.errors:
        return None
    error = run.errors[0]
    return Crash(error.step or "the run", error.message)


def _in_order(steps: list[dict[str, Any]], missing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps as they are, with what is missing put where it belongs."""
    sections = list(steps)
    for view in missing:
        later = (i for i, other in enumerate(sections) if rank_of(other["stage"]) > rank_of(view["stage"]))
        sections.insert(next(later, len(sections)), view)
    return sections


def step_view(
    name: str, step: RecordedStep, run: Run, *, findings: Sequence[Finding] = (), above: Sequence[str] = ()
) -> dict[str, Any]:
    """What the template shows of a step; the pictures named in `above` stand there, where they are not compared."""
    known, stage = references(), stage_of(step.stage)
    network = NETWORK_FACTS if step.fact("network") else ()
    of_network = [fact for key in network if (fact := step.fact(key))]
    before, _, after = stage.sentence.partition("{}")
    return {
        "id": name,
        "missing": False,
        "stage": stage.name,
        "heading": step_heading(step, run),
        "record": step,
        "sentence": (before, after),
        "citations": [(key, known[key].short()) for key in step.citations if key in known],
        "duration": duration_words(step.seconds),
        "findings": [finding for finding in findings if finding.place == name],
        "facts": [
            (fact_name(fact), fact_words(fact.value, fact.unit)) for fact in step.facts if fact.key not in network
        ],
        "network": [(f.key, f.label[:1].upper() + f.label[1:], fact_words(f.value)) for f in of_network],
        **_picture_groups(name, step, run, above),
        "plot": line_plot(step.curve) if step.curve else None,
        "plot_caption": _curve_caption(step, step.curve) if step.curve else "",
    }


def _picture_groups(name: str, step: RecordedStep, run: Run, above: Sequence[str]) -> dict[str, Any]:
    """The pictures of a step: those overlaid, those side by side, the rest, those on top; and their histograms."""
    stage = stage_of(step.stage).name
    left = {picture_name(picture.file): picture for picture in step.figures}
    comparisons: list[dict[str, Any]] = []
    for comparison in COMPARISONS:
        if comparison.stage == stage:
            wanted = [n for pattern in comparison.names for n in (left if pattern == "*" else (pattern,))]
            chosen = [
                n
                for n in dict.fromkeys(wanted)
                if n in left and left[n].data and (n in PICTURES or "*" in comparison.names)
            ]
            if len(chosen) > 1:
                views = [picture_view(left.pop(n), prefix=run.run) for n in chosen]
                if "*" in comparison.names:  # the main map is one of several methods here
                    views[0]["title"] = step.method
                comparisons.append({"id": f"{name}-compare-{len(comparisons)}", "about": comparison, "pictures": views})
    on_top = [left.pop(n) for n in above if n in left and left[n].data]
    beside = [left.pop(n) for n in SIDE_BY_SIDE.get(stage, ()) if n in left]
    return {
        "above": [picture_view(picture)["title"] for picture in on_top],
        "comparisons": comparisons,
        "beside": [picture_view(picture, prefix=run.run) for picture in beside],
        "pictures": [picture_view(picture, run, prefix=run.run) for picture in left.values()],
        "histograms": [
            {"plot": histogram_plot(p.histogram), "caption": p.caption} for p in step.figures if p.histogram is not None
        ],
    }


def picture_view(picture: Picture, run: Run | None = None, *, prefix: str = "") -> dict[str, Any]:
    """A picture as a data URI; for one that is not there, the crash of the node that should have drawn it.

    With the prefix of a run's files, each of its slices is an address in the viewer.
    """
    data = f"data:image/png;base64,{b64encode(picture.data).decode('ascii')}" if picture.data else ""
    label = picture_name(picture.file)
    crashes = run.crashes if run is not None and not data else ()
    kind = PICTURES.get(label)
    return {
        "file": picture.file,
        "caption": picture.caption or picture.file,
        "title": kind.display["title"] if kind else label,
        "data": data,
        "slices": _slice_links(picture, prefix) if is_prefix(prefix) else [],
        "crash": next((crash for crash in crashes if crash.picture == label), next(iter(crashes), None)),
    }


def _slice_links(picture: Picture, prefix: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """By plane, each slice that a picture shows: its place in words and its address in the viewer."""
    planes = {plane.name: plane for plane in PLANES}
    label = picture_name(picture.file)
    links = [
        (plane, [(place_words(planes[plane], mm), picture_link(prefix, label, plane, mm)) for mm in places])
        for plane, places in picture.slices.items()
    ]
    return [(plane, slices) for plane, slices in links if slices and slices[0][1]]


def text_link(text: str, kind: str) -> str:
    """A text as a data URI to be saved by the reader."""
    return f"data:{kind};charset=utf-8;base64,{b64encode(text.encode('utf-8')).decode('ascii')}"


def _glance(run: Run) -> list[tuple[str, str]]:
    """The few facts by which a reader recognises a run."""
    scanner = dict.fromkeys(look_up(run.acquisition, key).text for key in ("field_strength", "vendor", "scanner_model"))
    methods = [step.title or step.method for step in run.steps if stage_of(step.stage).at_a_glance]
    reference = reference_values(run)
    facts = [
        ("Scanner", " ".join(filter(None, scanner))),
        ("Echoes", look_up(run.acquisition, "echoes").text),
        ("Voxel size", look_up(run.acquisition, "voxel_size").text),
        ("Slab", look_up(run.acquisition, "slab_orientation").text),
        ("Methods", " → ".join(methods)),
        ("Reference region", f"{reference.region}: {reference.mean} ± {reference.deviation} ppm" if reference else ""),
    ]
    return [fact for fact in facts if fact[1]]


def _curve_caption(step: RecordedStep, curve: Curve) -> str:
    """What the curve of a step is: of its solver, or, for a network, of its adaptation to the case."""
    adapted = step.value(ADAPTED)
    if adapted is None:
        return f"Convergence: {curve.name}, over the iterations.{_second_part(curve)}"
    return f"Loss of the adaptation of the network to this case ({words(adapted)}), over its iterations."


def _second_part(curve: Curve) -> str:
    """Why the curve of a method of two parts may jump up, and where: a reader takes it for divergence."""
    if not curve.second:
        return ""
    return f" At iteration {curve.second} a second part begins from a start of its own: the curve may jump up there."


def fact_name(fact: Fact) -> str:
    """What a fact is called in a table: its label, and the unit of its value."""
    return f"{fact.label} ({fact.unit})" if fact.unit else fact.label


def started_words(started: str) -> str:
    """When a run began, to the minute; as it stands where it is no date and time of ISO 8601.

    >>> started_words("2026-01-02T03:04:05+00:00")
    '2026-01-02 03:04'
    """
    try:
        return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M}"
    except ValueError:
        return started


def fact_words(value: Any, unit: str = "") -> str:
    """A fact in words, its numbers as fine as the unit deserves; of a long list only its ends."""
    if isinstance(value, float):
        return quantity_words(value, unit)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, (int, float)) for part in value):
        value = [fact_words(part, unit) for part in value]
    if isinstance(value, (list, tuple)) and len(value) > _LONGEST_LIST:
        ends = f"{words(value[:3])}, …, {words(value[-2:])}"
        return f"{ends} ({len(value)} values)"
    return words(value)


def duration_words(seconds: float | None) -> str:
    """A duration as a person says it; empty when unknown or too short to tell.

    >>> duration_words(134.2)
    '2 min 14 s'
    """
    if seconds is None or seconds < 0.05:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
