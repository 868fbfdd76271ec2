"""`qsmprep-tools score`: a susceptibility map against the truth."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping

from qsmprep.analysis import Score
from qsmprep.analysis.metrics import evaluate
from qsmprep.cli.paths import file_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.inversion.reference import reference_to

REMEDY = "Resample one of them to the other's grid (labels and masks by nearest neighbour)."


def add_score(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "compare a susceptibility map with the truth by every score of the two reconstruction challenges"
    parser = add_command(commands, "score", text)
    parser.add_argument("recon", metavar="RECON", type=file_path, help="susceptibility map [ppm]")
    parser.add_argument("truth", metavar="TRUTH", type=file_path, help="true susceptibility on the same grid [ppm]")
    parser.add_argument("mask", metavar="MASK", type=file_path, help="mask in which the two are compared")
    parser.add_argument(
        "--labels", metavar="DSEG", type=file_path, help="label image of tissues, as that of the simulated head"
    )
    parser.add_argument(
        "--keep-reference",
        action="store_true",
        help="compare the maps as they are, not each referenced to its mean over the mask",
    )
    parser.add_argument("--csv", metavar="FILE", type=file_path, help="file to which the scores are also written")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, compare, print, and write what was asked for."""
    from qsmprep.app.volumes import read_mask_of_user, read_on_one_grid

    paths = {"truth": arguments.truth, "recon": arguments.recon, "mask": arguments.mask}
    if arguments.labels is not None:
        paths["labels"] = arguments.labels
    volumes, grid = read_on_one_grid(paths, REMEDY)
    volumes["mask"] = read_mask_of_user(arguments.mask)
    if not arguments.keep_reference:
        for name in ("recon", "truth"):
            volumes[name] = reference_to(volumes[name], volumes["mask"]).chi_ppm
    scores = evaluate(
        volumes["recon"],
        volumes["truth"],
        volumes["mask"],
        volumes.get("labels"),
        voxel_size_mm=grid.voxel_size_mm,
    )
    show(scores, str(arguments.recon))
    if arguments.csv is not None:
        from qsmprep.bids.outputs import write_text

        write_text(arguments.csv, as_csv(scores))
    return 0


def show(scores: Mapping[str, Score], title: str) -> None:
    """Print a table of the scores, and their warnings below it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    table.add_column("score")
    for heading in ("value", "unit", "better"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for name, score in scores.items():
        table.add_row(name.replace("_", " "), "n/a" if score.value != score.value else f"{score.value:.4g}",
                      score.unit, score.better)  # fmt: skip
    console = Console(soft_wrap=True)
    console.print(table)
    for name, score in scores.items():
        if score.warning:
            console.print(f"{name.replace('_', ' ')}: {escape(score.warning)}", highlight=False)


def as_csv(scores: Mapping[str, Score]) -> str:
    """The scores as CSV with a header line; `n/a` for what does not exist."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("score", "value", "unit", "better", "warning"))
    for name, score in scores.items():
        value = "n/a" if score.value != score.value else f"{score.value:.8g}"
        writer.writerow((name, value, score.unit, score.better, score.warning))
    return stream.getvalue()
