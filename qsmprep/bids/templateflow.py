"""Files of templates as TemplateFlow lays them out: looked for in its folder, else by its package where installed."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

VARIABLE = "TEMPLATEFLOW_HOME"
FINEST = ("_res-01", "_res-1", "")


def templateflow_home() -> Path:
    """Its folder: that of the environment variable, else ~/.cache/templateflow."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "templateflow")


def templates_at_hand() -> tuple[str, ...]:
    """Names of the templates that have a T1w image in the folder."""
    folders = sorted(path for path in templateflow_home().glob("tpl-*") if path.is_dir())
    names = [path.name.removeprefix("tpl-") for path in folders]
    return tuple(name for name in names if _in_folder(name) is not None)


def template_files(name: str) -> tuple[Path, Path | None]:
    """The T1w image of a template at 1 mm, and the mask of its brain; None where the image shows the brain alone.

    Raises
    ------
    ValueError : they are not there, and the package that could fetch them is missing or could not; says what to do.
    """
    found = _in_folder(name)
    if found is not None:
        return found
    home = templateflow_home()
    needed = f"tpl-{name}/tpl-{name}_res-01_T1w.nii.gz and its desc-brain_mask, or desc-brain_T1w"
    mount = f"Mount or copy TemplateFlow's folder and set {VARIABLE} to it"
    if find_spec("templateflow") is None:
        raise ValueError(
            f"--output-spaces {name}: there is no {needed} in {home}. {mount}, or install qsmprep[templates] where "
            "there is a network."
        )
    try:
        api: Any = import_module("templateflow.api")
        t1w, mask = (
            _single(api.get(name, resolution=1, **wanted) or api.get(name, resolution=None, **wanted))
            for wanted in ({"desc": None, "suffix": "T1w"}, {"desc": "brain", "suffix": "mask"})
        )
    except Exception as error:  # whatever a download may end with
        raise ValueError(
            f"--output-spaces {name}: there is no {needed} in {home}, and the package templateflow could not fetch it "
            f"({type(error).__name__}: {error}). {mount}."
        ) from None
    if t1w is None or mask is None:
        raise ValueError(f"--output-spaces {name}: TemplateFlow has no T1w image of it with a mask of the brain.")
    return t1w, mask


def _in_folder(name: str) -> tuple[Path, Path | None] | None:
    """The files as they lie in the folder; empty ones, which TemplateFlow puts there, do not count."""
    folder = templateflow_home() / f"tpl-{name}"
    for resolution in FINEST:
        stem = f"tpl-{name}{resolution}"
        brain, whole = folder / f"{stem}_desc-brain_T1w.nii.gz", folder / f"{stem}_T1w.nii.gz"
        mask = folder / f"{stem}_desc-brain_mask.nii.gz"
        if _has_content(whole) and _has_content(mask):
            return whole, mask
        if _has_content(brain):
            return brain, None
    return None


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _single(found: Any) -> Path | None:
    """The one file that was found; the first by name of several."""
    paths = sorted(found) if isinstance(found, list) else [found]
    return Path(paths[0]) if paths and paths[0] else None
