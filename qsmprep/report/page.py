"""The HTML report of a participant: one file, no network, every text of the data escaped.

A participant of many runs has a page for each of them, and one that lists them: pictures of 200 runs in one page are
hundreds of megabytes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import jinja2
from markupsafe import Markup

from qsmprep.bids.outputs import figures_folder, quality_path, write_text
from qsmprep.bids.roi_table import roi_path
from qsmprep.files.age import is_of_earlier_command
from qsmprep.findings import Warning
from qsmprep.report.bibliography import cited
from qsmprep.report.files import files_of
from qsmprep.report.methods import methods_prose
from qsmprep.report.prose import Prose
from qsmprep.report.quality import ShownQuality, read_quality
from qsmprep.report.record import Run, subject_label
from qsmprep.report.regional import RegionTable, read_regions
from qsmprep.report.subject import runs_of
from qsmprep.report.tables import tables_text
from qsmprep.report.viewer import is_prefix, viewer_link
from qsmprep.report.views import MEANINGS, run_view, text_link

TABLES_SUFFIX = "_tables.tsv"
MOST_RUNS = 8  # of one page
Measured = tuple[ShownQuality, tuple[RegionTable, ...]]


def write_subject_report(output_dir: Path, subject: str) -> Path:
    """Write sub-X.html from the output folder alone, all sessions, and the tables of each run beside its pictures.

    Of more than MOST_RUNS runs it lists them, and each has a page beside it, named as the run.

    Parameters
    ----------
    output_dir : folder of the derivatives; records, pictures, sidecars and numbers are read from its sub-X[/ses-Y].
    subject : label, with or without "sub-".

    Returns
    -------
    Path of the report.

    Raises
    ------
    ValueError : a label that is no plain name.
    """
    label = subject_label(subject)
    output = Path(output_dir)
    runs = list(runs_of(output, label))
    measured: list[Measured] = []
    for number, run in enumerate(runs):
        if not is_prefix(run.run):  # a name out of a broken record leads to no file
            measured.append((ShownQuality(), ()))
            continue
        regions: tuple[RegionTable, ...] = ()
        table, numbers = output / roi_path(run.run, ".tsv"), output / quality_path(run.run)
        try:
            if not is_of_earlier_command(table, run.started):
                regions = read_regions(table)
        except ValueError as problem:  # a report must come
            told = Warning("regions-unreadable", str(problem), "Run qsmprep again for this participant.")
            runs[number] = run = replace(run, warnings=(*run.warnings, told))
        earlier = is_of_earlier_command(numbers, run.started)
        measured.append((ShownQuality() if earlier else read_quality(numbers), regions))
        write_text(output / figures_folder(run.run) / f"{run.run}{TABLES_SUFFIX}", tables_text(run))
    path = output / f"sub-{label}.html"
    if len(runs) <= MOST_RUNS:
        write_text(path, render_subject(label, runs, measured, output))
        return path
    rows = []
    for number, (run, found) in enumerate(zip(runs, measured, strict=True), start=1):
        page = f"{run.run}.html" if is_prefix(run.run) else f"sub-{label}_unnamed-{number}.html"
        view = run_view(1, run, *found)
        write_text(output / page, _render(label, [run], [view], overview=path.name, output_dir=output))
        rows.append((page, {name: view[name] for name in ("record", "findings", "verdict", "started")}))
    write_text(path, _environment().get_template("report_runs.html").render(label=label, rows=rows))
    return path


def render_subject(
    label: str, runs: Sequence[Run], measured: Sequence[Measured] = (), output_dir: Path | None = None
) -> str:
    """The report as HTML text.

    Parameters
    ----------
    label : of the subject.
    runs : in the order in which they are shown.
    measured : quality numbers and regional values of each run; none where it is empty.
    output_dir : folder whose files are listed; None: none are.
    """
    measured = measured or [(ShownQuality(), ())] * len(runs)
    views = [
        run_view(number, run, *found) for number, (run, found) in enumerate(zip(runs, measured, strict=True), start=1)
    ]
    return _render(label, runs, views, output_dir=output_dir)


def _render(
    label: str,
    runs: Sequence[Run],
    views: Sequence[dict[str, Any]],
    *,
    overview: str = "",
    output_dir: Path | None = None,
) -> str:
    """The page of some runs; `overview` is that of all runs, where this one is not."""
    methods = methods_prose(runs)
    script = _script()
    listed = runs if output_dir is not None else ()
    files = {run.run: files_of(output_dir, run.run, run.started) for run in listed if output_dir and is_prefix(run.run)}
    return (
        _environment()
        .get_template("report.html")
        .render(
            label=label,
            overview=overview,
            meanings=MEANINGS,
            runs=[{**view, "export": export_link(run)} for run, view in zip(runs, views, strict=True)],
            viewers={run.run: viewer_link(run.run) for run in runs if run.succeeded and is_prefix(run.run)},
            files=files,
            provenance=_provenance(runs),
            methods=methods.html(),
            methods_plain=methods.plain(),
            methods_link=text_link(methods.plain(), "text/plain"),
            references=_reference_views(methods.citation_keys(), runs),
            failed=sum(not run.succeeded for run in runs),
            script=script,
            script_hash=b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii"),
        )
    )


def export_link(run: Run) -> str:
    """Methods text, consensus tables 3 to 5 and bibliography of one run as a data URI of a ZIP file."""
    methods = methods_prose([run])
    entries = cited([*methods.citation_keys(), *(key for step in run.steps for key in step.citations)])
    texts = {
        "methods.md": methods.markdown(),
        "methods.txt": methods.plain(),
        "tables.tsv": tables_text(run),
        "references.bib": "\n\n".join(entry.bibtex for entry in entries) + "\n",
    }
    stream = BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for name, text in texts.items():  # with a date of their own, two reports of one run would differ
            archive.writestr(ZipInfo(name), text, ZIP_DEFLATED)
    return f"data:application/zip;base64,{b64encode(stream.getvalue()).decode('ascii')}"


def render_citation(text: Prose) -> str:
    """Methods text and references as a page of their own."""
    references = _reference_views(text.citation_keys(), [])
    return _environment().get_template("citation.html").render(methods=text.html(), references=references)


def _script() -> Any:
    """The page's script; the policy of the page names its hash, so that no other can run."""
    return Markup(resources.files("qsmprep.data").joinpath("report.js").read_text(encoding="utf-8"))


@cache
def _environment() -> Any:
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


def _reference_views(keys: Sequence[str], runs: Sequence[Run]) -> list[dict[str, str]]:
    every = [*keys, *(key for run in runs for step in run.steps for key in step.citations)]
    return [{"key": entry.key, "text": entry.long(), "url": entry.url} for entry in cited(every)]
