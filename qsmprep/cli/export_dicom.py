"""`qsmprep-tools export-dicom`: a map as a derived DICOM series, for an archive (PACS)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from qsmprep.bids.reading import read_text_file
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.dicom.export_values import KINDS, UNITS, Kind, store


def add_export_dicom(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "write a map as a derived DICOM series beside the images it was made from, for an archive (PACS)"
    parser = add_command(commands, "export-dicom", text)
    parser.add_argument("map", metavar="MAP", type=file_path, help="map of the pipeline, as *_Chimap.nii.gz")
    parser.add_argument(
        "reference",
        metavar="REFERENCE_DICOM",
        type=file_path,
        help="folder of the series that the map was made from, or its enhanced file",
    )
    parser.add_argument("out", metavar="OUT", type=folder_path, help="folder of the new series; new or empty")
    parser.add_argument(
        "--series", metavar="SERIES", default="", help="number or UID of the series, if several are there"
    )
    parser.add_argument("--unit", choices=tuple(UNITS), help="unit of the map (default: that of its sidecar or name)")
    parser.add_argument("--keep-unit", action="store_true", help="store ppm and s as they are, not as ppb and ms")
    parser.add_argument(
        "--range", metavar="LOW,HIGH", type=_ends, help="cut values beyond, in the stored unit (default: keep all)"
    )
    parser.add_argument(
        "--window", metavar="LOW,HIGH", type=_ends, help="darkest and brightest value, in the stored unit"
    )
    parser.add_argument("--description", metavar="TEXT", default="", help="description of the series")
    parser.add_argument(
        "--series-number", metavar="N", type=int, help="of the new series (default: the reference's + 9000)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, compare the grids, write, and tell what was written."""
    from qsmprep.app.volumes import read_on_one_grid
    from qsmprep.dicom.export import Label, check_free, export_dicom, on_reference
    from qsmprep.dicom.export_reference import read_reference

    check_free(arguments.out)
    sidecar = read_sidecar(arguments.map)
    kind, unit = kind_of(arguments.map, sidecar, arguments.unit)
    volumes, grid = read_on_one_grid({"map": arguments.map}, remedy="")
    reference = read_reference(arguments.reference, series=arguments.series)
    try:
        volume = on_reference(volumes["map"], grid, reference)
        stored = store(volume, unit, keep_unit=arguments.keep_unit, limits=arguments.range,
                       window=arguments.window or window_of(kind, unit, arguments.keep_unit))  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{arguments.map}, {arguments.reference}: {error}") from None
    derivation = ". ".join(
        str(sidecar[key]).rstrip(".") for key in ("Description", "EstimationAlgorithm") if sidecar.get(key)
    )
    label = Label(kind, arguments.description, arguments.series_number, derivation)
    files = export_dicom(stored, reference, label, arguments.out)
    print(f"{len(files)} images in {arguments.out}: {stored.unit}, in steps of {stored.slope:.4g}; not for diagnosis")
    if stored.not_finite:
        print(f"{stored.not_finite} voxels are NaN and were stored as 0.", file=sys.stderr)
    if stored.cut:
        print(f"{stored.cut} values lie beyond the range and were cut.", file=sys.stderr)
    if stored.is_coarse:
        print("A few large values make the steps coarse; cut them by --range LOW,HIGH.", file=sys.stderr)
    return 0


def read_sidecar(path: Path) -> dict[str, object]:
    """The JSON file beside a map; empty where there is none. Raises ValueError for one that is damaged."""
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    if not sidecar.exists():
        return {}
    try:
        document = json.loads(read_text_file(sidecar))
    except json.JSONDecodeError as error:
        raise ValueError(f"{sidecar}: not a valid JSON file ({error}). Mend or remove it.") from None
    return document if isinstance(document, dict) else {}


def kind_of(path: Path, sidecar: dict[str, object], given: str | None) -> tuple[Kind, str]:
    """What a map shows by its BIDS suffix, and its unit: as given, of the sidecar, or usual for the suffix.

    Raises
    ------
    ValueError : nothing tells the unit.
    """
    suffix = path.name.removesuffix(".gz").removesuffix(".nii").rsplit("_", 1)[-1]
    kind = KINDS.get(suffix)
    unit = given or str(sidecar.get("Units") or (kind.unit if kind else ""))
    if unit not in UNITS:
        what = f"its unit is {unit!r}" if unit else "nothing tells its unit"
        raise ValueError(f"{path}: {what}; give --unit, one of {', '.join(UNITS)}.")
    return (kind if kind and kind.unit == unit else Kind(unit, suffix)), unit


def window_of(kind: Kind, unit: str, keep_unit: bool) -> tuple[float, float] | None:
    """The window of a kind of map in the unit that is stored; None where it follows the values."""
    if kind.window is None or not keep_unit:
        return kind.window
    low, high = (end / UNITS[unit].factor for end in kind.window)
    return low, high


def _ends(word: str) -> tuple[float, float]:
    """Two numbers with a comma between."""
    try:
        low, high = (float(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not two numbers as -200,200") from None
    return low, high
