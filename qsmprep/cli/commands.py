"""The subcommands of `qsmprep-tools`: the programs beside the pipeline."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from qsmprep import __version__
from qsmprep.app.warm_up import warm_up
from qsmprep.cli.arguments import add_options, given_options
from qsmprep.cli.calibrate import add_calibrate
from qsmprep.cli.cluster import add_cluster
from qsmprep.cli.container import add_docker
from qsmprep.cli.convert import add_convert
from qsmprep.cli.diff import add_diff
from qsmprep.cli.export_dicom import add_export_dicom
from qsmprep.cli.paths import folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.cli.score import add_score
from qsmprep.cli.step import add_step
from qsmprep.cli.template import add_template
from qsmprep.cli.train import add_train
from qsmprep.cli.tune import add_tune
from qsmprep.cli.view import add_view
from qsmprep.cli.weights import add_weights
from qsmprep.phantom.options import SimulationOptions


def run_command(argv: Sequence[str]) -> int:
    """Run one subcommand and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    own, further = split_words(argv)
    arguments = build_parser().read(own)
    arguments.further = further
    try:
        return int(arguments.run(arguments))
    except ValueError as error:
        status = 2
        message = str(error)
    except OSError as error:
        status = 1
        message = str(error)
    print(f"qsmprep-tools {arguments.command}: {message}", file=sys.stderr)
    return status


def split_words(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The words of a subcommand, and those behind its -- that `cluster` hands on."""
    if argv[:1] != ["cluster"] or "--" not in argv:
        return argv, ()
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def build_parser() -> Parser:
    """The parser of all subcommands."""
    parser = Parser(
        prog="qsmprep-tools",
        description="Programs beside the QSM pipeline.",
        epilog="`qsmprep-tools COMMAND --help` tells more. Exit status: 0 done, 1 something failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"qsmprep-tools {__version__}", help="show the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="Commands")
    _add_simulate(commands)
    add_convert(commands)
    add_step(commands)
    add_score(commands)
    add_diff(commands)
    add_tune(commands)
    add_calibrate(commands)
    add_weights(commands)
    add_train(commands)
    add_template(commands)
    add_cluster(commands)
    add_view(commands)
    add_export_dicom(commands)
    add_docker(commands)
    text = "compile every loop once, on a tiny simulated head, so that no first run waits for it"
    add_command(commands, "warm-up", text).set_defaults(run=_warm_up)
    return parser


def _add_simulate(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "write a simulated head as a BIDS dataset, with the truth in OUT/derivatives/truth"
    parser = add_command(commands, "simulate", text)
    parser.add_argument("out", metavar="OUT", type=folder_path, help="folder of the dataset, made if missing")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier simulated dataset in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    add_options(parser.add_argument_group("Simulated acquisition"), SimulationOptions)
    parser.set_defaults(run=_simulate)


def _simulate(arguments: argparse.Namespace) -> int:
    options = dataclasses.replace(SimulationOptions(), **given_options(arguments, SimulationOptions)).checked()
    from qsmprep.phantom.dataset import simulate

    progress = None if arguments.quiet else lambda line: print(line, flush=True)
    out = simulate(arguments.out, options, progress, overwrite=arguments.overwrite)
    if not arguments.quiet:
        print(f"Simulated dataset: {out}")
    return 0


def _warm_up(arguments: argparse.Namespace) -> int:
    return warm_up()
