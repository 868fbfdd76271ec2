"""Choose a parameter of an inversion on one run, by the L-curve or against a truth."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep import registry
from qsmprep.analysis.curve import LCurve, data_misfit, l_curve, penalty
from qsmprep.analysis.voxelwise import demeaned_rmse
from qsmprep.app.sidecars import scan_behind
from qsmprep.findings import Warning
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.units import hz_to_ppm
from qsmprep.options import check_options, option_type
from qsmprep.scan import NotKnownError, Scan

SPREAD = 30.0  # the default range goes from the default value over this to the default value times this
RULES = ("corner", "inflection")
# What the scan may lack -> in words, and the flag that tells it.
FLAGS: Mapping[str, tuple[str, str]] = {
    "centre_frequency_mhz": ("the centre frequency", "--centre-frequency in MHz"),
    "echo_times_s": ("the echo times", "--echo-times in seconds"),
}
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
    warnings: tuple[Warning, ...]


def tunable() -> tuple[str, ...]:
    """Inversions with a parameter to tune; networks have none."""
    return tuple(m.name for m in registry.METHODS if m.stage == "inversion" and not m.needs_network())


def default_option(method: registry.Method) -> str:
    """The option that weighs a method's regularisation."""
    if method.tuning is not None:
        return method.tuning.option
    options_class = method.options_type()
    known = {field.name for field in dataclasses.fields(options_class)} if options_class else set()
    raise ValueError(f"Which option of {method.name}? Give --option, one of {', '.join(sorted(known))}.")


def values_to_try(base: Any, option: str, start: float | None, stop: float | None, steps: int) -> list[float]:
    """Values of an option, evenly spaced in logarithm, within its range; ValueError for an option that has none."""
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


