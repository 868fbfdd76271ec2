"""The HTML report of a participant: one file, no network, every text of the data escaped."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from qsmprep.report.acquisition import missing_essentials
from qsmprep.report.bibliography import cited, references
from qsmprep.report.curve import line_plot
from qsmprep.report.methods import CITATION_GROUP, keys_in, merged_methods_text, reference_values
from qsmprep.report.record import Run, Step, read_runs, subject_label, words
from qsmprep.report.stages import stage_of
from qsmprep.report.tables import acquisition_lines, further_lines, reconstruction_lines

_LONGEST_LIST = 8
ADAPTED = "adapted to the case by"  # the fact of a network that was
# Facts of a step that tell which network it used, and what they are called in its table.
NETWORK_FACTS = {
    "network": "Network",
    "weights": "File of weights",
    "sha256 of the weights": "SHA-256 of the weights",
    "statement of the weights": "Training",
    "trained on": "Training data",
    "grid of the network": "Grid it saw the scan on",
    "precision": "Precision",
    "patches": "Patches",
    ADAPTED: "Adapted to the case by",
}
_MAIN_STAGES = ("unwrapping", "background", "inversion")


def write_subject_report(output_dir: Path, subject: str) -> Path:
    """Write sub-X.html from the run records of a participant, all sessions.

    Parameters
    ----------
    output_dir : folder of the derivatives; records and figures are read from its sub-X[/ses-Y]/figures.
    subject : label, with or without "sub-".

    Returns
    -------
    Path of the report.

    Raises
    ------
    ValueError : a label that is no plain name.
    """
    from qsmprep.bids.outputs import write_text

    label = subject_label(subject)
    path = Path(output_dir) / f"sub-{label}.html"
    write_text(path, render_subject(label, read_runs(output_dir, label)))
    return path


def render_subject(label: str, runs: Sequence[Run]) -> str:
    """The report as HTML text."""
    text = merged_methods_text(runs)
    return (
        _environment()
        .get_template("report.html")
        .render(
            label=label,
            runs=[_run_view(number, run) for number, run in enumerate(runs, start=1)],
            provenance=_provenance(runs),
            methods=methods_html(text),
            references=_reference_views(keys_in(text), runs),
            failed=sum(not run.succeeded for run in runs),
            warned=sum(len(run.all_warnings()) for run in runs),
        )
    )


def render_citation(text: str) -> str:
    """Methods text and references as a page of their own."""
    return (
        _environment()
        .get_template("citation.html")
        .render(methods=methods_html(text), references=_reference_views(keys_in(text), []))
    )


def methods_html(text: str) -> Any:
    """The Markdown that `methods` writes as HTML: headings, paragraphs, emphasis, citations linked to the list."""
    from markupsafe import Markup

    blocks = []
    for block in text.strip().split("\n\n"):
        if block.startswith("## "):
            blocks.append(f"<h3>{_inline(block[3:])}</h3>")
        else:
            blocks.append(f"<p>{_inline(block)}</p>")
    return Markup("\n".join(blocks))


def _inline(text: str) -> str:
    safe = html.escape(text)
    safe = CITATION_GROUP.sub(_link, safe)
    safe = re.sub(r"(?<!\\)\*(.+?)(?<!\\)\*", r"<em>\1</em>", safe)
    return re.sub(r"\\(&lt;|&gt;|[\\`*\[\]])", r"\1", safe)


def _link(match: re.Match[str]) -> str:
    known, links = references(), []
    for key in match[1].replace("@", "").split("; "):
        entry = known.get(key)
        links.append(f'<a href="#ref-{key}">{html.escape(entry.short())}</a>' if entry else html.escape(key))
    return f"({'; '.join(links)})"


def _environment() -> Any:
    import jinja2

    folder = resources.files("qsmprep.data")
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _provenance(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Command and software of the runs, each pair once."""
    pairs = ((run.command, " · ".join(f"{name} {version}" for name, version in run.software.items())) for run in runs)
    return [pair for pair in dict.fromkeys(pairs) if any(pair)]


def _run_view(number: int, run: Run) -> dict[str, Any]:
    """What the template shows of a run; ids are counted, never taken from the data."""
    name = f"run-{number}"
    return {
        "id": name,
        "record": run,
        "warnings": run.all_warnings(),
        "missing": missing_essentials(run.acquisition),
        "duration": duration_words(run.seconds),
        "started": re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", run.started),
        "glance": _glance(run),
        "steps": [_step_view(f"{name}-step-{k}", step) for k, step in enumerate(run.steps, start=1)],
        "assumed": [
            (stage_of(step.stage).heading, f"{name}-step-{k}", step.notes)
            for k, step in enumerate(run.steps, start=1)
            if step.notes
        ],
        "more": [_picture_view(picture) for picture in run.more_figures],
        "hardware": acquisition_lines(run, 3),
        "sequence": acquisition_lines(run, 4),
        "further": further_lines(run),
        "reconstruction": reconstruction_lines(run),
    }


def _glance(run: Run) -> list[tuple[str, str]]:
    """The few facts by which a reader recognises a run."""
    value = {line.item: line.values[0] for table in (3, 4) for line in acquisition_lines(run, table) if line.available}
    scanner = (value.get(name, "") for name in ("Field strength", "Vendor", "Scanner model"))
    methods = [step.title or step.method for step in run.steps if stage_of(step.stage).name in _MAIN_STAGES]
    reference = reference_values(run)
    facts = [
        ("Scanner", " ".join(filter(None, scanner))),
        ("Echoes", value.get("Echoes", "")),
        ("Voxel size", value.get("Voxel size", "")),
        ("Slab", value.get("Orientation of the slab", "")),
        ("Methods", " → ".join(methods)),
        ("Reference region", f"{reference.region}: {reference.mean} ± {reference.deviation} ppm" if reference else ""),
    ]
    return [fact for fact in facts if fact[1]]


def _step_view(name: str, step: Step) -> dict[str, Any]:
    known = references()
    network = NETWORK_FACTS if "network" in step.facts else {}
    return {
        "id": name,
        "heading": stage_of(step.stage).heading,
        "record": step,
        "citations": [(key, known[key].short()) for key in step.citations if key in known],
        "duration": duration_words(step.seconds),
        "facts": [(str(fact), fact_words(value)) for fact, value in step.facts.items() if fact not in network],
        "network": [(title, fact_words(step.facts[fact])) for fact, title in network.items() if fact in step.facts],
        "pictures": [_picture_view(picture) for picture in step.figures],
        "plot": line_plot(step.curve) if step.curve else None,
        "plot_caption": _curve_caption(step) if step.curve else "",
    }


def _curve_caption(step: Step) -> str:
    """What the curve of a step is: of its solver, or, for a network, of its adaptation to the case."""
    adapted = step.facts.get(ADAPTED)
    if adapted is None:
        return f"Convergence: {step.curve.name}, over the iterations."
    return f"Loss of the adaptation of the network to this case ({words(adapted)}), over its iterations."


def _picture_view(picture: Any) -> dict[str, str]:
    data = f"data:image/png;base64,{b64encode(picture.data).decode('ascii')}" if picture.data else ""
    return {"file": picture.file, "caption": picture.caption or picture.file, "data": data}


def _reference_views(keys: Sequence[str], runs: Sequence[Run]) -> list[dict[str, str]]:
    every = [*keys, *(key for run in runs for step in run.steps for key in step.citations)]
    return [{"key": entry.key, "text": entry.long(), "url": entry.url} for entry in cited(every)]


def fact_words(value: Any) -> str:
    """A fact in words; of a long list only its ends."""
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
