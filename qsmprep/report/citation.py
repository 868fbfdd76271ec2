"""The methods text of all runs as files of its own beside the logs, with the publications it cites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qsmprep.bids.outputs import write_text
from qsmprep.report.bibliography import cited
from qsmprep.report.methods import methods_prose
from qsmprep.report.page import render_citation
from qsmprep.report.record import Run, parse_run


def write_citation_files(
    logs_dir: Path, records: Iterable[Mapping[str, Any] | Run], *, markdown_only: bool = False
) -> list[Path]:
    """Write CITATION.md, CITATION.bib (only what is cited) and CITATION.html (self-contained) for these runs.

    Parameters
    ----------
    logs_dir : folder for the files, made if need be.
    records : the run records, of any number of participants.
    markdown_only : write CITATION.md alone.

    Returns
    -------
    The paths written.
    """
    runs = [parse_run(record) for record in records]
    text = methods_prose(runs)
    entries = cited(text.citation_keys())
    folder = Path(logs_dir)
    contents = {"CITATION.md": text.markdown()}
    if not markdown_only:
        contents |= {
            "CITATION.bib": "\n\n".join(entry.bibtex for entry in entries) + "\n",
            "CITATION.html": render_citation(text),
        }
    for name, content in contents.items():
        write_text(folder / name, content)
    return [folder / name for name in contents]
