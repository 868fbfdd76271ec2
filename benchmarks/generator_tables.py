"""The tables of benchmarks/generators.py: a column for each generator, which tells its worst head; sorted by the worst.

A method is as good as it is on the generator that it likes least: what was tuned on one must hold on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan

from heads import EVERY_HEAD, GENERATOR, GENERATORS, facts, with_voxels_of

Rows = Sequence[dict[str, str]]
NOT_MEASURED, FAILED = "–", "failed"
INTRODUCTION = """\
# Accuracy on heads of every generator

`{command}` makes these tables; every number is in `generators.csv`. The scans went through the
command line as a user runs it, with default options but for those named, and with the brain mask that it finds unless
the name says otherwise. A column tells the worst of a generator's heads; the last one is the worst generator, and by
it the rows are sorted. `{failed}`: a run that did not end. `{missing}`: not measured.

- **ellipsoids**: `qsmprep-tools simulate`, bodies with analytic borders; many defaults were chosen on such heads.
- **icbm152**: `qsmprep-tools simulate --anatomy icbm152`, a template's tissue with skull, face, neck and sinuses.
- **qsm-forward**: the same kind of anatomy scanned by the forward model of another group (`pip install qsm-forward`,
  A. Stewart, after Marques 2021): a continuous kernel on a padded grid, a shim, a phase offset, cropped k-space and
  noise, all its own. The head ends where the field of view ends, and fat has the frequency of water.

The heads:

{heads}

Susceptibility is scored where the map and the true brain are, without its mean. The rim is the outer {rim:g} mm of the
brain. The rows `true field, ...` invert the true tissue field in the true brain mask: what is left when everything
before is without error. The local field of qsm-forward is not that of its susceptibility by our forward model: they
differ by 20 % (tilted) and 46 % (lesions) at 3 mm, which no method can undo.
"""


@dataclass(frozen=True)
class Score:
    """A column of the CSV: its heading, digits, and how bad a value is."""

    key: str
    title: str
    digits: int
    badness: Callable[[float], float]


def _as_it_is(value: float) -> float:
    return value


def _negative(value: float) -> float:
    return -value


def _off_one(value: float) -> float:
    return abs(value - 1)


SCORES = (
    Score("nrmse", "NRMSE (%)", 1, _as_it_is),
    Score("xsim", "XSIM", 3, _negative),
    Score("slope", "Slope of the deep grey nuclei", 3, _off_one),
    Score("rim", "NRMSE of the rim (%)", 1, _as_it_is),
    Score("inner", "NRMSE of what lies deeper (%)", 1, _as_it_is),
    Score("share", "Share of the brain that has a map (%)", 1, _negative),
    Score("para", "Paramagnetic part, NRMSE with its mean (%)", 1, _as_it_is),
    Score("dia", "Diamagnetic part, NRMSE with its mean (%)", 1, _as_it_is),
)
MASK_SCORES = (
    Score("dice", "Dice", 3, _negative),
    Score("outside", "mask outside the brain (%)", 1, _as_it_is),
    Score("lost", "brain lost (%)", 1, _as_it_is),
)


def document(rows: Rows, heads: Sequence[str], edge_mm: float | None, rim_mm: float) -> str:
    """All tables as markdown, of the rows whose voxels have the wanted size."""
    rows = [row for row in rows if row["head"] in heads and row["voxel_size"] == voxel_size(row["head"], edge_mm)]
    heads = [name for name in heads if any(row["head"] == name for row in rows)]
    lines = "\n".join(f"- **{name}**: {facts(name, edge_mm)}" for name in heads)
    command = "python benchmarks/generators.py" + (f" --voxel-size {edge_mm:g}" if edge_mm else "")
    parts = [INTRODUCTION.format(command=command, heads=lines, failed=FAILED, missing=NOT_MEASURED, rim=rim_mm)]
    for score in SCORES:
        parts.append(f"## {score.title}\n\n{table(rows, score)}")
    parts.append(f"## Brain mask\n\nOf `consensus-fansi`.\n\n{mask_table(rows)}")
    parts.append(f"## NRMSE head by head (%)\n\n{head_table(rows, heads)}")
    return "\n".join(parts)


def voxel_size(head: str, edge_mm: float | None) -> str:
    """Edges of a head's voxels as the CSV names them, in mm."""
    return "x".join(f"{h:g}" for h in with_voxels_of(EVERY_HEAD[head], edge_mm).voxel_size_mm())


def table(rows: Rows, score: Score) -> str:
    """A row a method, the best on its worst generator first; then those that were not measured on every generator."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        if any(measured(row, score) for row in of_method) or all(row["status"] == FAILED for row in of_method):
            found[method] = by_generator(of_method, score)
    lines = ["| method | " + " | ".join(GENERATORS) + " | worst |", "|---|" + "---|" * (len(GENERATORS) + 1)]
    for method in sorted(found, key=lambda name: _rank(found[name], score)):
        values = found[method]
        lines.append(f"| {method} | " + " | ".join(text(v, score) for v in values.values()) + f" | "
                     f"{_worst_generator(values, score)} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def by_generator(rows: Rows, score: Score) -> dict[str, float]:
    """The worst value of each generator: inf where a run failed, nan where nothing was measured."""
    return {
        generator: worst([_value(row, score) for row in rows if GENERATOR[row["head"]] == generator], score)
        for generator in GENERATORS
    }


def worst(values: Sequence[float], score: Score) -> float:
    """The value that is furthest from good; inf, of a failed run, is worse than all; nan without any."""
    known = [value for value in values if not isnan(value)]
    return max(known, key=lambda value: inf if value == inf else score.badness(value), default=nan)


def measured(row: dict[str, str], score: Score) -> bool:
    return row[score.key] not in ("", "nan")


def text(value: float, score: Score) -> str:
    if isnan(value):
        return NOT_MEASURED
    return f"{value:.{score.digits}f}" if isfinite(value) else FAILED


def mask_table(rows: Rows) -> str:
    lines = ["| score | " + " | ".join(GENERATORS) + " | worst |", "|---|" + "---|" * (len(GENERATORS) + 1)]
    of_default = [row for row in rows if row["method"] == "consensus-fansi"]
    for score in MASK_SCORES:
        values = by_generator(of_default, score)
        lines.append(f"| {score.title} | " + " | ".join(text(v, score) for v in values.values()) + " | "
                     f"{_worst_generator(values, score)} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def head_table(rows: Rows, heads: Sequence[str]) -> str:
    """Methods in the order of the first table, a column for each head."""
    score = SCORES[0]
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    order = [line.split(" | ")[0].removeprefix("| ") for line in table(rows, score).splitlines()[2:]]
    for method in order:
        cells = [
            text(worst([_value(r, score) for r in rows if (r["method"], r["head"]) == (method, head)], score), score)
            for head in heads
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _value(row: dict[str, str], score: Score) -> float:
    if row["status"] == FAILED:
        return inf
    return float(row[score.key]) if measured(row, score) else nan


def _rank(values: dict[str, float], score: Score) -> tuple[bool, float]:
    bad = worst(list(values.values()), score)
    return any(isnan(value) for value in values.values()), inf if bad == inf else score.badness(bad)


def _worst_generator(values: dict[str, float], score: Score) -> str:
    bad = worst(list(values.values()), score)
    return next((f"{text(bad, score)} ({name})" for name, value in values.items() if value == bad), NOT_MEASURED)
