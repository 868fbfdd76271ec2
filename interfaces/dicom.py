"""Node that converts DICOM to NIfTI: nipype's around dcm2niix."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.dcm2nii import Dcm2niix

import qsmprep.engine  # noqa: F401  (it keeps nipype from asking the network for its latest version)

NAME = "image"
MISSING = "dcm2niix is not installed; install qsmprep with its dependencies, or put dcm2niix on the PATH"


def dcm2niix_program() -> Path:
    """The program dcm2niix: that of the Python package, else beside Python, else on the PATH.

    Raises
    ------
    OSError : there is none.
    """
    package = importlib.util.find_spec("dcm2niix")
    folders = (package.submodule_search_locations or ()) if package else ()
    places = [Path(folder, "dcm2niix") for folder in folders]
    places.append(Path(sys.executable).with_name("dcm2niix"))
    places += [Path(found)] if (found := shutil.which("dcm2niix")) else []
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    raise FileNotFoundError(f"{MISSING}.")


class ConvertDicom(Dcm2niix):
    """nipype's node of dcm2niix as qsmprep calls it: uncompressed, with a sidecar, Philips' precise scaling."""

    def __init__(self, **inputs: Any):
        super().__init__(command=shlex.quote(str(dcm2niix_program())), terminal_output="allatonce", **inputs)
        self.inputs.trait_set(bids_format=True, compress="n", philips_float=True, out_filename=NAME, output_dir=".")


def convert_files(files: Sequence[Path], folder: Path, *, identified: bool) -> tuple[list[Path], str]:
    """Convert files of one series or of part of it in an empty folder.

    Parameters
    ----------
    files : that are converted, and no others.
    folder : for the images, made here.
    identified : let the sidecars name the person.

    Returns
    -------
    NIfTI files, in order of names, and what dcm2niix said.
    """
    source = folder / "source"
    source.mkdir(parents=True)
    for number, path in enumerate(files):
        (source / f"{number:06d}.dcm").symlink_to(path.resolve())
    node = ConvertDicom(source_dir=str(source), anon_bids=not identified)
    result = node.run(cwd=str(folder), ignore_exception=True)
    said = f"{result.runtime.stdout or ''}\n{result.runtime.stderr or ''}"
    return sorted(folder.glob("*.nii")), said
