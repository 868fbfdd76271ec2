"""`qsmprep-tools tune`: choose a parameter of an inversion on one run, by the L-curve or against a truth."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsmprep import registry, settings
from qsmprep.options import check_options, option_type

if TYPE_CHECKING:
    from qsmprep.analysis.curve import LCurve

# Method -> the option that weighs its regularisation. One that is not here takes the first of USUAL_OPTIONS it has.
DEFAULT_OPTIONS: Mapping[str, str] = {
    "fansi": "alpha1",
    "medi": "data_weight",
    "rts": "mu",
    "tkd": "threshold",
    "tsvd": "threshold",
    "l2": "regularisation",
    "tikhonov": "regularisation",
    "ndi": "max_iterations",
}
USUAL_OPTIONS = ("alpha1", "data_weight", "regularisation", "regularisation_weight", "alpha", "mu", "threshold")
# What the method penalises; total variation where it is not here.
NORMS: Mapping[str, str] = {"l2": "l2", "tikhonov": "image", "tkd": "image", "tsvd": "image", "ndi": "image"}
# Options that keep their ratio to the tuned one: penalty parameters that only set the pace, weights that belong to it.
FOLLOWERS: Mapping[str, tuple[str, ...]] = {"alpha1": ("mu1", "alpha0", "mu0")}
SPREAD = 30.0  # the default range goes from the default value over this to the default value times this
# Where that range would miss the corner: the default of RTS trusts the first step fully.
RANGES: Mapping[tuple[str, str], tuple[float, float]] = {("rts", "mu"): (10.0, 1e5)}
FILES = ("tune.tsv", "tune.png", "tune.toml")
RULES = ("corner", "inflection")
REMEDY = "Give images of one run of qsmprep, or resample the truth to the field map's grid."


@dataclass(frozen=True)
class Candidate:
    """One value that was tried: misfit, penalty, error in percent (NaN without a truth), and how the solver ended."""

    value: float
    misfit: float
    penalty: float
    error: float
    iterations: int
    converged: bool
    seconds: float


@dataclass(frozen=True)
class Choice:
    """What the candidates led to.

    Attributes
    ----------
    method, option, value : the chosen value of a method's option.
    reason : by which rule, in words.
    norm : what was measured as penalty.
    candidates : in ascending order of the value.
    curve : None where there are too few candidates for one.
    followers : options that were set along with it.
    warnings : what makes the choice doubtful.
    """

    method: str
    option: str
    value: float
    reason: str
    norm: str
    candidates: tuple[Candidate, ...]
    curve: LCurve | None
    followers: Mapping[str, float]
    warnings: tuple[str, ...]


def add_tune(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    text = ("Choose a parameter of an inversion on one run: where the L-curve of data misfit and penalty bends most, "
            "or where the error against a given truth is least.")  # fmt: skip
    parser = commands.add_parser("tune", help=text, description=text)
    parser.add_argument("field", metavar="LOCALFIELD", type=Path, help="tissue field in Hz (desc-local_fieldmap)")
    parser.add_argument("mask", metavar="MASK", type=Path, help="where it is valid (desc-qsm_mask)")
    parser.add_argument("out", metavar="OUT", type=Path, help=f"folder for {', '.join(FILES)}")
    parser.add_argument("--method", required=True, choices=tunable(), help="inversion method")
    parser.add_argument("--option", metavar="NAME", help="option to choose (default: the weight of the regularisation)")
    parser.add_argument("--from", dest="start", type=float, metavar="X", help=f"least value (default / {SPREAD:g})")
    parser.add_argument("--to", dest="stop", type=float, metavar="X", help=f"greatest value (default x {SPREAD:g})")
    parser.add_argument("--steps", type=int, default=15, metavar="N", help="values, evenly spaced in logarithm (15)")
    parser.add_argument("--rule", choices=RULES, default=RULES[0], help="point of the L-curve: of largest curvature, "
                        "or of zero curvature before it, at a weaker penalty (default: corner)")  # fmt: skip
    parser.add_argument("--truth", type=Path, metavar="CHIMAP", help="true susceptibility: take the least error")
    parser.add_argument("--magnitude", type=Path, metavar="FILE", help="magnitude, for edges and weights")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="data weights")
    parser.add_argument("--config-file", type=Path, metavar="TOML", help="settings whose other options are used")
    parser.add_argument("--centre-frequency", type=float, metavar="MHZ", help="where the sidecars lack it")
    parser.add_argument("--echo-times", metavar="S,S,S", help="in seconds, where the sidecars lack them")
    parser.add_argument("--b0-direction", metavar="X,Y,Z", help="in voxel axes, instead of the affine's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the solver runs (default: cpu)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Try every value, choose, and write table, figure and settings."""
    from qsmprep.cli.tuning_files import write_files

    method = registry.find("inversion", arguments.method)
    document = settings.read_toml(arguments.config_file) if arguments.config_file else {}
    base = settings.build(document).options_of("inversion", method.name)
    option = arguments.option or default_option(method)
    start, stop = RANGES.get((method.name, option), (None, None))
    start = start if arguments.start is None else arguments.start
    stop = stop if arguments.stop is None else arguments.stop
    values = values_to_try(base, option, start, stop, arguments.steps)
    if arguments.truth is None and len(values) < 5:
        raise ValueError("An L-curve needs five values or more: raise --steps or widen --from and --to.")
    inputs, truth = read_inputs(arguments, method)
    candidates = tuple(try_values(method, base, option, values, inputs, truth, arguments.device))
    choice = choose(method.name, base, option, candidates, arguments.rule)
    write_files(arguments.out, choice, document)
    print(f"{method.name} {option} = {choice.value:.4g}: {choice.reason}. Written to {arguments.out}.")
    for warning in choice.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    return 0


