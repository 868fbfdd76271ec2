"""Checksums of what a run was made of, and its provenance, written after the graph."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qsmprep.app.reuse import STAGES
from qsmprep.bids.lineage import Given, write_lineage
from qsmprep.bids.provenance import machine_facts
from qsmprep.files.checksum import sha256_of
from qsmprep.files.storage import storage_message
from qsmprep.findings import Warning
from qsmprep.workflows.plan import RunPlan


def given_files(plan: RunPlan) -> list[Given]:
    """What a run takes from outside its dataset, by the stage that it goes into; weights tell of themselves."""
    found = [Given(STAGES[kind], image.path) for kind, image in plan.reused.items()]
    found += [Given("mask", plan.brain_mask.path)] if plan.brain_mask else []
    found += [Given("reference", plan.reference_region.path)] if plan.reference_region else []
    return found


def input_checksums(plan: RunPlan) -> tuple[dict[str, str], list[Warning]]:
    """SHA-256 of the images of a run by their paths in the dataset, and of other files by their own; what cannot be
    read any more is a warning."""
    files = {str(path.relative_to(plan.bids_dir)): path for path in plan.files}
    files |= {str(one.path): one.path for one in given_files(plan)}
    found, unread = {}, []
    for name, path in files.items():
        try:
            found[name] = sha256_of(path)
        except OSError as error:
            text = f"{name} could not be read again after the run, so that its checksum is not recorded: {error}."
            unread.append(Warning("input-not-read-again", text, "Fetch or restore the file, and run again."))
    return found, unread


def write_lineages(
    plans: Sequence[RunPlan], records: Iterable[Mapping[str, Any]], output_dir: Path, logs: Path
) -> bool:
    """Write the provenance of each run that has a record with steps; whether all went well. What did not is told."""
    written, machine = True, machine_facts()
    given = {plan.prefix: given_files(plan) for plan in plans}
    settings = (logs / "qsmprep.toml").relative_to(output_dir).as_posix()
    for record in records:
        if not record["steps"]:
            continue
        own = given.get(record["run"], [])
        try:
            write_lineage(output_dir, record, machine, settings=settings, given=own)
        except Exception as error:
            told = (
                storage_message(error, output_dir) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            )
            print(f"Error: the provenance of {record['run']} could not be written: {told}", file=sys.stderr)
            written = False
    return written
