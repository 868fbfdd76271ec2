"""`qsmprep-tools tune`: choose a parameter of an inversion on one run, by the L-curve or against a truth."""

from __future__ import annotations

import argparse
import sys

from qsmprep import registry, settings
from qsmprep.app import tuning
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command

FILES = ("tune.tsv", "tune.png", "tune.toml")


def add_tune(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = ("choose a parameter of an inversion on one run, where the L-curve of data misfit and penalty bends most or "
            "the error against a given truth is least")  # fmt: skip
    parser = add_command(commands, "tune", text)
    parser.add_argument("field", metavar="LOCALFIELD", type=file_path, help="tissue field, as desc-local_fieldmap [Hz]")
    parser.add_argument("mask", metavar="MASK", type=file_path, help="mask in which it is valid, as desc-qsm_mask")
    parser.add_argument("out", metavar="OUT", type=folder_path, help=f"folder for {', '.join(FILES)}")
    parser.add_argument("--method", required=True, choices=tuning.tunable(), metavar="METHOD",
                        help=f"inversion method: {', '.join(tuning.tunable())}")  # fmt: skip
    parser.add_argument("--option", metavar="NAME", help="option to choose (default: the weight of the regularisation)")
    parser.add_argument(
        "--from",
        dest="start",
        type=float,
        metavar="X",
        help=f"smallest value (default: that of the option / {tuning.SPREAD:g})",
    )
    parser.add_argument(
        "--to",
        dest="stop",
        type=float,
        metavar="X",
        help=f"largest value (default: that of the option x {tuning.SPREAD:g})",
    )
    parser.add_argument(
        "--steps", type=int, default=15, metavar="N", help="number of values, evenly spaced in logarithm (default: 15)"
    )
    parser.add_argument(
        "--rule", choices=tuning.RULES, default=tuning.RULES[0], help="point of the L-curve; corner: of largest "
        "curvature; inflection: of zero curvature before it, at a weaker penalty (default: corner)",
    )  # fmt: skip
    parser.add_argument(
        "--truth",
        type=file_path,
        metavar="CHIMAP",
        help="true susceptibility, to take the least error instead of the L-curve",
    )
    parser.add_argument("--magnitude", type=file_path, metavar="FILE", help="magnitude image, for edges and weights")
    parser.add_argument("--weights", type=file_path, metavar="FILE", help="image of data weights")
    parser.add_argument(
        "--config-file", type=file_path, metavar="TOML", help="settings file whose other options are used"
    )
    parser.add_argument(
        "--centre-frequency", type=float, metavar="MHZ", help="centre frequency, for data whose sidecars lack it [MHz]"
    )
    parser.add_argument("--echo-times", metavar="S[,S...]", help="echo times, for data whose sidecars lack them [s]")
    parser.add_argument(
        "--b0-direction", metavar="X,Y,Z", help="direction of B0 in voxel axes (default: that of the affine)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the solver runs (default: cpu)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Try every value, choose, and write table, figure and settings."""
    from qsmprep.app.tuning_files import write_files

    method = registry.find("inversion", arguments.method)
    document = settings.read_settings(arguments.config_file) if arguments.config_file else {}
    base = settings.build(document).options_of("inversion", method.name)
    option = arguments.option or tuning.default_option(method)
    start, stop = tuning.usual_range(method, option)
    start = start if arguments.start is None else arguments.start
    stop = stop if arguments.stop is None else arguments.stop
    values = tuning.values_to_try(base, option, start, stop, arguments.steps)
    if arguments.truth is None and len(values) < 5:
        raise ValueError("An L-curve needs five values or more: raise --steps or widen --from and --to.")
    inputs, truth = tuning.read_inputs(arguments)
    candidates = tuple(tuning.try_values(method, base, option, values, inputs, truth, arguments.device))
    choice = tuning.choose(method.name, base, option, candidates, arguments.rule)
    write_files(arguments.out, choice, document)
    print(f"{method.name} {option} = {choice.value:.4g}: {choice.reason}. Written to {arguments.out}.")
    for warning in choice.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    return 0
