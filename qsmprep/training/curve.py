"""The course of a training as a table and as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qsmprep.bids.outputs import write_text
from qsmprep.files.whole_file import whole_file

SMOOTHING = 50  # steps


def write_table(path: Path, scores: Sequence[dict[str, float]]) -> None:
    """Validations as tab-separated values: step, mean training loss since the last one, NRMSE in % by output."""
    columns = list(scores[0]) if scores else ["step", "loss"]
    rows = ["\t".join(f"{row[c]:.6g}" for c in columns) for row in scores]
    write_text(path, "\n".join(["\t".join(columns), *rows]) + "\n")


def draw_curve(path: Path, losses: Sequence[float], scores: Sequence[dict[str, float]], title: str) -> None:
    """Training loss (left) and validation error (right) over steps, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    width = max(1, min(SMOOTHING, len(losses)))
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    left.plot(np.arange(len(smooth)) + width, smooth, color="0.2")
    left.set(xlabel="step", ylabel=f"training loss (mean of {width} steps)")
    if min(losses, default=0) > 0:
        left.set(yscale="log")
    for name in [key for key in (scores[0] if scores else ()) if key not in ("step", "loss")]:
        right.plot([row["step"] for row in scores], [row[name] for row in scores], marker=".", label=name)
    right.set(xlabel="step", ylabel="validation NRMSE (%)")
    if scores:
        right.legend()
    figure.suptitle(title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    with whole_file(path) as stream:
        stream.write(content.getvalue())