def read_inputs(arguments: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """What an inversion is called with, by parameter name, and the truth or None."""
    from qsmprep.app.volumes import read_mask_of_user, read_on_one_grid

    names = {"field": arguments.field, "mask": arguments.mask, "magnitude": arguments.magnitude,
             "weights": arguments.weights, "truth": arguments.truth}  # fmt: skip
    paths = {name: path for name, path in names.items() if path is not None}
    for path in paths.values():
        if not path.is_file():
            raise ValueError(f"{path}: no such file.")
    told = scan_behind(arguments.field)
    if told.units not in ("", "Hz"):
        raise ValueError(f"{arguments.field} is in {told.units} by its sidecar; give the tissue field in Hz.")
    frequency = arguments.centre_frequency or told.centre_frequency_mhz
    if frequency is None or not frequency > 0:
        raise _told_nowhere("centre_frequency_mhz")
    times = _numbers(arguments.echo_times, "--echo-times") or told.echo_times_s
    b0 = _numbers(arguments.b0_direction, "--b0-direction")
    if b0 and (len(b0) != 3 or not any(b0)):
        raise ValueError(f"--b0-direction {arguments.b0_direction}: give three numbers as 0,0,1.")
    volumes, grid = read_on_one_grid(paths, REMEDY)
    inputs = {
        "field_ppm": hz_to_ppm(volumes["field"], frequency),
        "mask": read_mask_of_user(arguments.mask),
        "scan": Scan(grid.voxel_size_mm, (b0[0], b0[1], b0[2]) if b0 else grid.b0_direction, times, frequency),
        "magnitude_rss": volumes.get("magnitude"),
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
) -> Iterator[Candidate]:
    """Invert with each value, and measure. Yields a Candidate each and tells of it."""
    scan = inputs["scan"]
    weights = inputs.get("weights", inputs.get("magnitude_rss")) if "weights" in method.inputs() else None
    for number, value in enumerate(values, 1):
        options = dataclasses.replace(base, **{option: value}, **followers(method.name, base, option, value))
        check_options(options)
        begin = time.perf_counter()
        try:
            result = method.run(options, device=device, **inputs)
        except NotKnownError as lacking:
            raise _told_nowhere(lacking.name) from None
        inside = result.mask
        end = result.convergence or ended(begin, [0.0], True, monitored="")  # no iteration
        error = float("nan") if truth is None else demeaned_rmse(result.chi_ppm[inside], truth[inside])
        misfit = data_misfit(result.chi_ppm, inputs["field_ppm"], inside, scan=scan, weights=weights)
        size = penalty(result.chi_ppm, inside, voxel_size_mm=scan.voxel_size_mm, norm=norm_of(method.name))
        told = "" if truth is None else f", error {error:.4g} %"
        print(f"[{number}/{len(values)}] {option} {value:.4g}: misfit {misfit:.4g}, penalty {size:.4g}{told}, "
              f"{end.iterations} iterations, {end.seconds:.1f} s", flush=True)  # fmt: skip
        yield Candidate(value, misfit, size, error, end.iterations, end.converged, end.seconds)


def norm_of(method: str) -> str:
    """What is measured as a method's penalty; total variation for one whose table row does not say."""
    tuning = registry.find("inversion", method).tuning
    return tuning.norm if tuning else "l1"


def usual_range(method: registry.Method, option: str) -> tuple[float | None, float | None]:
    """Values from and to where the range around the default would miss the corner of the L-curve; None: around it."""
    tuning = method.tuning
    return tuning.range if tuning and tuning.range and tuning.option == option else (None, None)


def followers(method: str, base: Any, option: str, value: float) -> dict[str, float]:
    """Options that keep their ratio to the tuned one, with their values for it."""
    tuning = registry.find("inversion", method).tuning
    names = tuning.followers if tuning and tuning.option == option else ()
    return {name: getattr(base, name) * value / getattr(base, option) for name in names if getattr(base, name)}


def choose(method: str, base: Any, option: str, candidates: Sequence[Candidate], rule: str) -> Choice:
    """The value that the candidates lead to: of least error where errors are known, else by the L-curve."""
    values, misfits, penalties, errors = np.transpose([(c.value, c.misfit, c.penalty, c.error) for c in candidates])
    curve: LCurve | None = None
    warnings: list[Warning] = []
    if values.size >= 5 and (misfits > 0).all() and (penalties > 0).all():
        curve = l_curve(values, misfits, penalties)
    if np.isfinite(errors).all():
        best = int(np.argmin(errors))
        chosen, reason = float(values[best]), f"least error of {values.size} values, {errors[best]:.4g} %"
        if best in (0, values.size - 1):
            text = "The least error lies at an end of the range."
            warnings.append(Warning("least-error-at-end", text, "Widen it (--from, --to)."))
    elif curve is None:
        raise ValueError("The maps leave no misfit or are flat, so there is no L-curve; try another range.")
    else:
        warnings += curve.warnings
        chosen, reason = curve.corner, "largest curvature of the L-curve"
        if rule == "inflection" and curve.inflection is not None:
            chosen, reason = curve.inflection, "zero curvature of the L-curve before its corner"
        elif rule == "inflection":
            text = "The L-curve has no point of zero curvature before its corner: the corner was taken."
            warnings.append(Warning("no-inflection", text, "Widen the range towards the weaker penalty."))
    unfinished = sum(not candidate.converged for candidate in candidates)
    if unfinished:
        text = f"{unfinished} of {values.size} inversions stopped at the cap on iterations."
        warnings.append(Warning("tuning-iteration-cap", text, "Raise the cap in a settings file (--config-file)."))
    chosen = round(chosen) if option_type(type(base), option) is int else float(f"{chosen:.4g}")
    along = {name: float(f"{number:.4g}") for name, number in followers(method, base, option, chosen).items()}
    return Choice(method, option, chosen, reason, norm_of(method), tuple(candidates), curve, along, tuple(warnings))


def _told_nowhere(name: str) -> ValueError:
    what, flag = FLAGS[name]
    return ValueError(f"No sidecar of the field map tells {what}; give {flag}.")


def _numbers(text: str | None, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"{flag} {text}: give numbers separated by commas.") from None
