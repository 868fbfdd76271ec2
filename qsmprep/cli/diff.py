"""`qsmprep-tools diff`: two folders of results against each other."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from qsmprep.analysis.differences import differ, inside_either
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command

if TYPE_CHECKING:
    from qsmprep.app.comparison import Comparison, Found

MOST = 20  # settings that are shown


def add_diff(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "compare the results in two output folders: which maps differ, where, by how much, and why that may be"
    parser = add_command(commands, "diff", text)
    parser.add_argument("first", metavar="OUT1", type=folder_path, help="output folder of qsmprep")
    parser.add_argument("second", metavar="OUT2", type=folder_path, help="another one")
    parser.add_argument(
        "--tolerance",
        metavar="NUMBER",
        type=_tolerance,
        default=0.0,
        help="largest difference that passes, relative to the largest value of the map (default: 0, the same bits)",
    )
    parser.add_argument(
        "--picture", metavar="PNG", type=file_path, help="file for a picture of the map that differs the most"
    )
    parser.epilog = "Exit status: 0 the same, 1 different, 2 wrong usage."
    parser.set_defaults(run=run)


def _tolerance(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r} is no tolerance; give a number of zero or more, as 1e-6")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, draw what was asked for; 0 where all is the same, else 1."""
    from qsmprep.app.comparison import compare_results

    for folder in (arguments.first, arguments.second):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder. Give two output folders of qsmprep.")
    comparison = compare_results(arguments.first, arguments.second, tolerance=arguments.tolerance)
    show(comparison)
    if arguments.picture is not None:
        _draw(arguments, comparison)
    return 0 if comparison.same else 1


def show(comparison: Comparison) -> None:
    """Print what differs as a table, and below it files of one folder alone, settings, and the sum of it."""
    from rich.console import Console
    from rich.table import Table

    # Wide, as a table that is cut to a terminal loses numbers; a line that is too long wraps.
    console = Console(width=200, soft_wrap=True, highlight=False, markup=False)
    images = [one for one in comparison.found if one.difference]
    if images:
        table = Table(title="Maps that differ", title_justify="left", box=None, pad_edge=False)
        for heading in ("map", "voxels", "largest", "relative", "r.m.s.", "at voxel", "at mm"):
            table.add_column(heading, justify="left" if heading == "map" else "right", no_wrap=True)
        for one in images:
            table.add_row(*_row(one))
        console.print(table)
    for one in comparison.found:
        if not one.difference:
            console.print(f"{one.path} differs: {one.what}")
    for number, paths in enumerate((comparison.only_first, comparison.only_second), start=1):
        for path in paths:
            console.print(f"{path}: in OUT{number} alone")
    for name, ours, theirs in comparison.settings[:MOST]:
        console.print(f"setting {name}: {ours} / {theirs}")
    if len(comparison.settings) > MOST:
        console.print(f"and {len(comparison.settings) - MOST} more settings")
    alone = len(comparison.only_first) + len(comparison.only_second)
    console.print(
        f"{comparison.compared - len(comparison.found)} of {comparison.compared} files are the same, "
        f"{len(comparison.found)} differ; {alone} are in one folder alone."
    )


def _row(one: Found) -> tuple[str, ...]:
    difference, unit = one.difference, f" {one.unit}".rstrip()
    assert difference is not None
    assert one.place_mm is not None
    return (
        one.path.name.removesuffix(".nii.gz"),
        f"{difference.share:.1%}" if difference.share >= 0.001 else str(difference.voxels),
        f"{difference.largest:.2g}{unit}",
        f"{difference.relative:.1g}",
        f"{difference.root_mean_square:.2g}{unit}",
        ",".join(map(str, difference.place)),
        ",".join(f"{length:.0f}" for length in one.place_mm),
    )


def _draw(arguments: argparse.Namespace, comparison: Comparison) -> None:
    """Draw the difference of the map that differs the most, by the report's own drawing."""
    from qsmprep.app.comparison import read_values
    from qsmprep.bids.grid import grid_of
    from qsmprep.bids.images import open_image
    from qsmprep.report.figures import save_mosaic

    worst = next((one for one in comparison.found if one.difference), None)
    if worst is None:
        print("No picture: no map differs.")
        return
    first, second = (read_values(folder / worst.path) for folder in (arguments.first, arguments.second))
    save_mosaic(
        arguments.picture,
        differ(first, second),
        grid_of(open_image(arguments.first / worst.path)).affine,
        mask=inside_either(first, second),
        window="symmetric",
        label=f"OUT2 - OUT1 ({worst.unit or '1'})",
        title=worst.path.name,
    )
    print(f"Picture: {arguments.picture}")
