"""Everything that can be wrong with a run, found before its graph starts: each error names the file and the remedy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.bids.advice import consensus_warnings
from qsmprep.bids.coils import check_coils
from qsmprep.bids.images import (
    Header,
    VoxelSurvey,
    as_stored,
    check_b0,
    check_grids,
    open_image,
    read_header,
    stored_voxels,
    survey_all,
)
from qsmprep.bids.masks import grid_problem, read_given_mask
from qsmprep.bids.metadata import number, same
from qsmprep.bids.names import PARTS, listed
from qsmprep.bids.parts import RADIANS, check_swapped
from qsmprep.bids.problem import Problem, errors, joined
from qsmprep.bids.scans import Echo, GreRun, SpinEchoScan, known_times
from qsmprep.bids.volumes import check_volumes
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.numerics.units import LONGEST_ECHO_TIME_S as LONGEST_SPIN_ECHO_TIME_S
from qsmprep.options import shown
from qsmprep.phase.scaling import to_radians

__all__ = ["Problem", "check_mask", "check_output_dir", "check_run", "errors"]

LONGEST_ECHO_TIME_S = {GreRun: 0.2, SpinEchoScan: LONGEST_SPIN_ECHO_TIME_S}
MOST_MISSING = 5  # echo numbers that a message lists
LABELS = {name: label for label, name in PARTS.items()}


def check_run(
    run: GreRun,
    *,
    field_strength_t: float | None = None,
    b0_direction: Sequence[float] | None = None,
    tolerated_share: float = 0.0,
    threads: int | None = None,
) -> tuple[Problem, ...]:
    """Every problem of a run; nothing is raised, so that one bad run does not stop the others.

    Parameters
    ----------
    run : as `find_runs` gives it.
    field_strength_t, b0_direction : what the user gave, if anything; they stand in for what the data lacks.
    tolerated_share : share of voxels in [0, 1] that may be NaN or infinite: up to it a warning, above it an error.
    threads : files read side by side.
    """
    if errors(run.problems):
        return joined(run.problems)
    problems = [*run.problems, *_check_parts(run), *_check_echo_times(run), *_check_units(run)]
    problems += [*_check_scanner(run), *_check_field_strength(run, field_strength_t)]
    headers = [read_header(path) for path in run.files]
    problems += [header for header in headers if isinstance(header, Problem)]
    readable = [header for header in headers if isinstance(header, Header)]
    coil_problems, spatial = check_coils(run, readable)
    volume_problems, spatial = check_volumes(run, spatial)
    coil_problems += volume_problems
    grid_problems = coil_problems or check_grids(spatial, b0_direction=b0_direction)
    problems += grid_problems + check_b0(readable, b0_direction=b0_direction)
    named = {problem.path for problem in errors(grid_problems)}
    surveys = survey_all([header for header in readable if header.path not in named], threads=threads)
    problems += [survey for survey in surveys if isinstance(survey, Problem)]
    for survey in surveys:
        if isinstance(survey, VoxelSurvey):
            problems += _check_voxels(survey, tolerated_share)
    if not errors(problems):
        found = {survey.path: survey for survey in surveys if isinstance(survey, VoxelSurvey)}
        problems += check_swapped(run, found, {header.path: header for header in readable})
    if not errors(problems):
        problems += _check_scaling(run, found)
        problems += consensus_warnings(run)
    return joined(problems)


def check_mask(path: Path, run: GreRun, *, what: str = "mask") -> tuple[Problem, ...]:
    """Problems of a mask or segmentation made elsewhere: it must be readable, on the run's grid, and not empty.

    A mask must be binary, or be made so without doubt, by the rules of `qsmprep.bids.masks`.
    """
    headers = [read_header(run.files[0]), read_header(Path(path))]
    readable = [header for header in headers if isinstance(header, Header)]
    problems = [header for header in headers if isinstance(header, Problem)]
    problems = problems or check_grids(readable[1:], b0_direction=(0, 0, 1))
    if not problems:
        image, given = readable
        found = grid_problem(path, given.place, image.place, what=what)
        survey = found or next(iter(survey_all([given])))
        if isinstance(survey, Problem):
            problems.append(survey)
        elif what == "mask":
            mask = read_given_mask(Path(path))
            problems += [mask] if isinstance(mask, Problem) else []
        elif not survey.maximum > 0:
            remedy = "Give an image of labels."
            problems.append(Problem("error", "given-image-empty", path, f"the {what} is empty", "", remedy))
    return tuple(problems)


def check_spin_echo(scan: SpinEchoScan, *, threads: int | None = None) -> tuple[Problem, ...]:
    """Problems of a spin echo scan: a magnitude and an echo time for each of two echoes or more, on one grid.

    A number missing in the row of echoes is a warning: the others are still of one train.
    """
    if errors(scan.problems):
        return joined(scan.problems)
    problems = list(scan.problems)
    without = [echo for echo in scan.echoes if echo.magnitude is None]
    if without or len(scan.echoes) < 2:
        found = f"echo {without[0].number} has no magnitude" if without else "a single spin echo: R2 needs two"
        problems.append(Problem("error", "spin-echo-incomplete", scan.name, found,
                                "magnitude images of two echoes or more", "Add the files."))  # fmt: skip
        return tuple(problems)
    problems += _check_echo_times(scan)
    missing = _missing_numbers(scan.echoes)
    if missing:
        found = f"spin echo {_in_words(missing)} is missing: the others are used as echoes of the same train"
        problems.append(Problem("warning", "spin-echo-missing", scan.name, found, "", "Add the file if it exists."))
    headers = [read_header(path) for path in scan.files]
    problems += [header for header in headers if isinstance(header, Problem)]
    readable = [header for header in headers if isinstance(header, Header)]
    grids = check_grids(readable, b0_direction=(0, 0, 1))
    problems += grids
    named = {problem.path for problem in grids}
    for survey in survey_all([header for header in readable if header.path not in named], threads=threads):
        problems += [survey] if isinstance(survey, Problem) else _check_voxels(survey, 0.0)
    return joined(problems)


def check_output_dir(bids_dir: Path, output_dir: Path) -> tuple[Problem, ...]:
    """Problems of the output folder: inside the raw data, a raw dataset itself, or not writable."""
    raw, output = Path(bids_dir).resolve(), Path(output_dir).resolve()
    remedy = f"Choose a folder outside of the dataset, or {raw / 'derivatives' / 'qsmprep'}."
    if output == raw:
        return (
            Problem("error", "output-is-dataset", output_dir, "the output folder is the dataset itself", "", remedy),
        )
    if raw in output.parents and output.relative_to(raw).parts[0] != "derivatives":
        return (Problem("error", "output-inside-dataset", output_dir,
                        "the output folder lies inside the raw dataset", "", remedy),)  # fmt: skip
    if raw in output.parents and len(output.relative_to(raw).parts) == 1:
        found = "the output folder is the one that holds all derivatives"
        return (Problem("error", "output-is-derivatives", output_dir, found, "one of its own", remedy),)
    if any(output.glob("sub-*/anat/*_part-phase_*.nii*")) or any(output.glob("sub-*/ses-*/anat/*_part-phase_*.nii*")):
        return (Problem("error", "output-is-raw", output_dir, "the output folder holds a raw dataset", "",
                        "Choose another folder."),)  # fmt: skip
    folder = output
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"the output folder cannot be written ({error.strerror or error})"
        return (Problem("error", "output-not-writable", output_dir, found, "",
                        "Choose another folder, or change its permissions."),)  # fmt: skip
    return ()


def _check_parts(run: GreRun) -> list[Problem]:
    """Each echo must have magnitude and phase, or real and imaginary part, and no echo may be missing."""
    there = {part for echo in run.echoes for part in echo.files}
    needed = ("real", "imaginary") if run.is_complex else ("magnitude", "phase")
    words = " and ".join(needed)
    whole = [part for part in needed if part not in there]
    if whole:
        only = "phase" if whole == ["magnitude"] else " and ".join(sorted(there))
        found = f"only {only} images, no {whole[0]}"
        remedy = f"Add the {whole[0]} images (part-{LABELS[whole[0]]}), or leave the run out by --bids-filter-file."
        return [Problem("error", "part-missing", run.name, found, f"{words} of every echo", remedy)]
    problems = []
    for echo in run.echoes:
        for part in needed:
            if part not in echo.files:
                kept = ", ".join(echo.files)
                found = f"missing: echo {echo.number or 1} has {kept} but no {part}"
                remedy = "Add the file, or remove the other images of this echo."
                problems.append(
                    Problem("error", "part-missing-of-echo", _expected_file(run, echo.number, part), found, "", remedy)
                )
    if missing := _missing_numbers(run.echoes):
        numbers = sorted(echo.number for echo in run.echoes if echo.number)
        found = f"missing: there are echoes {listed(numbers)}, but not echo {_in_words(missing)}"
        remedy = "Add the files of this echo, or number the echoes from 1 without a gap."
        expected = _expected_file(run, missing[0], needed[-1])
        problems.append(Problem("error", "echo-missing", expected, found, "", remedy))
    return problems


def _missing_numbers(echoes: Sequence[Echo]) -> list[int]:
    """The first numbers that are missing in the row of echoes; a few, as a name may hold any number."""
    present = {echo.number for echo in echoes if echo.number}
    absent = (number for number in range(1, max(present, default=0)) if number not in present)
    return list(islice(absent, MOST_MISSING + 1))


def _in_words(missing: Sequence[int]) -> str:
    return listed(missing[:MOST_MISSING]) + (" and more" if len(missing) > MOST_MISSING else "")


def _expected_file(run: GreRun, echo_number: int | None, part: str) -> Path:
    echo = f"_echo-{echo_number}" if echo_number else ""
    return run.files[0].parent / f"{run.name}{echo}_part-{LABELS[part]}_{run.suffix}.nii.gz"


def _check_echo_times(run: GreRun | SpinEchoScan) -> list[Problem]:
    """One problem a kind, at the first file that has it, so that a missing key of ten files is told once."""
    problems: dict[str, Problem] = {}
    for echo in run.echoes:
        times: dict[Path, float] = {}
        for part, path in echo.files.items():
            value = echo.metadata.get(part, {}).get("EchoTime")
            problem = _check_echo_time(path, value, LONGEST_ECHO_TIME_S[type(run)])
            if problem:
                problems.setdefault(problem.code, problem)
            elif (seconds := number(value)) is not None:
                times[path] = seconds
        if times and max(times.values()) - min(times.values()) > 1e-6:
            found = f"EchoTime is {' and '.join(f'{time:g}' for time in times.values())} s in images of one echo"
            remedy = f"Correct the sidecar of {' or of '.join(path.name for path in times)}."
            problems.setdefault(
                "echo-time-differs",
                Problem("error", "echo-time-differs", next(iter(times)), found, "one time an echo", remedy),
            )
    return [*problems.values(), *([] if problems else _check_echo_order(run.echoes))]


def _check_echo_time(path: Path, value: Any, longest: float) -> Problem | None:
    needed = "the echo time in seconds, as 0.0048"
    if value is None:
        remedy = "Add EchoTime to the JSON file beside the image or to one it inherits from."
        return Problem("error", "echo-time-missing", path, "EchoTime is missing in its metadata", needed, remedy)
    seconds = number(value)
    if seconds is None or not np.isfinite(seconds) or seconds <= 0:
        return Problem("error", "echo-time-wrong", path, f"EchoTime is {shown(value)}", needed, "Correct the sidecar.")
    if seconds > longest:
        found = f"EchoTime is {seconds:g}, which as seconds is too long: milliseconds?"
        return Problem("error", "echo-time-milliseconds", path, found, needed,
                       f"Write {seconds / 1000:g} if these are milliseconds.")  # fmt: skip
    return None


def _check_echo_order(echoes: Sequence[Echo]) -> list[Problem]:
    problems = []
    for one, other in pairwise(echoes):
        path = next(iter(other.files.values()))
        earlier, later = known_times((one, other))
        if later - earlier <= 1e-6:
            found = f"echoes {one.number} and {other.number} have the same EchoTime, {earlier:g} s"
            remedy = "Uncombined coils? Give them in one of the forms of docs/coils.md. Otherwise correct the sidecars."
            return [Problem("error", "echo-time-twice", path, found, "echo times that differ", remedy)]
        if one.number and other.number and one.number > other.number:
            found = f"echo {other.number} is later than echo {one.number}: ordered by EchoTime, not by number"
            remedy = "Check the echo numbers of the file names; the echo times were followed."
            problems.append(Problem("warning", "echo-order", path, found, "", remedy))
    return problems


def _check_units(run: GreRun) -> list[Problem]:
    """Units of phase; whether the numbers can be scaled is another question."""
    told = [(echo.metadata.get("phase", {}).get("Units"), echo.phase) for echo in run.echoes if echo.phase is not None]
    for unit, path in told[1:]:
        if not same("Units", unit, told[0][0]):
            found = f"phase Units differ between echoes: {shown(told[0][0])}, {shown(unit)}"
            return [Problem("error", "units-differ", path, found, "one unit for all echoes", "Correct the sidecars.")]
    for unit, path in told[:1]:
        if unit is None:
            remedy = 'Write "Units": "rad" or "arbitrary" into its JSON file.'
            return [Problem("warning", "units-missing", path,
                            "phase without Units: the scaling is derived from its numbers", "", remedy)]  # fmt: skip
        if not isinstance(unit, str) or unit.strip().lower() not in (*RADIANS, "arbitrary"):
            remedy = "Convert the phase to radians, or write what it is."
            found = f"phase Units is {shown(unit)}"
            return [Problem("error", "units-unknown", path, found, '"rad" or "arbitrary"', remedy)]
    return []


def _check_field_strength(run: GreRun, given: float | None) -> list[Problem]:
    where, remedy = run.files[0], "Add it to the sidecar, or give --field-strength."
    declared = run.metadata.get("MagneticFieldStrength")
    if given is None and declared is not None and number(declared) is None:
        return [Problem("error", "field-strength-not-number", where, f"MagneticFieldStrength is {shown(declared)}",
                        "a number in tesla", remedy)]  # fmt: skip
    strength = given if given is not None else run.field_strength_t
    if strength is None:
        found = "neither MagneticFieldStrength nor ImagingFrequency in its metadata"
        return [Problem("error", "field-strength-missing", where, found, "the field strength in tesla", remedy)]
    if not 0.01 <= strength <= 25:
        found = f"field strength {strength:g} T" if given is not None else f"MagneticFieldStrength is {strength:g}"
        return [Problem("error", "field-strength-impossible", where, found, "a value in tesla, as 3",
                        "Correct the sidecar or --field-strength.")]  # fmt: skip
    frequency, expected = run.imaging_frequency_mhz, GYROMAGNETIC_RATIO_MHZ_PER_T * strength
    if frequency is not None and abs(frequency / expected - 1) > 0.1:
        found = f"ImagingFrequency is {frequency:g} MHz, but {strength:g} T means {expected:.4g} MHz"
        return [Problem("error", "frequency-contradicts", where, found, "values that agree",
                        "Correct the sidecar: MHz and tesla.")]  # fmt: skip
    return []


def _check_scanner(run: GreRun) -> list[Problem]:
    """What tells the field's scale and sign must be of its type; a frequency of 0 stands for one that is not known."""
    where, problems = run.files[0], []
    frequency, maker = run.metadata.get("ImagingFrequency"), run.metadata.get("Manufacturer")
    if frequency is not None:
        value, found = number(frequency), f"ImagingFrequency is {shown(frequency)}"
        if value == 0:
            problems.append(Problem("warning", "frequency-zero", where, f"{found}: the field strength's is used", "",
                                    "Write the scanner's centre frequency in MHz."))  # fmt: skip
        elif value is None or not 0 < value < np.inf:
            problems.append(Problem("error", "frequency-not-number", where, found, "a number in MHz, as 123.25",
                                    "Correct it in the sidecar, or leave it out."))  # fmt: skip
    if maker is not None and not isinstance(maker, str):
        problems.append(Problem("error", "manufacturer-not-text", where, f"Manufacturer is {shown(maker)}",
                                'the maker of the scanner, as "Siemens"',
                                "Correct it in the sidecar, or leave it out."))  # fmt: skip
    return problems


