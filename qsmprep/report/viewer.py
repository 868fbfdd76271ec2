"""What the interactive viewer shows: the runs of an output folder, their maps, masks and labels, and its pages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

from qsmprep import registry
from qsmprep.bids.names import is_of_run
from qsmprep.bids.outputs import OUTPUTS, figures_folder, output_path, quality_path, subject_folder
from qsmprep.bids.roi_table import roi_path
from qsmprep.files.age import is_of_earlier_command
from qsmprep.quality.assessment import VERDICTS
from qsmprep.report.figures import STYLES
from qsmprep.report.montage import PLANES
from qsmprep.report.record import RECORD_SUFFIX
from qsmprep.report.viewer_regions import object_within, region_labels, region_values

FOLDER = "viewer"  # reserved below the root of what is served; nothing of that name is read from the output folder

# Prefix of a run's files, as `qsmprep.bids.outputs.run_prefix` makes it.
_PREFIX = re.compile(r"sub-[0-9A-Za-z]+(_ses-[0-9A-Za-z]+)?(_acq-[0-9A-Za-z]+)?(_run-[0-9A-Za-z]+)?")
_ENTITIES = ("sub", "ses", "acq", "run")
_LONGEST_NAME = 200


# Masks in which maps have values: the first that the run wrote. Joined orientations have masks of their own.
_BRAIN = ("brain_mask",)
_QSM = ("qsm_mask", "cosmos_mask", "sti_mask")


@dataclass(frozen=True)
class Shown:
    """How a derivative is shown.

    Attributes
    ----------
    name : on its button.
    style : key of `STYLES`: window, colour map.
    masks : keys of the masks that may tell where it has values, the first that is there counts; a value of zero within
        is a value, outside it is none. Of an image that was not cut it is the brain.
    """

    name: str
    style: str
    masks: tuple[str, ...]


# Keys of the table of outputs in the order of the buttons. A test holds it against that table.
MAPS: Mapping[str, Shown] = {
    "chi": Shown("Susceptibility", "chi", _QSM),
    "expected_error": Shown("Error that the network expects", "error", _QSM),
    "cosmos": Shown("Susceptibility, COSMOS", "chi", ("cosmos_mask",)),
    "para": Shown("Paramagnetic susceptibility", "source", _QSM),
    "dia": Shown("Diamagnetic susceptibility", "source", _QSM),
    "local_field": Shown("Tissue field", "field", _QSM),
    "total_field": Shown("Total field", "field", _BRAIN),
    "magnitude": Shown("Magnitude", "magnitude", _BRAIN),
    "swi": Shown("Susceptibility-weighted image", "magnitude", _BRAIN),
    "minip": Shown("Minimum-intensity projection", "magnitude", _BRAIN),
    "smwi": Shown("Image weighted by susceptibility", "magnitude", _BRAIN),
    "r2star": Shown("R2*", "r2star", _BRAIN),
    "t2star": Shown("T2*", "t2star", _BRAIN),
    "r2": Shown("R2", "rate", _BRAIN),
    "r2prime": Shown("R2'", "rate", _BRAIN),
    "s0": Shown("Signal at zero echo time", "magnitude", _BRAIN),
    "misfit": Shown("Misfit of the decay", "weights", _BRAIN),
    "sti": Shown("Mean of the susceptibility tensor", "chi", ("sti_mask",)),
    "anisotropy": Shown("Susceptibility anisotropy", "source", ("sti_mask",)),
    "chi11": Shown("Tensor component xx", "chi", ("sti_mask",)),
    "chi22": Shown("Tensor component yy", "chi", ("sti_mask",)),
    "chi33": Shown("Tensor component zz", "chi", ("sti_mask",)),
    "chi12": Shown("Tensor component xy", "chi", ("sti_mask",)),
    "chi13": Shown("Tensor component xz", "chi", ("sti_mask",)),
    "chi23": Shown("Tensor component yz", "chi", ("sti_mask",)),
    "offdiagonal": Shown("Field of the tensor's xz and yz", "chi", ("sti_mask", "qsm_mask")),
}
# Masks and the colours of their outlines, those of the pictures in the report.
MASKS: Mapping[str, tuple[str, str]] = {
    "brain_mask": ("Mask 1: brain", "#56B4E9"),
    "reliable_mask": ("Mask 2: reliable phase", "#CC79A7"),
    "background_mask": ("Mask 3: background removal", "#E69F00"),
    "qsm_mask": ("Mask 4: QSM", "#F0E442"),
    "cosmos_mask": ("Mask of COSMOS", "#009E73"),
    "sti_mask": ("Mask of the tensor", "#D55E00"),
}


# Pictures of the report that show a map which is written: key of the map, and the names of what is outlined on it.
PICTURED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "magnitude": ("magnitude", ()),
    "masks": ("magnitude", ("desc-brain_mask", "desc-bfr_mask", "desc-qsm_mask")),
    "total": ("total_field", ()),
    "local": ("local_field", ()),
    "chi": ("chi", ()),
    "regions": ("chi", ("desc-template_dseg",)),
    "expectederror": ("expected_error", ()),
    "r2": ("r2", ()),
    "r2prime": ("r2prime", ()),
    "paramagnetic": ("para", ()),
    "diamagnetic": ("dia", ()),
    "swi": ("swi", ()),
    "minip": ("minip", ()),
    "smwi": ("smwi", ()),
    "r2star": ("r2star", ()),
    "cosmos": ("cosmos", ()),
    "sti": ("sti", ()),
    "anisotropy": ("anisotropy", ()),
}


def viewer_link(prefix: str) -> str:
    """Address of a run's viewer relative to the output folder: `viewer/?run=sub-01`; it works only when served."""
    return f"{FOLDER}/?run={quote(prefix, safe='')}"


