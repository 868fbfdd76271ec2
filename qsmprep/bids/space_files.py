"""Names of what is written in the space of a template."""

from __future__ import annotations

from pathlib import Path

from qsmprep.bids.outputs import OUTPUTS, subject_folder
from qsmprep.bids.spaces import NATIVE

# Derivatives that are written in a template, by their keys; those that a run does not make are left out.
IN_TEMPLATE = ("chi", "para", "dia", "r2star", "magnitude", "brain_mask", "qsm_mask")
# The magnitude is there without the field maps whose suffix it has in the space of the scan: desc and suffix.
MAGNITUDE = ("rss", "T2starw")


def space_path(key: str, prefix: str, space: str, resolution: str) -> Path:
    """Path of a derivative in a template, relative to the output folder.

    >>> space_path("para", "sub-01", "MNI152NLin2009cAsym", "2").as_posix()
    'sub-01/anat/sub-01_space-MNI152NLin2009cAsym_res-2_desc-paramagnetic_Chimap.nii.gz'
    """
    output = OUTPUTS[key]
    label, suffix = MAGNITUDE if key == "magnitude" else (output.desc, output.suffix)
    parts = (prefix, f"space-{space}", f"res-{resolution}" if resolution else "", f"desc-{label}" if label else "",
             suffix)  # fmt: skip
    return subject_folder(prefix) / "anat" / ("_".join(part for part in parts if part) + ".nii.gz")


def space_transform_path(prefix: str, space: str, *, inverse: bool = False) -> Path:
    """Path of the transform of images to a template, or back, relative to the output folder."""
    way = f"from-{space}_to-{NATIVE}" if inverse else f"from-{NATIVE}_to-{space}"
    return subject_folder(prefix) / "anat" / f"{prefix}_{way}_mode-image_xfm.nii.gz"
