"""`qsmprep-tools calibrate`: the relaxometric constant of a data set, for source separation."""

from __future__ import annotations

import argparse
from io import BytesIO

import numpy as np

from qsmprep.bids.cells import cell
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.files.whole_file import whole_file
from qsmprep.separation.calibration import Calibration, calibrate
from qsmprep.separation.constants import REFERENCE_FIELD_T

REMEDY = "Resample the segmentation to the grid of the maps (nearest neighbour)."
NUCLEI = ("caudate", "putamen", "globus_pallidus", "red_nucleus", "substantia_nigra")


def add_calibrate(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "estimate the relaxometric constant by regression of R2' on susceptibility over deep grey nuclei"
    parser = add_command(commands, "calibrate", text)
    parser.add_argument("chi", metavar="CHI", type=file_path, help="susceptibility map [ppm]")
    parser.add_argument("r2prime", metavar="R2PRIME", type=file_path, help="R2', measured, on the same grid [1/s]")
    parser.add_argument(
        "dseg", metavar="DSEG", type=file_path, help="label image on the same grid, with a table .tsv beside it"
    )
    parser.add_argument(
        "out", metavar="OUT", type=folder_path, help="folder for calibrate.tsv, calibrate.png, calibrate.toml"
    )
    parser.add_argument(
        "--labels", nargs="+", default=list(NUCLEI), metavar="LABEL",
        help=f"names or numbers of the regions (default: {' '.join(NUCLEI)})",
    )  # fmt: skip
    parser.add_argument("--through-origin", action="store_true", help="fit no intercept")
    parser.add_argument(
        "--field-strength",
        type=float,
        default=3.0,
        metavar="NUMBER",
        help="field strength of the scan [T] (default: 3)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, fit, print, write."""
    from qsmprep.app.volumes import read_on_one_grid
    from qsmprep.bids.outputs import write_text
    from qsmprep.bids.segmentation import find_region

    if not arguments.field_strength > 0:
        raise ValueError(f"--field-strength is {arguments.field_strength:g}; it must be positive.")
    paths = {"chi": arguments.chi, "r2prime": arguments.r2prime, "dseg": arguments.dseg}
    volumes, _ = read_on_one_grid(paths, REMEDY)
    regions = [find_region(arguments.dseg, label) for label in arguments.labels]
    found = calibrate(
        volumes["chi"],
        volumes["r2prime"],
        {region.name: volumes["dseg"] == region.index for region in regions},
        through_origin=arguments.through_origin,
    )
    at_3t = found.constant * REFERENCE_FIELD_T / arguments.field_strength
    line = f"R2' = {found.constant:.1f} 1/s/ppm * chi {found.intercept:+.2f} 1/s, R2 = {found.r_squared:.3f}"
    write_text(arguments.out / "calibrate.tsv", as_table(found))
    with whole_file(arguments.out / "calibrate.png") as stream:
        stream.write(as_figure(found, line))
    comment = f"# {line}, over {', '.join(region.name for region in found.regions)} at {arguments.field_strength:g} T\n"
    settings = f"[relaxometric]\npara = {at_3t:.6g}\ndia = {at_3t:.6g}\n"
    write_text(arguments.out / "calibrate.toml", comment + settings)
    print(line)
    print(f"At 3 T: {at_3t:.1f} 1/s/ppm. Use it by --config-file {arguments.out / 'calibrate.toml'}")
    if found.r_squared < 0.5:
        print("Warning: the line explains less than half of the variance between the regions; look at the picture.")
    return 0


def as_table(found: Calibration) -> str:
    """Every region in a line, tab-separated."""
    lines = ["region\tvoxels\tchi_ppm\tchi_sd\tr2prime\tr2prime_sd"]
    lines += [
        f"{cell(r.name)}\t{r.voxels}\t{r.chi_ppm:.6g}\t{r.chi_sd:.6g}\t{r.r2prime:.6g}\t{r.r2prime_sd:.6g}"
        for r in found.regions
    ]
    return "\n".join(lines) + "\n"


def as_figure(found: Calibration, title: str) -> bytes:
    """Regions with their spread, and the line, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    chi = np.array([r.chi_ppm for r in found.regions])
    rate = np.array([r.r2prime for r in found.regions])
    chi_sd, rate_sd = [r.chi_sd for r in found.regions], [r.r2prime_sd for r in found.regions]
    axes.errorbar(chi, rate, xerr=chi_sd, yerr=rate_sd, fmt="o", color="0.25", ecolor="0.8", markersize=5)
    for region in found.regions:
        axes.annotate(region.name.replace("_", " "), (region.chi_ppm, region.r2prime), (6, 6),
                      textcoords="offset points", fontsize=8, color="0.25")  # fmt: skip
    ends = np.array([min(chi.min(), 0.0), chi.max() * 1.1])
    axes.plot(ends, found.constant * ends + found.intercept, color="#c23b22", linewidth=1)
    axes.set_xlabel("χ (ppm)")
    axes.set_ylabel("R2' (1/s)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