def _check_voxels(survey: VoxelSurvey, tolerated_share: float) -> list[Problem]:
    bad = survey.nan + survey.infinite
    if bad:
        kinds = ((survey.nan, "NaN"), (survey.infinite, "infinite"))
        words = " and ".join(f"{count} {kind}" for count, kind in kinds if count)
        found = f"{words} of {survey.voxels} voxels"
        if bad > tolerated_share * survey.voxels:
            remedy = "Set them to zero if they lie outside of the head, otherwise convert the images again."
            return [Problem("error", "not-finite", survey.path, found, "finite values", remedy)]
        remedy = "Convert the images again; harmless outside of the head."
        return [Problem("warning", "set-to-zero", survey.path, f"{found}: they are set to zero", "", remedy)]
    if survey.minimum == survey.maximum:
        found = f"every voxel is {survey.minimum:g}: an empty image"
        return [Problem("error", "image-constant", survey.path, found, "", "Convert the scanner's images again.")]
    return []


def _check_scaling(run: GreRun, surveys: Mapping[Path, VoxelSurvey]) -> list[Problem]:
    """Try to scale the phase now unless its range leaves no doubt: an image that cannot be scaled is told early."""
    paths = [echo.phase for echo in run.echoes if echo.phase is not None]
    if run.is_complex or not paths or any(_is_common_range(surveys[path]) for path in paths):
        return []

    images = [open_image(path) for path in dict.fromkeys(paths)]
    of_axis = run.volumes is not None or (run.coils is not None and run.coils.last_axis)
    one = (..., slice(0, 1)) if of_axis else (...,)  # the first coil or volume
    try:
        to_radians(
            [np.asanyarray(image.dataobj[one]).reshape(image.shape[:3]) for image in images],
            raw=[as_stored(image)[one].reshape(image.shape[:3]) for image in images],
            units=run.echoes[0].metadata["phase"].get("Units"),
            manufacturer=run.manufacturer,
            slope=float(stored_voxels(images[0]).slope),
        )
    except ValueError as error:
        return [Problem("error", "phase-not-scalable", paths[0], str(error))]
    return []


def _is_common_range(survey: VoxelSurvey) -> bool:
    """One period of 2 pi, or of 12 bits: the two that every rule for scaling takes as they are."""
    span = survey.maximum - survey.minimum
    periods = ((2 * np.pi, 0.1), (4095, 1), (8190, 2))
    return any(abs(span - period) <= tolerance for period, tolerance in periods)