def tunable() -> tuple[str, ...]:
    """Inversions with a parameter to tune; networks have none."""
    return tuple(m.name for m in registry.METHODS if m.stage == "inversion" and not m.needs_network())


def default_option(method: registry.Method) -> str:
    """The option that weighs a method's regularisation."""
    known = {field.name for field in dataclasses.fields(method.options_type())}
    for name in (DEFAULT_OPTIONS.get(method.name), *USUAL_OPTIONS):
        if name in known:
            return name
    raise ValueError(f"Which option of {method.name}? Give --option, one of {', '.join(sorted(known))}.")


def values_to_try(base: Any, option: str, start: float | None, stop: float | None, steps: int) -> list[float]:
    """Values of an option, evenly spaced in logarithm, within its range; ValueError for an option that has none."""
    import numpy as np

    facts = {field.name: field.metadata for field in dataclasses.fields(base)}
    kinds = {name: option_type(type(base), name) for name in facts}
    numeric = sorted(name for name, kind in kinds.items() if kind in (int, float))
    if option not in numeric:
        raise ValueError(f"--option {option}: choose one of {', '.join(numeric)}.")
    middle = getattr(base, option)
    if (start is None or stop is None) and not middle:
        raise ValueError(f"{option} has no default to start from: give --from and --to.")
    low, high = facts[option].get("low"), facts[option].get("high")
    first = max(middle / SPREAD, low or 0) if start is None else start
    last = min(middle * SPREAD, np.inf if high is None else high) if stop is None else stop
    if not (0 < first < last < np.inf) or steps < 2:
        raise ValueError(f"--from {first:g} --to {last:g} --steps {steps}: give 0 < FROM < TO and two steps or more.")
    values = np.geomspace(first, last, steps)
    values[[0, -1]] = first, last  # exactly, so that the end of an allowed range is allowed
    chosen = sorted({round(float(v)) for v in values} if kinds[option] is int else set(map(float, values)))
    for value in (chosen[0], chosen[-1]):
        check_options(dataclasses.replace(base, **{option: value}))
    return chosen


def read_inputs(arguments: argparse.Namespace, method: registry.Method) -> tuple[dict[str, Any], Any]:
    """What the method is called with, by parameter name, and the truth or None."""
    from qsmprep.cli.sidecars import scan_behind
    from qsmprep.cli.volumes import read_on_one_grid
    from qsmprep.units import hz_to_ppm

    scan = scan_behind(arguments.field)
    if scan.units not in ("", "Hz"):
        raise ValueError(f"{arguments.field} is in {scan.units} by its sidecar; give the tissue field in Hz.")
    frequency = arguments.centre_frequency or scan.centre_frequency_mhz
    if frequency is None or not frequency > 0:
        raise ValueError(f"{arguments.field}: no sidecar tells the centre frequency; give --centre-frequency in MHz.")
    times = _numbers(arguments.echo_times, "--echo-times") or scan.echo_times_s
    if not times and "echo_times_s" in method.required():
        raise ValueError(f"{arguments.field}: no sidecar tells the echo times; give --echo-times in seconds.")
    b0 = _numbers(arguments.b0_direction, "--b0-direction")
    if b0 and (len(b0) != 3 or not any(b0)):
        raise ValueError(f"--b0-direction {arguments.b0_direction}: give three numbers as 0,0,1.")
    names = {"field": arguments.field, "mask": arguments.mask, "magnitude": arguments.magnitude,
             "weights": arguments.weights, "truth": arguments.truth}  # fmt: skip
    volumes, grid = read_on_one_grid({name: path for name, path in names.items() if path is not None}, REMEDY)
    inputs = {
        "field_ppm": hz_to_ppm(volumes["field"], frequency),
        "mask": volumes["mask"] != 0,
        "voxel_size_mm": grid.voxel_size_mm,
        "b0_direction": b0 or grid.b0_direction,
        "centre_frequency_mhz": frequency,
        "echo_times_s": times or None,
        "magnitude": volumes.get("magnitude"),
        "weights": volumes.get("weights"),
    }
    return {name: value for name, value in inputs.items() if value is not None}, volumes.get("truth")


