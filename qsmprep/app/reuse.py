"""Results of other programs that a run takes over: found before it starts, and refused where they cannot be of use."""

from __future__ import annotations

from collections.abc import Mapping

from qsmprep.app.request import Request
from qsmprep.bids.images import Header, read_header
from qsmprep.bids.masks import grid_problem
from qsmprep.bids.names import listed
from qsmprep.bids.problem import Problem
from qsmprep.bids.reuse import KINDS, Reused, find_reused
from qsmprep.bids.scans import GreRun
from qsmprep.findings import Note
from qsmprep.interfaces.step import Record
from qsmprep.settings import Settings

STAGES = {"unwrapped": "unwrapping", "total-field": "field-scaling", "tissue-field": "background",
          "r2star": "relaxometry"}  # fmt: skip
# Kinds that take the place of a step; beside the others it is done too, for the noise, the quality map or S0.
IN_PLACE = ("tissue-field",)


def results_of_others(run: GreRun, request: Request) -> dict[str, Reused]:
    """The images that `--reuse` asks for: kind -> image, from the first derivative that has one.

    Raises
    ------
    ValueError : none is found, several fit equally well, or a sidecar tells a unit that is none of the kind.
    """
    if request.reuse and not request.derivatives:
        raise ValueError("--reuse needs --derivatives NAME=PATH: the folder where the results lie.")
    found = {}
    for name in request.reuse:
        kind = KINDS[name]
        images = (find_reused(label, folder, run, kind) for label, folder in request.derivatives)
        if (image := next((image for image in images if image is not None), None)) is None:
            endings = listed([f"*_{ending}.nii.gz" for ending in kind.endings])
            where = listed([str(folder / f"sub-{run.subject}") for _, folder in request.derivatives])
            raise ValueError(
                f"--reuse {name}: no {kind.what} of {run.name} below {where}. Looked for: {endings}, with no entity "
                "that the run has not. Rename the image, or leave it out of --reuse."
            )
        if problem := _problem(image, run):
            raise ValueError(str(problem))
        found[name] = image
    return found


def _problem(image: Reused, run: GreRun) -> Problem | None:
    """That the file cannot be read, or does not lie on the grid of the run."""
    headers = [read_header(path) for path in (run.files[0], image.path)]
    for header in headers:
        if isinstance(header, Problem):
            return header
    scan, given = (header.place for header in headers if isinstance(header, Header))
    return grid_problem(image.path, given, scan, what="image")


def check_reuse(reused: Mapping[str, Reused], settings: Settings, run: GreRun) -> None:
    """Refuse a result that no step of these settings would take.

    Raises
    ------
    ValueError : R2* without relaxometry, or unwrapped echoes where a fit comes before the unwrapping.
    """
    if "r2star" in reused and settings.method("relaxometry") == "none":
        raise ValueError(f"{run.name}: --reuse r2star needs several echoes and no --relaxometry none.")
    if "unwrapped" in reused and settings.method("echo-combination") == "nonlinear-fit":
        raise ValueError(f"{run.name}: --reuse unwrapped needs echoes that are unwrapped before they are combined; "
                         "--echo-combination nonlinear-fit does not do so: take weighted or linear-fit.")  # fmt: skip


def reused_record(image: Reused) -> Record:
    """What is planned of a result, before anything ran."""
    record = Record(STAGES[image.kind], "imported", f"another program, whose result is taken over: {image.origin}")
    record.note(Note("reuse-planned", f"Taken over: {image.origin}, in {image.unit}."))
    return record
