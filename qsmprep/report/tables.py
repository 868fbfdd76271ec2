"""The consensus tables as the report shows them: acquisition (3, 4) and reconstruction (5)."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.bids.cells import cell
from qsmprep.report.acquisition import ITEMS, NOT_AVAILABLE, Entry, look_up, unlisted
from qsmprep.report.methods import parameter_words
from qsmprep.report.record import Run
from qsmprep.report.referencing import reference_values
from qsmprep.stages import TABLE5_ALGORITHMS, stage_of

_BY_AUTHORS = "specific to the study: to be added by its authors"


@dataclass(frozen=True)
class Line:
    """One line of a reporting table.

    Attributes
    ----------
    item : what is reported.
    values : one or several texts.
    source : where it was found.
    essential : asked for by the consensus in every report.
    available : whether there is anything to report.
    """

    item: str
    values: tuple[str, ...]
    source: str = ""
    essential: bool = False
    available: bool = True


def acquisition_lines(run: Run, table: int) -> list[Line]:
    """The lines of consensus table 3 (hardware) or 4 (sequence), every one, "not available" where missing."""
    lines = []
    for item in ITEMS:
        if item.table == table:
            entry = look_up(run.acquisition, item.key)
            source = entry.source if entry.available else ""
            lines.append(Line(item.name, (_shown(entry),), source, item.essential, entry.available))
    return lines


def further_lines(run: Run) -> list[Line]:
    """What the record holds beside the items of the consensus."""
    return [Line(name, (_shown(entry),), entry.source) for name, entry in unlisted(run.acquisition).values()]


def _shown(entry: Entry) -> str:
    return entry.text if entry.available else NOT_AVAILABLE


def reconstruction_lines(run: Run) -> list[Line]:
    """The lines of consensus table 5: toolbox, algorithms with every parameter, referencing, criteria."""
    version = run.software.get("qsmprep")
    others = ", ".join(f"{name} {version}" for name, version in run.software.items() if name != "qsmprep")
    toolbox = (f"qsmprep {version}", f"with {others}" if others else "") if version else ()
    lines = [_line("Toolbox and version", tuple(filter(None, toolbox)))]
    lines += [
        _line(f"Algorithm: {name.lower()}", _algorithms(run, name), essential)
        for name, essential in TABLE5_ALGORITHMS.items()
    ]
    further = (run.further_processing,) if run.further_processing else ()
    lines.append(
        _line(
            "Further processing (geometry, interpolation, header)",
            further + _algorithms(run, "Further processing"),
            False,
        )
    )
    lines.append(_line("Unit of susceptibility", ("ppm (SI)",)))
    lines.append(_line("Reference region", _algorithms(run, "Referencing")))
    values = reference_values(run)
    spread: tuple[str, ...] = ()
    if values:
        told = f"{values.mean} ± {values.deviation} ppm ({values.mean_name} ± standard deviation)"
        spread = (told, *filter(None, (values.in_common,)))
    lines.append(_line("Susceptibility in the reference region", spread))
    lines.append(Line("Inclusion and exclusion criteria", (_BY_AUTHORS,), essential=True, available=False))
    lines.append(Line("Artifacts considered and their threshold", (_BY_AUTHORS,), essential=True, available=False))
    return lines


def _line(item: str, values: tuple[str, ...], essential: bool = True) -> Line:
    return Line(item, values or (NOT_AVAILABLE,), essential=essential, available=bool(values))


def _algorithms(run: Run, table5: str) -> tuple[str, ...]:
    texts = []
    for step in run.steps:
        if stage_of(step.stage).table5 == table5:
            acted = [p for p in step.parameters if p.acts]
            parameters = ", ".join(parameter_words(p) + (" (default)" if p.default else "") for p in acted)
            texts.append(
                (step.title or step.method or stage_of(step.stage).heading) + (f": {parameters}" if parameters else "")
            )
    return tuple(texts)


def tables_text(run: Run) -> str:
    """Consensus tables 3 to 5 as tab-separated text: table, item, value, source, whether it is essential."""
    lines = [(str(table), line) for table in (3, 4) for line in acquisition_lines(run, table)]
    lines += [("5", line) for line in reconstruction_lines(run)]
    rows = [("table", "item", "value", "source", "essential")]
    rows += [(table, line.item, "; ".join(line.values), line.source or "n/a", "yes" if line.essential else "no")
             for table, line in lines]  # fmt: skip
    return "".join("\t".join(cell(text) for text in row) + "\n" for row in rows)
