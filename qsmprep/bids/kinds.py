"""Which images are read: their suffixes in the folders of a dataset, and those that give way to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import GreRun

# Suffixes of images with magnitude and phase, by the folder (datatype) that they lie in.
OF_DATATYPE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"anat": ("MEGRE", "T2starw", "MPM"), "func": ("bold", "sbref")}
)
GRE_SUFFIXES = tuple(suffix for suffixes in OF_DATATYPE.values() for suffix in suffixes)
SPIN_ECHO_SUFFIX = "MESE"
SUFFIXES = (*GRE_SUFFIXES, SPIN_ECHO_SUFFIX)


def named(datatypes: Sequence[str]) -> str:
    """The suffixes looked for, in words; MPM, which few datasets have, is not told.

    >>> named(["anat"]), named(["anat", "func"])
    ('MEGRE or T2starw', 'MEGRE, T2starw, bold or sbref')
    """
    words = [suffix for datatype in datatypes for suffix in OF_DATATYPE[datatype] if suffix != "MPM"]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def drop_rivals(runs: Sequence[GreRun]) -> tuple[list[GreRun], list[Problem]]:
    """Leave out images that are no run of their own beside others, and refuse two runs of one name."""
    multi = [run for run in runs if run.suffix == "MEGRE"]
    kept, problems = list(multi), []
    for run in sorted((run for run in runs if run.suffix != "MEGRE"), key=lambda run: GRE_SUFFIXES.index(run.suffix)):
        same_session = [other for other in runs if (other.subject, other.session) == (run.subject, run.session)]
        beside = any(other in multi or (other is not run and _has_phase(other)) for other in same_session)
        rival = next((other for other in kept if other.name == run.name), None)
        magnitude_only = all(set(echo.files) == {"magnitude"} for echo in run.echoes)
        if beside and magnitude_only:
            found = "a magnitude without phase beside other images with phase: not used"
            remedy = "Add its phase if it is to be processed."
            problems.append(Problem("warning", "magnitude-without-phase", run.files[0], found, "", remedy))
        elif rival and run.suffix == "sbref":
            found = f"a single-band reference beside {rival.files[0].name}: not used"
            remedy = "Leave that out of the dataset if the reference is to be processed instead."
            problems.append(Problem("warning", "reference-beside-series", run.files[0], found, "", remedy))
        elif rival:
            needed = "names of runs that differ, as outputs are named after them"
            remedy = "Give one of them another acq- or run-, or choose by --bids-filter-file."
            found = f"{run.suffix} and {rival.suffix} are both {run.name}"
            problems.append(Problem("error", "run-name-twice", run.files[0], found, needed, remedy))
        else:
            kept.append(run)
    return kept, problems


def _has_phase(run: GreRun) -> bool:
    return any({"phase", "imaginary"} & set(echo.files) for echo in run.echoes)
