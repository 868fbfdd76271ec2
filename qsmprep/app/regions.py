"""From the command line to the segmentations and atlases that a run's maps are measured in, checked."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qsmprep.analysis.brain_template import LARGEST_VOXEL_MM3, LONGEST_EDGE_MM, NAMES
from qsmprep.app.filters import read_filters
from qsmprep.app.request import Request
from qsmprep.bids.anatomy import Anatomy, Atlas, Candidate, OwnTemplate, Segmentation, find_segmentations, find_t1w
from qsmprep.bids.freesurfer import LABEL_NAMES
from qsmprep.bids.grid import grid_difference
from qsmprep.bids.images import Header, open_image, read_header
from qsmprep.bids.scans import GreRun
from qsmprep.bids.segmentation import LabelImage, inherited_table, read_labels, read_table, unnamed
from qsmprep.findings import Note, Warning
from qsmprep.settings import Settings

ANTS_MISSING = "--atlas needs ANTs, which is not installed: pip install qsmprep[atlas]. See docs/regions.md."


def check_atlases(request: Request) -> None:
    """Refuse atlases that cannot be used, before anything runs. Raises ValueError with what is wrong and the remedy."""
    if not request.atlases:
        return
    if "ants" not in sys.modules and find_spec("ants") is None:
        raise ValueError(ANTS_MISSING)
    labels = [_atlas(*paths).label for paths in request.atlases]
    if len(set(labels)) < len(labels):
        raise ValueError(f"--atlas: {' and '.join(labels)} would bear one name; rename one of the images.")


def plan_regions(run: GreRun, request: Request, settings: Settings, *, to_templates: bool = False) -> Anatomy:
    """Segmentations, atlases and the T1w image of a run; the latter alone where there are no regional values.

    Parameters
    ----------
    to_templates : whether the T1w image, if there is one, registers the head to a template.

    Raises
    ------
    ValueError : a file that the user named (--segmentation-file, --atlas) cannot be used. Of a derivative, a file that
        cannot be used is left out with a warning: it must not cost the maps.
    """
    options = settings.steps["roi"]
    if not options.values and not to_templates:
        return Anatomy()
    header = read_header(run.files[0])
    if not isinstance(header, Header):
        raise ValueError(str(header))
    t1w, note = find_t1w(request.bids_dir, run, (read_filters(request.filter_file) or {}).get("t1w"))
    warnings: list[Warning] = []
    usable_t1w = None if t1w is None else _checked_t1w(t1w, header, warnings)
    if not options.values:
        told = (note,) if usable_t1w and note else ()
        return Anatomy(t1w=usable_t1w, notes=told, warnings=tuple(warnings), to_templates=True)
    candidates, problems = find_segmentations(request.derivatives, run, request.bids_dir)
    warnings += [problem.warning() for problem in problems]
    registered = usable_t1w is not None and options.registration
    found: list[Segmentation] = []
    for candidate in candidates:
        try:
            found.append(_segmentation(candidate, header, registered=registered))
        except ValueError as error:
            text = f"{error} Regional values are made without it."
            warnings.append(Warning("segmentation-unusable", text, "Mend it, or leave the derivative out."))
    if request.segmentation_file is not None:
        path = request.segmentation_file
        given = Candidate(f"file-{_stem(path)}", path, path.parent, gradient_echo=True)
        found.append(_segmentation(given, header, registered=False))
    atlases = tuple(_atlas(*paths) for paths in request.atlases)
    measured: list[Segmentation | Atlas | OwnTemplate] = [*found, *atlases]
    template, unused = _own_template(options.template, header, any_other=bool(measured))
    measured += [template] if template else []
    _check_names([item.label for item in measured])
    notes = [*(_described(item) for item in measured), *unused]
    anatomy = Anatomy(tuple(found), atlases, template, usable_t1w, tuple(notes), tuple(warnings), to_templates)
    return replace(anatomy, notes=(note, *notes)) if anatomy.needs_t1w and note else anatomy


def _own_template(choice: str, header: Header, *, any_other: bool) -> tuple[OwnTemplate | None, list[Note]]:
    """The package's template where it is to be registered; else a note of what stands against it, if anything does."""
    if choice == "none" or (choice == "auto" and any_other):
        return None, []
    edges = np.linalg.norm(header.place.affine[:3, :3], axis=0)
    size = " x ".join(f"{edge:.3g}" for edge in edges)
    limit = f"{LARGEST_VOXEL_MM3:g} mm3, {LONGEST_EDGE_MM:g} mm long"
    why = f"voxels of {size} mm are too coarse for nuclei (limit: {limit})"
    if not header.oriented:
        why = "the header does not say how the head lies"
    elif edges.prod() <= LARGEST_VOXEL_MM3 and edges.max() <= LONGEST_EDGE_MM:
        return OwnTemplate(NAMES), []
    text = f"The template of regions is not registered: {why}. Give a segmentation for regional values."
    return None, [Note("template-unused", text)]


