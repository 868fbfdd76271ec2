"""The HTML report of a participant: one file, no network, every text of the data escaped."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from qsmprep.bids.outputs import quality_path
from qsmprep.bids.roi_table import roi_path
from qsmprep.report.bibliography import cited, references
from qsmprep.report.methods import CITATION_GROUP, keys_in, merged_methods_text
from qsmprep.report.quality import Quality, read_quality
from qsmprep.report.record import Run, subject_label
from qsmprep.report.regional import RegionTable, read_regions
from qsmprep.report.subject import runs_of
from qsmprep.report.tables import tables_text
from qsmprep.report.viewer import is_prefix, viewer_link
from qsmprep.report.views import run_view, text_link

TABLES_SUFFIX = "_tables.tsv"
Measured = tuple[Quality, tuple[RegionTable, ...]]


def write_subject_report(output_dir: Path, subject: str) -> Path:
    """Write sub-X.html from the output folder alone, all sessions, and the tables of each run beside its pictures.

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
    from qsmprep.bids.outputs import figures_folder, write_text

    label = subject_label(subject)
    output = Path(output_dir)
    runs = list(runs_of(output, label))
    measured: list[Measured] = []
    for number, run in enumerate(runs):
        if not is_prefix(run.run):  # a name out of a broken record leads to no file
            measured.append((Quality(), ()))
            continue
        regions: Sequence[RegionTable] = ()
        try:
            regions = read_regions(output / roi_path(run.run, ".tsv"))
        except ValueError as problem:  # a report must come
            runs[number] = run = replace(run, warnings=(*run.warnings, str(problem)))
        measured.append((read_quality(output / quality_path(run.run)), regions))
        write_text(output / figures_folder(run.run) / f"{run.run}{TABLES_SUFFIX}", tables_text(run))
    path = output / f"sub-{label}.html"
    write_text(path, render_subject(label, runs, measured))
    return path


def render_subject(label: str, runs: Sequence[Run], measured: Sequence[Measured] = ()) -> str:
    """The report as HTML text.

    Parameters
    ----------
    label : of the subject.
    runs : in the order in which they are shown.
    measured : quality numbers and regional values of each run; none where it is empty.
    """
    text = merged_methods_text(runs)
    measured = measured or [(Quality(), ())] * len(runs)
    script = _script()
    return (
        _environment()
        .get_template("report.html")
        .render(
            label=label,
            runs=[
                run_view(number, run, *found)
                for number, (run, found) in enumerate(zip(runs, measured, strict=True), start=1)
            ],
            viewers={run.run: viewer_link(run.run) for run in runs if run.succeeded and is_prefix(run.run)},
            provenance=_provenance(runs),
            methods=methods_html(text),
            methods_plain=methods_plain(text),
            methods_link=text_link(methods_plain(text), "text/plain"),
            references=_reference_views(keys_in(text), runs),
            failed=sum(not run.succeeded for run in runs),
            warned_count=sum(len(run.all_warnings()) for run in runs),
            script=script,
            script_hash=b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii"),
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


def methods_plain(text: str) -> str:
    """The Markdown that `methods` writes as plain text, to be pasted: citations in words, no markup.

    >>> methods_plain("## A\\n\\nBy *TKD* [@shmueli2009].")
    'A\\n\\nBy TKD (Shmueli et al., 2009).'
    """
    known = references()

    def cite(match: re.Match[str]) -> str:
        keys = match[1].replace("@", "").split("; ")
        return f"({'; '.join(known[key].short() if key in known else key for key in keys)})"

    plain = CITATION_GROUP.sub(cite, text)
    plain = re.sub(r"(?<!\\)\*(.+?)(?<!\\)\*", r"\1", plain)
    plain = re.sub(r"^## ", "", plain, flags=re.MULTILINE)
    return re.sub(r"\\([<>\\`*\[\]])", r"\1", plain)


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


def _script() -> Any:
    """The page's script; the policy of the page names its hash, so that no other can run."""
    from markupsafe import Markup

    return Markup(resources.files("qsmprep.data").joinpath("report.js").read_text(encoding="utf-8"))


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


def _reference_views(keys: Sequence[str], runs: Sequence[Run]) -> list[dict[str, str]]:
    every = [*keys, *(key for run in runs for step in run.steps for key in step.citations)]
    return [{"key": entry.key, "text": entry.long(), "url": entry.url} for entry in cited(every)]
