"""Whether the derivatives that were given are of use for a run: one that is not must not pass in silence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qsmprep.app.request import Request
from qsmprep.bids.anatomy import SEGMENTERS, find_segmentations
from qsmprep.bids.derivatives import derivative_candidates, find_derivative
from qsmprep.bids.names import file_entities, listed
from qsmprep.bids.scans import GreRun


def check_derivatives(run: GreRun, request: Request, reused: Iterable[Path] = ()) -> None:
    """Refuse a derivative of which nothing fits the run, or whose brain masks are those of other runs.

    A derivative may hold masks alone, segmentations alone, or results that are taken over (`reused`). One named after a
    program for segmentations (freesurfer) never gives a mask: the regions it leaves without values are a warning, not
    this error.

    Raises
    ------
    ValueError : names what was looked for, what lies there, and the remedy.
    """
    for name, folder in request.derivatives:
        if any(path.is_relative_to(folder) for path in reused):
            continue
        if name.lower() in SEGMENTERS or find_derivative(folder, run, suffix="mask", desc="brain") is not None:
            continue
        segmentations, _ = find_segmentations([(name, folder)], run, request.bids_dir)
        masks = derivative_candidates(folder, run, "mask")
        meant = [path for path in masks if request.mask_file is None and _is_meant(path)]
        if segmentations and not meant:
            continue
        there = [path.relative_to(folder).as_posix() for path in (*masks, *derivative_candidates(folder, run, "dseg"))]
        lies = f"there is {listed(there)}" if there else f"there is no mask and no segmentation of sub-{run.subject}"
        whose = f"sub-{run.subject}" + (f"_ses-{run.session}" if run.session else "")
        raise ValueError(
            f"--derivatives {name}={folder}: nothing in it is used for {run.name}: {lies}. Needed: "
            f"{whose}_desc-brain_mask.nii.gz or {whose}_dseg.nii.gz below sub-{run.subject}, with no acq- or other "
            "entity but those of the run. Rename the file, give it by --mask-file, or leave the derivative out."
        )


def _is_meant(mask: Path) -> bool:
    """Whether a mask looks as if it were given for the brain on the grid of a run: not one in another space."""
    entities = file_entities(mask)
    return "space" not in entities and entities.get("desc") in (None, "brain")
