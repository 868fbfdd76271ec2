"""What `qsmprep-tools tune` writes: the candidates as a table, the curve as a figure, the choice as settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from qsmprep.analysis.curve import LCurve
from qsmprep.app.tuning import Choice
from qsmprep.bids.outputs import write_text
from qsmprep.files.whole_file import whole_file

COLUMNS = ("value", "misfit", "penalty", "curvature", "error_percent", "iterations", "converged", "seconds")
AXIS_NAMES = {"l1": "|∇χ|₁  (ppm/mm)", "l2": "|∇χ|²  (ppm²/mm²)", "image": "|χ|²  (ppm²)"}
INK, ACCENT = "0.25", "#c23b22"


def write_files(folder: Path, choice: Choice, document: Mapping[str, Any]) -> None:
    """Write tune.tsv, tune.png and tune.toml; `document` holds the settings that the choice is added to."""
    write_text(folder / "tune.tsv", as_table(choice))
    with whole_file(folder / "tune.png") as stream:
        stream.write(as_figure(choice))
    write_text(folder / "tune.toml", as_settings(choice, document))


def as_table(choice: Choice) -> str:
    """Every candidate in a line, tab-separated, with a header line; `n/a` for what there is not."""
    curvatures = [None] * len(choice.candidates) if choice.curve is None else choice.curve.curvatures
    lines = ["\t".join(COLUMNS)]
    for c, curvature in zip(choice.candidates, curvatures, strict=True):
        numbers = (c.value, c.misfit, c.penalty, curvature, c.error)
        words = ["n/a" if number is None or number != number else f"{number:.6g}" for number in numbers]
        lines.append("\t".join([*words, str(c.iterations), "yes" if c.converged else "no", f"{c.seconds:.2f}"]))
    return "\n".join(lines) + "\n"


def as_settings(choice: Choice, document: Mapping[str, Any]) -> str:
    """A settings file for `qsmprep --config-file`: the given settings with the method and its chosen value."""
    inversion = dict(document.get("inversion", {}))
    inversion["method"] = [choice.method]
    inversion[choice.method] = {**inversion.get(choice.method, {}), choice.option: choice.value, **choice.followers}
    tuned = {"method": choice.method, "option": choice.option, "value": choice.value,
             "followers": dict(choice.followers), "reason": choice.reason}  # fmt: skip
    comments = [f"Chosen by qsmprep-tools tune: {choice.option} of {choice.method}, {choice.reason}."]
    comments += [f"Warning: {warning}" for warning in choice.warnings]
    return "".join(f"# {line}\n" for line in comments) + tomli_w.dumps(
        {**document, "inversion": inversion, "tuned": tuned}
    )


def as_figure(choice: Choice) -> bytes:
    """The curves that led to the choice, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with_error = choice.candidates[0].error == choice.candidates[0].error
    panels: list[Callable[[Any, Choice], None]] = [_draw_error] if with_error else []
    if choice.curve is not None:
        panels.append(partial(_draw_curve, curve=choice.curve))
        panels += [] if with_error else [partial(_draw_curvature, curve=choice.curve)]
    figure = Figure(figsize=(5.2 * len(panels), 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for draw, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(axes, choice)
        axes.grid(True, which="major", color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    figure.suptitle(f"{choice.method}: {choice.option} = {choice.value:.4g} ({choice.reason})", fontsize=11)
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _draw_curve(axes: Any, choice: Choice, curve: LCurve) -> None:
    axes.loglog(curve.fine_misfits, curve.fine_penalties, color=INK, linewidth=1)
    axes.loglog(curve.misfits, curve.penalties, "o", color=INK, markersize=4)
    for i in sorted({0, curve.values.size // 2, curve.values.size - 1}):
        axes.annotate(f"{curve.values[i]:.2g}", (curve.misfits[i], curve.penalties[i]), (6, 6),
                      textcoords="offset points", fontsize=8, color=INK)  # fmt: skip
    at = int(np.argmin(np.abs(np.log(curve.fine_values / choice.value))))
    _mark(axes, curve.fine_misfits[at], curve.fine_penalties[at], choice)
    axes.set_xlabel("data misfit |w(Dχ − f)|²")
    axes.set_ylabel(f"penalty {AXIS_NAMES[choice.norm]}")
    axes.margins(x=0.12)
    axes.set_title("L-curve", fontsize=10)


def _draw_curvature(axes: Any, choice: Choice, curve: LCurve) -> None:
    axes.semilogx(curve.fine_values, curve.fine_curvatures, color=INK, linewidth=1)
    axes.semilogx(curve.values, curve.curvatures, "o", color=INK, markersize=4)
    axes.axhline(0, color="0.7", linewidth=0.8)
    at = int(np.argmin(np.abs(np.log(curve.fine_values / choice.value))))
    _mark(axes, choice.value, curve.fine_curvatures[at], choice)
    axes.set_xlabel(choice.option)
    axes.set_ylabel("curvature of the L-curve")
    axes.set_title("Curvature", fontsize=10)


def _draw_error(axes: Any, choice: Choice) -> None:
    values = [c.value for c in choice.candidates]
    errors = [c.error for c in choice.candidates]
    axes.semilogx(values, errors, "o-", color=INK, linewidth=1, markersize=4)
    _mark(axes, choice.value, min(errors), choice)
    axes.set_xlabel(choice.option)
    axes.set_ylabel("error, demeaned (%)")
    axes.set_title("Error against the truth", fontsize=10)


def _mark(axes: Any, x: float, y: float, choice: Choice) -> None:
    axes.plot([x], [y], "o", color=ACCENT, markersize=8, label=f"chosen: {choice.value:.4g}")
    axes.legend(frameon=False, fontsize=9)
