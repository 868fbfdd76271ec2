"""Folders that are no BIDS dataset yet: DICOM, as scanners and archives give it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, open_regular

PREAMBLE = 128  # bytes before the letters DICM
MOST_LOOKED_AT = 200  # files: the first of an export nearly always is an image


def is_dicom(path: Path) -> bool:
    """Whether a file has the letters DICM where DICOM has them.

    Raises
    ------
    UnreadableFileError : no regular file, or one that may not be read.
    """
    with os.fdopen(open_regular(path), "rb") as stream:
        return stream.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"


def dicom_instead(folder: Path) -> Problem | None:
    """A problem that says what to do, where a folder holds DICOM; None where none of its first files is."""
    names = (Path(root, name) for root, _, names in os.walk(folder) for name in sorted(names))
    for path in islice(names, MOST_LOOKED_AT):
        try:
            if not is_dicom(path):
                continue
        except UnreadableFileError:
            continue
        found = f"a folder of DICOM images (as {path.relative_to(folder).as_posix()}), and no BIDS dataset"
        remedy = f"Convert it first: qsmprep-tools convert {folder} BIDS_DIR; then run qsmprep on BIDS_DIR."
        return Problem("error", "dataset-is-dicom", folder, found, "a BIDS dataset", remedy)
    return None
