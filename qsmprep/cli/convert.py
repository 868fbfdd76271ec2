"""`qsmprep-tools convert`: DICOM of a scanner to a BIDS dataset."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qsmprep.bids.problem import errors
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command

MOST_TOLD = 20  # files of one kind of problem


def add_convert(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    parser = add_command(commands, "convert", "convert DICOM to a BIDS dataset that qsmprep runs on, by dcm2niix")
    add = parser.add_argument
    add("dicom_dir", metavar="DICOM_DIR", type=folder_path, help="folder of DICOM, of one or many participants")
    add("bids_dir", metavar="BIDS_DIR", type=folder_path, help="dataset, made if missing; nothing in it is overwritten")
    add("--dry-run", action="store_true", help="show what becomes what, and write nothing")
    add("-y", "--yes", action="store_true", help="write without asking")
    add("--participant-label", metavar="LABEL", help="label of the participant, where there is one")
    add("--session-label", metavar="LABEL", help="label of the session, where there is one")
    add("--participants-from", choices=("number", "id", "name"), default="number",
        help="labels of participants: numbers in the order of PatientID, or PatientID or PatientName of the header "
             "(default: number)")  # fmt: skip
    add("--rules", metavar="FILE", type=file_path, help="TOML with the rules of a study: labels, and what a series is")
    add("--keep-identifiers", action="store_true",
        help="keep names, dates, serial numbers and places in sidecars (default: they are left out)")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, show the table, ask, convert; 1 where something that was to be converted was not."""
    from qsmprep.app.dicom_conversion import convert_planned
    from qsmprep.dicom.headers import read_folder
    from qsmprep.dicom.people import studies_of
    from qsmprep.dicom.plan import plan, show
    from qsmprep.dicom.rules import NO_RULES, read_rules

    if arguments.bids_dir == arguments.dicom_dir or arguments.dicom_dir in arguments.bids_dir.parents:
        raise ValueError(f"{arguments.bids_dir} lies in the folder of DICOM; give a folder outside of it.")
    rules = read_rules(arguments.rules) if arguments.rules else NO_RULES
    folder = read_folder(arguments.dicom_dir, lambda number: print(f"{number} files read", flush=True))
    _tell(folder.problems)
    if folder.other_dicom:
        print(f"{folder.other_dicom} DICOM files hold no MR images (reports, raw data): left out")
    if not folder.instances:
        raise ValueError(f"{arguments.dicom_dir}: no DICOM file with MR images in it. Unpack archives first.")
    studies, unnamed = studies_of(
        folder.instances,
        rules,
        source=arguments.participants_from,
        participant=arguments.participant_label,
        session=arguments.session_label,
    )
    made = plan(studies, rules)
    made.problems[:0] = unnamed
    show(made, print)
    _tell(made.problems)
    failed = bool(errors(made.problems))
    if any(problem.code in STOPPING for problem in made.problems):
        return 1
    if arguments.dry_run or not made.targets:
        return int(failed or not made.targets)
    if not arguments.yes and not _agreed():
        print("Nothing was written.")
        return 1
    outcome = convert_planned(made, arguments.bids_dir, print, identified=arguments.keep_identifiers)
    _tell(outcome.problems)
    print(f"{outcome.written} images written, {outcome.same} there already: {arguments.bids_dir}")
    if outcome.written + outcome.same:
        print(f"Next: qsmprep {arguments.bids_dir} OUTPUT_DIR participant")
    return int(failed or bool(outcome.problems))


# Names that are not clear concern every image.
STOPPING = ("bids-name-twice", "person-ambiguous", "participant-label-twice")


def _agreed() -> bool:
    """Whether the user wants it so.

    Raises
    ------
    ValueError : there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise ValueError("say --yes to write what the table shows, or --dry-run to look at it only.")
    return input("Write this? [y/N] ").strip().casefold() in ("y", "yes")


def _tell(problems: Sequence[object]) -> None:
    """Problems, each file by its name, the first ones of many."""
    for problem in problems[:MOST_TOLD]:
        print(problem, file=sys.stderr)
    if len(problems) > MOST_TOLD:
        print(f"... and {len(problems) - MOST_TOLD} more.", file=sys.stderr)
    sys.stderr.flush()