def try_values(
    method: registry.Method,
    base: Any,
    option: str,
    values: Sequence[float],
    inputs: Mapping[str, Any],
    truth: Any,
    device: str,
):
    """Invert with each value, and measure. Yields a Candidate each and tells of it."""
    from qsmprep.analysis.curve import data_misfit, penalty
    from qsmprep.analysis.voxelwise import demeaned_rmse

    grid = {"voxel_size_mm": inputs["voxel_size_mm"]}
    weights = inputs.get("weights", inputs.get("magnitude")) if "weights" in method.inputs() else None
    for number, value in enumerate(values, 1):
        options = dataclasses.replace(base, **{option: value}, **followers(base, option, value))
        check_options(options)
        result = method.run(options, device=device, **inputs)
        inside, end = result.mask, result.convergence
        error = float("nan") if truth is None else demeaned_rmse(result.chi_ppm[inside], truth[inside])
        misfit = data_misfit(
            result.chi_ppm, inputs["field_ppm"], inside, b0_direction=inputs["b0_direction"], weights=weights, **grid
        )
        size = penalty(result.chi_ppm, inside, norm=norm_of(method.name), **grid)
        told = "" if truth is None else f", error {error:.4g} %"
        print(f"[{number}/{len(values)}] {option} {value:.4g}: misfit {misfit:.4g}, penalty {size:.4g}{told}, "
              f"{end.iterations} iterations, {end.seconds:.1f} s", flush=True)  # fmt: skip
        yield Candidate(value, misfit, size, error, end.iterations, end.converged, end.seconds)


def norm_of(method: str) -> str:
    """What is measured as a method's penalty."""
    return NORMS.get(method, "l1")


def followers(base: Any, option: str, value: float) -> dict[str, float]:
    """Options that keep their ratio to the tuned one, with their values for it."""
    return {
        name: getattr(base, name) * value / getattr(base, option)
        for name in FOLLOWERS.get(option, ())
        if getattr(base, name, None)
    }


def choose(method: str, base: Any, option: str, candidates: Sequence[Candidate], rule: str) -> Choice:
    """The value that the candidates lead to: of least error where errors are known, else by the L-curve."""
    import numpy as np

    from qsmprep.analysis.curve import l_curve

    values, misfits, penalties, errors = np.transpose([(c.value, c.misfit, c.penalty, c.error) for c in candidates])
    curve, warnings = None, []
    if values.size >= 5 and (misfits > 0).all() and (penalties > 0).all():
        curve = l_curve(values, misfits, penalties)
    if np.isfinite(errors).all():
        best = int(np.argmin(errors))
        chosen, reason = float(values[best]), f"least error of {values.size} values, {errors[best]:.4g} %"
        if best in (0, values.size - 1):
            warnings.append("The least error lies at an end of the range: widen it.")
    elif curve is None:
        raise ValueError("The maps leave no misfit or are flat, so there is no L-curve; try another range.")
    else:
        warnings += curve.warnings
        chosen, reason = curve.corner, "largest curvature of the L-curve"
        if rule == "inflection" and curve.inflection is not None:
            chosen, reason = curve.inflection, "zero curvature of the L-curve before its corner"
        elif rule == "inflection":
            warnings.append("The L-curve has no point of zero curvature before its corner: the corner was taken.")
    unfinished = sum(not candidate.converged for candidate in candidates)
    if unfinished:
        warnings.append(f"{unfinished} of {values.size} inversions stopped at the cap on iterations.")
    chosen = round(chosen) if option_type(type(base), option) is int else float(f"{chosen:.4g}")
    along = {name: float(f"{number:.4g}") for name, number in followers(base, option, chosen).items()}
    return Choice(method, option, chosen, reason, norm_of(method), tuple(candidates), curve, along, tuple(warnings))


def _numbers(text: str | None, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"{flag} {text}: give numbers separated by commas.") from None