def _described(item: Segmentation | Atlas | OwnTemplate) -> Note:
    """In what a run's maps are measured."""
    details = " ".join(note.text for note in item.notes)
    return Note("regional-values", f"Regional values in {item.label}: {item.source}. {details}".strip())


def _segmentation(candidate: Candidate, header: Header, *, registered: bool) -> Segmentation:
    """A candidate with its names and how it comes onto the grid. Raises ValueError for one that cannot be used."""
    image = read_labels(candidate.path)
    table = inherited_table(candidate.path, candidate.root)
    present = image.present
    if table is not None:
        names, origin = {index: name for index, name in read_table(table).items() if index}, f"Names of {table.name}."
    elif candidate.freesurfer:
        names = {index: LABEL_NAMES[index] for index in present if index in LABEL_NAMES}
        origin = "Names of FreeSurfer's labels."
    else:
        names, origin = {}, f"No table of labels (index, name) beside it: add {_stem(candidate.path)}.tsv."
    missing = unnamed(present, names)
    notes = [Note("region-names", origin), *_unnamed(missing)]
    placement = _placement(candidate, image, header, registered=registered)
    notes += [candidate.note] if candidate.note else []
    named = {**names, **{index: str(index) for index in present if index not in names}}
    return Segmentation(candidate.label, candidate.path, named, placement, tuple(notes))


def _placement(candidate: Candidate, image: LabelImage, header: Header, *, registered: bool) -> str:
    if not grid_difference(header.place, image.grid):
        return "grid"
    if not (image.oriented and header.oriented):
        path = header.path if image.oriented else candidate.path
        raise ValueError(
            f"{path}: the header does not say how the image lies in the scanner, so {candidate.path.name} cannot be "
            "registered to the maps. Mend the header, or give it on the grid of the images."
        )
    return "t1w" if registered and not candidate.gradient_echo else "scanner"


def _checked_t1w(path: Path, header: Header, warnings: list[Warning]) -> Path | None:
    """The T1w image if it can be registered, else None and a warning."""
    found = read_header(path)
    if not isinstance(found, Header):
        warnings.append(Warning("t1w-unreadable", f"{found.text} The T1w image is not used.", found.remedy))
        return None
    if len(found.grid) != 3 or not found.oriented or not header.oriented:
        what = "not one volume" if len(found.grid) != 3 else "no orientation in the header of it or of the run"
        text = f"{path}: {what}, so segmentations are resampled to the maps by their affines."
        warnings.append(Warning("t1w-not-registrable", text, "Convert it again."))
        return None
    return path


@lru_cache
def _atlas(image: Path, table: Path, template: Path) -> Atlas:
    """An atlas, its three files checked."""
    for path in (image, table, template):
        if not path.is_file():
            raise ValueError(f"--atlas {path}: no such file. Give --atlas IMAGE LABELS.tsv TEMPLATE.")
    labels = read_labels(image)
    names = {index: name for index, name in read_table(table).items() if index}
    if not labels.oriented:
        raise ValueError(f"--atlas {image}: the header does not say how the image lies (qform_code and sform_code are "
                         "0). Mend it.")  # fmt: skip
    header = read_header(template)
    if not isinstance(header, Header):
        raise ValueError(f"--atlas {header}")
    values = np.asanyarray(open_image(template).dataobj)
    if len(header.grid) != 3 or not header.oriented or not np.isfinite(values).all() or not np.ptp(values) > 0:
        raise ValueError(f"--atlas {template}: a template is one volume with contrast, finite and with an orientation.")
    missing = unnamed(labels.present, names)
    notes = [Note("region-names", f"Names of {table.name}."), *_unnamed(missing)]
    named = {**names, **{index: str(index) for index in labels.present if index not in names}}
    return Atlas(f"atlas-{_stem(image)}", image, named, template, tuple(notes))


def _unnamed(missing: str) -> list[Note]:
    """That a table does not name some labels."""
    return [Note("regions-unnamed", f"Named by their number: {missing}.")] if missing else []


def _check_names(labels: Sequence[str]) -> None:
    """Two segmentations must not write one file."""
    plain = [re.sub("[^0-9A-Za-z]", "", label).lower() for label in labels]
    for number, name in enumerate(plain):
        if name in plain[:number]:
            rival = labels[plain.index(name)]
            raise ValueError(
                f"The segmentations {rival} and {labels[number]} would bear one name; give the derivatives other names."
            )


def _stem(path: Path) -> str:
    return path.name.partition(".nii")[0].partition(".mgz")[0]
