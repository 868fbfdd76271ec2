"""The methods text of all runs as files of its own beside the logs, with the publications it cites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from qsmprep.bids.outputs import write_text
from qsmprep.report.bibliography import cited
from qsmprep.report.methods import methods_prose
from qsmprep.report.page import render_citation
from qsmprep.report.record import Run, parse_run
from qsmprep.report.subject import record_files, records_there, runs_with_results

ATTEMPTS = 5
MOST_OTHERS = 200  # records of other commands that a command still reads for the text: about a second


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


def is_left_to_group(output_dir: Path, own: int) -> bool:
    """Whether so many runs of other commands lie in a folder that the group level describes all, not each command.

    Ten thousand jobs that each read ten thousand records would keep a cluster's file system busy.

    Parameters
    ----------
    output_dir : folder of the derivatives.
    own : runs of this command.
    """
    limit = own + MOST_OTHERS
    return len(list(islice(record_files(output_dir), limit + 1))) > limit


def describe_results(output_dir: Path, *, markdown_only: bool = False) -> None:
    """Write the methods text of all results of a folder, whichever command made them, into its logs.

    Where another job left results meanwhile, its text may have been replaced by an older one: it is written again.
    """
    there, attempts = records_there(output_dir), 0
    while attempts < ATTEMPTS:
        write_citation_files(output_dir / "logs", runs_with_results(output_dir), markdown_only=markdown_only)
        before, there, attempts = there, records_there(output_dir), attempts + 1
        if there == before:
            return
