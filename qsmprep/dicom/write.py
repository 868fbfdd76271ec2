"""Writing converted images: nothing that names a person, nothing overwritten, the same bytes each time."""

from __future__ import annotations

import gzip
import zlib
from enum import Enum
from pathlib import Path
from typing import Any

from qsmprep import __version__
from qsmprep.bids.outputs import write_json, write_text
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import read_text_file
from qsmprep.files.whole_file import whole_file

# Texts of a NIfTI-1 header, as (first byte, length): data_type, db_name, descrip, aux_file, intent_name. dcm2niix
# writes the time of day and comments into some of them.
TEXTS = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
BIDS_VERSION = "1.11.0"
README = """# {name}

Converted from DICOM by `qsmprep-tools convert` {version} with dcm2niix. Name the dataset in
`dataset_description.json` and say here what was studied, and how.
"""
COMPRESSION = 5
_CHUNK = 2**22


class Written(Enum):
    """What became of an image."""

    NEW = "written"
    SAME = "there already"


def bare_nifti(content: bytes) -> bytes:
    """A NIfTI-1 file without the free texts of its header.

    Raises
    ------
    ValueError : no NIfTI-1 file.
    """
    if content[:4] not in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c") or len(content) < 352:
        raise ValueError("dcm2niix wrote no NIfTI-1 file")
    bare = bytearray(content)
    for first, length in TEXTS:
        bare[first : first + length] = bytes(length)
    return bytes(bare)


def write_converted(
    stem: Path, content: bytes, sidecar: dict[str, Any], *, identified: bool = False
) -> Written | Problem:
    """Write an image and its sidecar, if they are not there; an image of other content is left as it is, and told.

    Parameters
    ----------
    stem : path without extension.
    content : NIfTI as dcm2niix wrote it, not compressed.
    sidecar : of the image; one that is there already stays, whatever was added to it.
    identified : leave the header's texts.
    """
    image, document = stem.with_name(f"{stem.name}.nii.gz"), stem.with_name(f"{stem.name}.json")
    content = content if identified else bare_nifti(content)
    plain = stem.with_name(f"{stem.name}.nii")
    state = Written.NEW
    if plain.exists() or (image.exists() and not _holds(image, content)):
        there = plain if plain.exists() else image
        return Problem("error", "bids-file-differs", there, "there already, with other voxels: not overwritten", "",
                       "Give another --participant-label or --session-label, or move the file away.")  # fmt: skip
    if image.exists():
        state = Written.SAME
    else:
        with (
            whole_file(image) as stream,
            gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=stream, mtime=0) as packed,
        ):
            packed.write(content)
    if not document.exists():
        write_json(document, sidecar)
    return state


def _holds(image: Path, content: bytes) -> bool:
    """Whether a compressed file holds these bytes."""
    done = 0
    try:
        with gzip.open(image) as stream:
            while part := stream.read(_CHUNK):
                if content[done : done + len(part)] != part:
                    return False
                done += len(part)
    except (EOFError, OSError, zlib.error):
        return False
    return done == len(content)


def write_dataset_files(bids_dir: Path, participants: list[str], *, converter: str) -> None:
    """dataset_description.json, README.md and participants.tsv where they are missing; new participants get a line.

    Raises
    ------
    ValueError : participants.tsv is no table of participants.
    """
    description = bids_dir / "dataset_description.json"
    if not description.exists():
        tools = [{"Name": "qsmprep-tools convert", "Version": __version__}, {"Name": "dcm2niix", "Version": converter}]
        write_json(description, {"Name": bids_dir.name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw",
                                 "GeneratedBy": tools})  # fmt: skip
    if not any(bids_dir.glob("README*")):
        write_text(bids_dir / "README.md", README.format(name=bids_dir.name, version=__version__))
    table = bids_dir / "participants.tsv"
    lines = read_text_file(table).splitlines() if table.exists() else ["participant_id"]
    if not lines or lines[0].split("\t")[0] != "participant_id":
        raise ValueError(f"{table}: its first column is not participant_id. Mend it, and convert again.")
    known = {line.split("\t")[0] for line in lines[1:]}
    rest = "\tn/a" * lines[0].count("\t")
    added = [f"sub-{label}{rest}" for label in participants if f"sub-{label}" not in known]
    if added or not table.exists():
        write_text(table, "\n".join([*lines, *added]) + "\n")
