"""The tables and the figure of benchmarks/accuracy.py, from its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from heads import GENERATOR, HEADS, facts

# column of the CSV, heading, digits
INVERSION_COLUMNS = (
    ("rmse_demeaned", "NRMSE (%)", 1), ("rmse_detrended", "detrended (%)", 1),
    ("rmse_detrended_tissue", "tissue (%)", 1), ("rmse_detrended_deep_grey", "deep grey (%)", 1),
    ("rmse_detrended_blood", "blood (%)", 1), ("hfen", "HFEN (%)", 1), ("xsim", "XSIM", 3),
    ("correlation", "correlation", 3), ("slope_deep_grey", "deep-grey slope", 3),
    ("calcification_streak", "streak", 3), ("deviation_from_calcification_moment", "moment deviation", 2),
)  # fmt: skip
COST_COLUMNS = (("seconds", "seconds", 1), ("iterations", "iterations", 0), ("peak_mb", "memory (MB)", 0))
SHARE = (("mask_share", "mask / brain", 3),)
BACKGROUND_COLUMNS = (("rmse_demeaned", "tissue-field NRMSE (%)", 1), ("correlation", "correlation", 3))
NO_COMPARISON = "–"
INTRODUCTION = """\
# Accuracy on simulated heads

`python benchmarks/accuracy.py` makes these tables; every number of every head is in `accuracy.csv`. Default options
everywhere. Defaults were chosen on simulated heads of this anatomy, those of `accurate` on the two thick heads with
lesions and both heads at 7 T, and on the two thick ones simulated on a finer grid; the others took no part. `fansi`
counts the phase until the last echo, as the consensus paper's example does; `fansi, echo spacing` is the former
default, with which background methods are compared. Seconds of `fansi` are of a machine with other work. The heads:

{heads}

A variation changes positions, sizes and susceptibilities of all structures; a texture adds smooth susceptibility
within tissues that hardly shows in the magnitude, as in a brain; a third of its spectrum lies where the dipole kernel
is below 0.15, out of reach of one orientation. NRMSE is demeaned in the mask; the others are the scores of the
reconstruction challenges (`qsmprep-tools score`). Means over the heads; streak and moment over those with a
calcification. Time and memory are those of the method alone on two cores, on the standard head.

The simulated heads are made of ellipsoids with sharp borders, most of which show in the magnitude: methods that seek
piecewise constant maps (TV, FANSI, HD-QSM), and more so those that take edges from the magnitude (MEDI, TFI), do better
here than in a brain. Except where a finer grid is named, the scan is simulated on the grid that is inverted, and then
the integrated kernel (default of TV, L1-QSM, HD-QSM and STAR-like) is the very one of the simulation, which flatters
these methods in thick voxels above all. The head on a finer grid has partial volume and dephasing within voxels, as a
real scan: what a strong lesion does to its own voxels then dominates the error of every method. Heads
of other generators: [generators.md](generators.md).

MEDI and MEDI+0 lose the calcification of the thick heads: the noise weights and model error reduction leave it hardly
any weight. Without the latter (`--no-medi-merit`) half of it stays, and without the spherical mean filter too
(`--medi-smv-radius 0`) nearly all.