def slice_link(
    prefix: str, key: str, plane: str, place_mm: float, *, desc: str | None = None, overlays: tuple[str, ...] = ()
) -> str:
    """Address of one slice of a map in the viewer, relative to the output folder as that of `viewer_link`.

    Parameters
    ----------
    prefix : of the run.
    key : of the map in the table of outputs.
    plane : "axial", "coronal" or "sagittal".
    place_mm : where the slice lies along the patient's axis through the plane, to the right, front or top positive, at
        the middle of the volume: the coordinate that the report's pictures state for each slice.
    desc : of the map's file, where it is not the table's: a further inversion.
    overlays : masks and segmentations to be on, by their file names without prefix and ending.

    Raises
    ------
    ValueError : no such map or plane, or a place that is no number.

    >>> slice_link("sub-01", "chi", "axial", 12)
    'viewer/?run=sub-01#map=Chimap&plane=axial&slice=12.00'
    """
    if key not in MAPS:
        raise ValueError(f"{key!r} is no map of the viewer; known are {', '.join(MAPS)}.")
    if plane not in (known := [plane.name for plane in PLANES]):
        raise ValueError(f"{plane!r} is no plane; known are {', '.join(known)}.")
    if not math.isfinite(place_mm):
        raise ValueError(f"A slice lies at a place in mm; got {place_mm}.")
    name = _short_name(output_path(key, prefix, desc=desc).name, prefix)
    asked = {"map": name, "plane": plane, "slice": f"{place_mm:.2f}", "overlays": ",".join(overlays)}
    asked = {word: value for word, value in asked.items() if value}
    return f"{viewer_link(prefix)}#{urlencode(asked, safe=',')}"


def picture_link(prefix: str, picture: str, plane: str, place_mm: float) -> str:
    """Address of the slice that a picture of the report shows, as `slice_link`; empty for one of no written map.

    Parameters
    ----------
    picture : its name, as `qsmprep.report.pictures.picture_name` gives it: a key of PICTURED, or a further inversion.

    >>> picture_link("sub-01", "masks", "coronal", -4.25)
    'viewer/?run=sub-01#map=magnitude&plane=coronal&slice=-4.25&overlays=desc-brain_mask,desc-bfr_mask,desc-qsm_mask'
    >>> picture_link("sub-01", "unwrapped", "axial", 0)
    ''
    """
    if picture in PICTURED:
        key, overlays = PICTURED[picture]
        return slice_link(prefix, key, plane, place_mm, overlays=overlays)
    return slice_link(prefix, "chi", plane, place_mm, desc=picture) if picture in _inversions() else ""


