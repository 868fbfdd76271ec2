"""The tables of `networks.py`, with the aims they are judged by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import mean

Row = dict[str, str]


def write_tables(rows: list[Row], folder: Path, about: str) -> None:
    """benchmarks/networks.md from the rows of the CSV."""
    _, _, told = about.partition("benchmarks/networks.md. ")
    parts = [
        "# Deep networks\n",
        f"`python benchmarks/networks.py` makes these tables. {told}\n",
        "Every network here was trained by `qsmprep-tools train` on simulated heads, and none is validated in vivo.\n",
        "## Inversion of the true tissue field: NRMSE (%)\n\nAim: at most 0.8 times TKD; with FINE at most 1.05 times "
        "FANSI, slopes of lesions within 0.85 to 1.15.\n",
        by_head(rows, "inversion"),
        "Slopes of calcification / bleed:\n",
        by_head(rows, "inversion", "slope"),
        "## Inversion in the chain: NRMSE (%)\n\nAim: at most that of `fansi`, which is `consensus-fansi` with "
        "V-SHARP. Rows of sharqnet have it in place of V-SHARP; autoqsm takes the total field. Each map is scored "
        "where it is valid.\n",
        by_head(rows, "chain"),
        "Share of the brain where the map is valid:\n",
        by_head(rows, "chain", "extra"),
        "## Background removal of the true total field: NRMSE (%) of the tissue field\n\nAim: at most that of "
        "V-SHARP.\n",
        by_head(rows, "background"),
        "Share of the brain where the field is valid:\n",
        by_head(rows, "background", "extra"),
        "## Source separation from true field and rates: NRMSE (%) of the paramagnetic map\n\nAim: with R2' at most "
        "that of chisep-medi; with R2* alone at most 1.2 times that, and better than every method that has gradient "
        "echoes alone.\n",
        by_head(rows, "separation"),
        "Of the diamagnetic map:\n",
        by_head(rows, "separation", "extra"),
        "## R2' from R2*: NRMSE (%)\n\nAim: at most 30.\n",
        by_head(rows, "r2prime"),
        "## Beyond the training data: NRMSE (%)\n",
        by_head(rows, "general"),
        "Slope over the voxels of the map against the truth:\n",
        by_head(rows, "general", "slope"),
        "Slopes of calcification / bleed:\n",
        by_head(rows, "general", "extra"),
        "## Speed\n\nA head of 160x200x180 voxels on two cores, the best of three runs; memory is what the method adds "
        "to its inputs.\n",
        speed(rows),
    ]
    (folder / "networks.md").write_text("\n".join(parts) + "\n", "utf-8")


def by_head(rows: Iterable[Row], part: str, column: str = "error") -> str:
    """One row a method, one column a head or setting, and their mean where it is a number."""
    chosen = [row for row in rows if row["part"] == part and row[column]]
    if not chosen:
        return "Not measured.\n"
    heads = list(dict.fromkeys(row["head"] for row in chosen))
    methods = list(dict.fromkeys((row["method"], row["setting"]) for row in chosen))
    lines = ["| method | " + " | ".join(heads) + " | mean |", "|---|" + "---|" * (len(heads) + 1)]
    for method, setting in methods:
        cells = {row["head"]: row[column] for row in chosen if (row["method"], row["setting"]) == (method, setting)}
        numbers = [number for cell in cells.values() if (number := _number(cell)) is not None]
        averaged = column == "error" or part == "separation"
        average = f"{mean(numbers):.1f}" if averaged and len(numbers) == len(heads) else ""
        name = f"{method}, {setting}" if setting else method
        shown = [_shown(cells.get(head, ""), column) for head in heads]
        lines.append(f"| {name} | " + " | ".join(shown) + f" | {average} |")
    return "\n".join(lines) + "\n"


def speed(rows: Iterable[Row]) -> str:
    lines = ["| method | seconds | memory (GiB) |", "|---|---|---|"]
    for row in rows:
        if row["part"] == "speed":
            lines.append(f"| {row['method']} | {float(row['seconds']):.1f} | {float(row['peak_mb']) / 1024:.2f} |")
    return "\n".join(lines) + "\n"


def _shown(cell: str, column: str) -> str:
    number = _number(cell)
    if number is None:
        return cell
    return f"{number:.1f}" if column == "error" or abs(number) >= 2 else f"{number:.2f}"


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
