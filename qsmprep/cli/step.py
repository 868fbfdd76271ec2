"""`qsmprep-tools step`: one step on files, outside of any dataset."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path

from qsmprep import registry, settings
from qsmprep.app.devices import choose_device
from qsmprep.app.single_steps import FIELDS, IMAGES, OF_ECHOES, STEPS, SingleStep
from qsmprep.cli.arguments import add_options, given_options
from qsmprep.cli.paths import file_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.engine.iterations import Iterations
from qsmprep.engine.resources import available_cores
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T

UNITS = ("Hz", "rad/s", "ppm")


def add_step(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand with one of its own for each step."""
    parser = add_command(commands, "step", "run one step on NIfTI files, outside of any dataset")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP", title="Steps", parser_class=Parser)
    for name, step in STEPS.items():
        _add_one(steps, name, step)


def _add_one(steps: argparse._SubParsersAction[Parser], name: str, step: SingleStep) -> None:
    parser = add_command(steps, name, step.text)
    parser.add_argument("output", metavar="OUT", type=file_path, help="result, .nii.gz, with a sidecar beside it")
    parser.add_argument("--overwrite", action="store_true", help="replace results that lie there")
    images = parser.add_argument_group("Images")
    for image in (*step.needs, *step.takes):
        several = image in OF_ECHOES
        text = IMAGES[image] + ("; several files or four dimensions" if several else "")
        text += f" [{', '.join(UNITS)}: --unit]" if image in FIELDS else ""
        images.add_argument(f"--{image.replace('_', '-')}", type=file_path, metavar="NIFTI", dest=f"image.{image}",
                            nargs="+" if several else None, required=image in step.needs, help=text)  # fmt: skip
    scan = parser.add_argument_group("Scan (default: what sidecars beside the images tell)")
    if any(image in FIELDS for image in (*step.needs, *step.takes)):
        scan.add_argument("--unit", choices=UNITS, default="Hz", help="unit of the given fields (default: Hz)")
    scan.add_argument("--echo-times", type=_numbers, metavar="S[,S...]", default=(), help="echo times [s]")
    scan.add_argument("--field-strength", type=_positive, metavar="NUMBER", help="field strength [T]")
    scan.add_argument("--b0-direction", type=_numbers, metavar="X,Y,Z", default=(),
                      help="direction of B0 in voxel axes (default: that of the affine)")  # fmt: skip
    methods = [method for method in registry.METHODS if method.stage == step.stage and method.name not in step.without]
    if methods:
        names = [method.name for method in methods]
        parser.add_argument("--method", choices=names, default=step.method, metavar="METHOD",
                            help=f"{', '.join(names)} (default: {step.method})")  # fmt: skip
    for method in methods:
        if (options := method.options_type()) is not None:
            add_options(parser.add_argument_group(f"Method {method.name}, {method.title}"), options, method.name)
    if step.section:
        add_options(parser.add_argument_group("Options"), settings.step_options_type(step.section), step.section)
    execution = parser.add_argument_group("Execution")
    execution.add_argument("--omp-nthreads", type=int, metavar="N", help="threads (default: all cores, at most 8)")
    execution.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where solvers run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the step and tell what was written and assumed."""
    from qsmprep.app.single_step import Asked, run_single

    logging.basicConfig(level=logging.WARNING, format="Warning: %(message)s", stream=sys.stderr, force=True)
    step, method = STEPS[arguments.step], getattr(arguments, "method", "")
    _check_output(arguments.output, step, overwrite=arguments.overwrite)
    values = vars(arguments)
    images = {image: value if isinstance(value, list) else [value] for image in IMAGES
              if (value := values.get(f"image.{image}")) is not None}  # fmt: skip
    if not images:
        raise ValueError(f"No image is given: `qsmprep-tools step {arguments.step} --help` lists those it takes.")
    typed = registry.find(step.stage, method).options_type() if method else None
    if step.section:
        options = given_options(arguments, settings.step_options_type(step.section), step.section)
    else:
        options = given_options(arguments, typed, method) if typed else {}
    strength = arguments.field_strength
    asked = Asked(
        images=images, output=arguments.output, method=method, options=options, unit=values.get("unit", "Hz"),
        echo_times_s=arguments.echo_times, b0=arguments.b0_direction,
        frequency_mhz=None if strength is None else strength * GYROMAGNETIC_RATIO_MHZ_PER_T,
        threads=arguments.omp_nthreads or min(available_cores(), 8), device=choose_device(arguments.device)[0],
        receive=_Bar(), command=shlex.join(["qsmprep-tools", *sys.argv[1:]]),
    )  # fmt: skip
    written, notes = run_single(step, asked)
    for note in notes:
        print(note, file=sys.stderr)
    for path in written:
        print(path)
    return 0


def _check_output(path: Path, step: SingleStep, *, overwrite: bool) -> None:
    if not path.name.endswith(".nii.gz"):
        raise ValueError(f"{path}: the result is compressed NIfTI; give a name that ends in .nii.gz.")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder. Make it first.")
    for written in () if overwrite else step.outputs(path):
        if written.exists():
            raise ValueError(f"{written} lies there already. Choose another name, or add --overwrite.")


class _Bar:
    """How far an iteration is, on one line of a terminal; nothing anywhere else."""

    def __call__(self, done: Iterations) -> None:
        if sys.stderr.isatty():
            total = f" of {done.total}" if done.total else ""
            print(f"\r{done.done}{total} iterations ", end="", file=sys.stderr, flush=True)


def _numbers(word: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no list of numbers with commas") from None


def _positive(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number") from None
    if not 0 < value < 30:
        raise argparse.ArgumentTypeError(f"{word} T is no field strength of a scanner")
    return value