def is_prefix(text: str) -> bool:
    """Whether a text can be the prefix of a run's files: it names no path."""
    return len(text) <= _LONGEST_NAME and _PREFIX.fullmatch(text) is not None


def list_runs(output_dir: Path) -> dict[str, list[str]]:
    """Subject label -> prefixes of its runs, by the maps, masks and records that are there."""
    subjects: dict[str, set[str]] = {}
    for report in Path(output_dir).glob("sub-*.html"):
        subjects.setdefault(report.stem.partition("_")[0].removeprefix("sub-"), set())
    for path in _run_files(Path(output_dir)):
        prefix = _prefix_of(path.name)
        if is_prefix(prefix):
            subjects.setdefault(prefix.split("_")[0].removeprefix("sub-"), set()).add(prefix)
    return {label: sorted(subjects[label]) for label in sorted(subjects)}


def run_document(output_dir: Path, prefix: str) -> dict[str, Any] | None:
    """What the viewer needs to know of a run; None where nothing of it is there.

    Returns
    -------
    {"run", "report", "maps": [{"id", "key", "file", "mask", "name", "detail", "unit", "window", "cut"}, ...],
    "overlays": [{"id", "file", "name", "colour", "labels", "values"}, ...], "pictures": [{"file", "name"}, ...]}. Files
    are addresses relative to the output folder; `id` names one in the viewer's own address; `mask` tells where the map
    has values, None where that mask is not there. A window is two numbers or the name of a rule (see
    `figures.window_limits`); `cut` says that the map was cut to its mask. `values` are those of `region_values`.
    """
    if not is_prefix(prefix):
        return None
    root = Path(output_dir)
    maps, overlays = list(_maps(root, prefix)), [*_masks(root, prefix), *_segmentations(root, prefix)]
    pictures = list(_pictures(root, prefix))
    if not maps and not overlays and not pictures:
        return None
    reports = [name for name in (f"{prefix}.html", f"{prefix.split('_')[0]}.html") if (root / name).is_file()]
    return {
        "run": prefix,
        "report": quote(reports[0]) if reports else None,
        "maps": maps,
        "overlays": overlays,
        "pictures": pictures,
    }


def render_index(output_dir: Path) -> str:
    """The page that lists what is there: subjects with their reports and runs, and the group report."""
    root = Path(output_dir)
    subjects = [
        {
            "label": label,
            "report": quote(f"sub-{label}.html") if (root / f"sub-{label}.html").is_file() else None,
            "runs": [{"prefix": run, "link": viewer_link(run), "verdict": _verdict(root, run)} for run in runs],
        }
        for label, runs in list_runs(root).items()
    ]
    group = (root / "group.html").is_file()
    return _template("index.html").render(subjects=subjects, group=group, folder=root.resolve().name)