Worse than TKD are, from the true field on the standard head: TSVD and Tikhonov, which leave out or damp what TKD keeps
with the right sign; and TGV, which starts from the scan and not from the tissue field, and pays at the rim of the mask
for having to find the background too.
"""


def write_tables(rows: list[dict[str, str]], folder: Path) -> None:
    """accuracy.md and accuracy.png."""
    heads = [name for name in HEADS if any(row["head"] == name for row in rows)]
    parts = [INTRODUCTION.format(heads="\n".join(f"- **{name}**: {facts(name)}" for name in heads))]
    sections = (
        ("Inversions, from the true field", "true", "inversion", (*INVERSION_COLUMNS, *COST_COLUMNS)),
        ("Background removal, from the true total field", "true", "background",
         (*BACKGROUND_COLUMNS, *SHARE, *COST_COLUMNS)),
        ("Inversions in the chain (after V-SHARP)", "chain", "inversion", (*INVERSION_COLUMNS, *SHARE)),
        ("Background removal in the chain (before FANSI)", "chain", "background", (*INVERSION_COLUMNS, *SHARE)),
    )  # fmt: skip
    for title, given, stage, columns in sections:
        chosen = [row for row in rows if (row["input"], row["stage"]) == (given, stage)]
        parts += [f"## {title}\n", means(chosen, columns), "NRMSE (%) head by head:\n", by_head(chosen, heads)]
    parts += ["## The preset `accurate`\n", accurate(rows, heads)]
    (folder / "accuracy.md").write_text("\n".join(parts), "utf-8")
    draw(rows, heads, folder / "accuracy.png")


def means(rows: list[dict[str, str]], columns) -> str:
    lines = ["| method | " + " | ".join(title for _, title, _ in columns) + " |", "|---|" + "---|" * len(columns)]
    cost = {key for key, _, _ in COST_COLUMNS}
    for method in methods_of(rows):
        mine = [row for row in rows if row["method"] == method]
        standard = [row for row in mine if row["head"] == "standard"]
        cells = [number(average(standard if key in cost else mine, key), digits) for key, _, digits in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def by_head(rows: list[dict[str, str]], heads: list[str]) -> str:
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    lines.append("| generator | " + " | ".join(GENERATOR[head] for head in heads) + " |")
    for method in methods_of(rows):
        cells = [
            number(average([r for r in rows if (r["method"], r["head"]) == (method, head)], "rmse_demeaned"), 1)
            for head in heads
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def accurate(rows: list[dict[str, str]], heads: list[str]) -> str:
    lines = [
        "Against `consensus-fansi`: each in its own mask, and both in the mask that they share. The last column is the "
        "NRMSE of FANSI from the true tissue field: what is left when the background is removed without error. On the "
        "textured head that alone is 0.7 times the error of `consensus-fansi`: susceptibility near the cone of the "
        "kernel is out of reach, and the rim of the mask does the rest. With lesions the difference between the last "
        "column and `accurate` is the field next to them, which iHARPERELLA smooths.",
        "",
        "| head | generator | accurate: NRMSE (%) | consensus-fansi | ratio | shared mask: accurate | "
        "consensus-fansi | ratio | XSIM: accurate | consensus-fansi | mask / brain: accurate | consensus-fansi | "
        "from the true field |",
        "|---|" + "---|" * 12,
    ]
    for head in heads:
        pair = []
        for stage, method in (("pipeline", "accurate"), ("inversion", "fansi")):
            key = (head, "chain", stage, method)
            pair.append([r for r in rows if (r["head"], r["input"], r["stage"], r["method"]) == key])
        if not all(pair):
            continue
        values = [
            [average(side, key) for side in pair] for key in ("rmse_demeaned", "rmse_common", "xsim", "mask_share")
        ]
        cells = [f"{values[i][0]:.1f} | {values[i][1]:.1f} | {values[i][0] / values[i][1]:.2f}" for i in (0, 1)]
        cells += [f"{values[i][0]:.3f} | {values[i][1]:.3f}" for i in (2, 3)]
        isolated = [r for r in rows if (r["head"], r["input"], r["method"]) == (head, "true", "fansi")]
        cells.append(number(average(isolated, "rmse_demeaned"), 1))
        lines.append(f"| {head} | {GENERATOR[head]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def methods_of(rows: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def average(rows: list[dict[str, str]], key: str) -> float:
    values = [float(row[key]) for row in rows if row[key] not in ("", "nan")]
    return float(np.mean(values)) if values else float("nan")


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else NO_COMPARISON


def draw(rows: list[dict[str, str]], heads: list[str], path: Path) -> None:
    """NRMSE of every inversion on every head, isolated and in the chain, as two tables of grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 8), layout="constrained")
    for axis, given, title in zip(axes, ("true", "chain"), ("true field", "whole chain"), strict=True):
        chosen = [r for r in rows if r["input"] == given and r["stage"] in ("inversion", "pipeline")]
        names = sorted(
            methods_of(chosen), key=lambda m: average([r for r in chosen if r["method"] == m], "rmse_demeaned")
        )
        grid = np.array([[average([r for r in chosen if (r["method"], r["head"]) == (m, h)], "rmse_demeaned")
                          for h in heads] for m in names])  # fmt: skip
        axis.imshow(grid, cmap="Greys", vmin=0, vmax=120, aspect="auto")
        axis.set_xticks(range(len(heads)), heads, rotation=30, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"NRMSE (%) from the {title}")
        for (i, j), value in np.ndenumerate(grid):
            axis.text(j, i, number(value, 0), ha="center", va="center", color="white" if value > 70 else "black")
    figure.savefig(path, dpi=110)
    plt.close(figure)
