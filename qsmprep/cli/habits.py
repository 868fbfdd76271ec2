"""Flags as users of fMRIPrep know them: other names of ours, and what is accepted because scripts give it."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from qsmprep.options import what_is_allowed
from qsmprep.presets import SLOPPY
from qsmprep.settings import ExecutionOptions

UNITS_MB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
NOTHING = {
    "notrack": "--notrack: nothing is ever tracked, so that this flag changes nothing.",
    "random_seed": "--random-seed: the seed of a step that draws numbers is fixed, so that this flag changes nothing.",
}


def add_habits(group: argparse._ArgumentGroup) -> None:
    """Add the flags. Those that stand for an option have its destination; the rest are read by `settled`."""
    group.add_argument("--resource-monitor", action="store_true",
                       help="keep memory and cores over time, and show them in the report")  # fmt: skip
    group.add_argument("--write-graph", action="store_true",
                       help="write the graph of each run into the logs, drawn where Graphviz is installed")  # fmt: skip
    group.add_argument("--md-only-boilerplate", action="store_true",
                       help="write the methods text as CITATION.md alone, without .html and .bib")  # fmt: skip
    group.add_argument("--sloppy", action="store_true",
                       help=f"as --pipeline {SLOPPY}: see whether a dataset runs; maps not for use")  # fmt: skip
    group.add_argument("--debug", action="store_true",
                       help="as -vv --plugin linear --stop-on-first-crash: one process, everything logged")  # fmt: skip
    for name in ("--nthreads", "--n-cpus"):
        group.add_argument(name, type=_cores, dest=".nprocs", metavar="N", default=argparse.SUPPRESS,
                           help="as --nprocs")  # fmt: skip
    group.add_argument("--mem", type=memory_mb, dest=".mem_mb", metavar="SIZE", default=argparse.SUPPRESS,
                       help="as --mem-mb, or with a unit, as 16G")  # fmt: skip
    group.add_argument("--notrack", action="store_true", help="accepted; nothing is ever tracked")
    group.add_argument("--random-seed", type=int, metavar="N", help="accepted; seeds are fixed")


def settled(given: argparse.Namespace) -> argparse.Namespace:
    """The namespace with what --sloppy and --debug stand for; says so of what changes nothing.

    Raises
    ------
    ValueError : --sloppy beside another --pipeline, or --debug beside --plugin pool.
    """
    for name, text in NOTHING.items():
        if getattr(given, name) is not None and getattr(given, name) is not False:
            print(f"Note: {text}", file=sys.stderr)
    values: dict[str, Any] = vars(given)
    if given.sloppy and values.setdefault("pipeline", SLOPPY) != SLOPPY:
        raise ValueError(f"--sloppy and --pipeline {given.pipeline} exclude each other; give one of them.")
    if given.debug:
        if values.setdefault(".plugin", "linear") != "linear":
            raise ValueError("--debug runs all steps in one process; leave --plugin pool out.")
        values[".stop_on_first_crash"] = True
        given.verbose = 2
    return given


def memory_mb(word: str) -> int:
    """Memory in MB of a word such as 16000, 16G, 16GB or 0.5T.

    Raises
    ------
    argparse.ArgumentTypeError : it is no such word, or too little.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", word.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no memory; give MB, or a number with a unit, as 16G")
    return _allowed("mem_mb", int(float(found[1]) * UNITS_MB[found[2].upper() or "M"]), word)


def _cores(word: str) -> int:
    try:
        return _allowed("nprocs", int(word), word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number") from None


def _allowed(name: str, value: int, word: str) -> int:
    facts = ExecutionOptions.__dataclass_fields__[name].metadata
    if allowed := what_is_allowed(facts, value):
        raise argparse.ArgumentTypeError(f"{word} is outside; {allowed}")
    return value