def _template(name: str) -> Any:
    text = resources.files("qsmprep.data").joinpath("viewer", name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def _maps(root: Path, prefix: str) -> Iterator[dict[str, Any]]:
    started = _started(root, prefix)
    for key in MAPS:
        path = output_path(key, prefix)
        if (root / path).is_file():
            beside = root / path.with_name(path.name.removesuffix(".nii.gz") + ".json")
            detail = object_within(root, beside).get("EstimationAlgorithm", "")
            yield _map(root, prefix, key, path, detail if isinstance(detail, str) else "", started)
        if key == "chi":
            for further in _further_inversions(root, prefix):
                label = further.name.removeprefix(f"{prefix}_desc-").split("_")[0]
                yield _map(root, prefix, key, further.relative_to(root), _inversions().get(label, label), started)


def _map(root: Path, prefix: str, key: str, path: Path, detail: str, started: str) -> dict[str, Any]:
    shown, output = MAPS[key], OUTPUTS[key]
    window = STYLES[shown.style]["window"]
    masks = (output_path(name, prefix) for name in shown.masks)
    earlier = ", of an earlier command" if is_of_earlier_command(root / path, started) else ""
    mask = next((quote(mask.as_posix()) for mask in masks if (root / mask).is_file()), None)
    return {
        "id": _short_name(path.name, prefix),
        "key": key,
        "file": quote(path.as_posix()),
        "mask": mask,
        "name": shown.name + earlier,
        "detail": detail,
        "unit": {"1": "", "arbitrary": "a.u."}.get(output.units, output.units),
        "window": window if isinstance(window, str) else list(window),
        "cut": output.skull_stripped,
    }


def _further_inversions(root: Path, prefix: str) -> list[Path]:
    """Susceptibility maps of further methods, told from the other `Chimap`s by the table of outputs."""
    known = {output.desc for output in OUTPUTS.values() if output.suffix == "Chimap"}
    found = sorted((root / subject_folder(prefix) / "anat").glob(f"{prefix}_desc-*_Chimap.nii.gz"))
    labels = {path: path.name.removeprefix(f"{prefix}_desc-").split("_")[0] for path in found}
    beside = tuple(OUTPUTS[key].desc for key in ("expected_error", "offdiagonal"))  # of a further method's network
    return [path for path, label in labels.items() if label not in known and not label.endswith(beside)]


def _inversions() -> dict[str, str]:
    """Label in file names -> title of every inversion."""
    return {m.name.replace("-", ""): m.title for m in registry.METHODS if m.stage == "inversion"}


def _short_name(name: str, prefix: str) -> str:
    """`desc-brain_mask` of `sub-01_desc-brain_mask.nii.gz`: what names a file among those of its run."""
    return name.removeprefix(f"{prefix}_").removesuffix(".nii.gz")


def _masks(root: Path, prefix: str) -> Iterator[dict[str, Any]]:
    for key, (name, colour) in MASKS.items():
        path = output_path(key, prefix)
        if (root / path).is_file():
            yield _overlay(prefix, path, name, colour=colour)


def _segmentations(root: Path, prefix: str) -> Iterator[dict[str, Any]]:
    earlier = is_of_earlier_command(root / roi_path(prefix, ".tsv"), _started(root, prefix))
    measured = {} if earlier else region_values(root, prefix)
    for path in sorted((root / subject_folder(prefix) / "anat").glob(f"{prefix}_*dseg.nii.gz")):
        if not is_of_run(path.name, prefix):
            continue
        found = re.search(r"_(?:desc|seg|atlas)-([0-9A-Za-z]+)", path.name.removeprefix(prefix))
        name = f"Segmentation: {found[1]}" if found else "Segmentation"
        values = measured.get(path.name, {})
        yield _overlay(prefix, path.relative_to(root), name, labels=region_labels(root, path), values=values)


def _overlay(
    prefix: str,
    path: Path,
    name: str,
    *,
    colour: str | None = None,
    labels: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    address = {"id": _short_name(path.name, prefix), "file": quote(path.as_posix())}
    return {**address, "name": name, "colour": colour, "labels": labels, "values": values or {}}


def _pictures(root: Path, prefix: str) -> Iterator[dict[str, str]]:
    for path in sorted((root / figures_folder(prefix)).glob(f"{prefix}_desc-*.png")):
        name = path.stem.removeprefix(f"{prefix}_desc-").replace("_", ", ")
        yield {"file": quote(path.relative_to(root).as_posix()), "name": name}


def _started(root: Path, prefix: str) -> str:
    """When the command of the run's record did; empty where there is none."""
    started = object_within(root, root / figures_folder(prefix) / f"{prefix}{RECORD_SUFFIX}").get("started")
    return started if isinstance(started, str) else ""


def _verdict(root: Path, prefix: str) -> str:
    """What the quality control says of the run; empty where it said nothing."""
    path = root / quality_path(prefix)
    verdict = object_within(root, path).get("verdict")
    return verdict if verdict in VERDICTS and not is_of_earlier_command(path, _started(root, prefix)) else ""


def _run_files(root: Path) -> Iterator[Path]:
    for folder in [*root.glob("sub-*"), *root.glob("sub-*/ses-*")]:
        for pattern in ("anat/sub-*.nii.gz", "fmap/sub-*.nii.gz", "figures/sub-*_record.json"):
            yield from folder.glob(pattern)


def _prefix_of(name: str) -> str:
    """`sub-01_run-1` of `sub-01_run-1_desc-brain_mask.nii.gz`."""
    return "_".join(part for part in name.split(".")[0].split("_") if part.split("-")[0] in _ENTITIES)
