"""What the interactive viewer shows: the runs of an output folder, their maps, masks and labels, and its pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from qsmprep import registry
from qsmprep.bids.outputs import OUTPUTS, figures_folder, output_path, subject_folder
from qsmprep.quality.assessment import VERDICTS
from qsmprep.report.figures import STYLES

FOLDER = "viewer"  # reserved below the root of what is served; nothing of that name is read from the output folder

# Prefix of a run's files, as `qsmprep.bids.outputs.run_prefix` makes it.
_PREFIX = re.compile(r"sub-[0-9A-Za-z]+(_ses-[0-9A-Za-z]+)?(_acq-[0-9A-Za-z]+)?(_run-[0-9A-Za-z]+)?")
_ENTITIES = ("sub", "ses", "acq", "run")
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Shown:
    """How a derivative is shown.

    Attributes
    ----------
    name : on its button.
    style : key of `STYLES`: window, colour map.
    """

    name: str
    style: str


# Keys of the table of outputs in the order of the buttons. A test holds it against that table.
MAPS: Mapping[str, Shown] = {
    "chi": Shown("Susceptibility", "chi"),
    "expected_error": Shown("Error that the network expects", "error"),
    "cosmos": Shown("Susceptibility, COSMOS", "chi"),
    "para": Shown("Paramagnetic susceptibility", "source"),
    "dia": Shown("Diamagnetic susceptibility", "source"),
    "local_field": Shown("Tissue field", "field"),
    "total_field": Shown("Total field", "field"),
    "magnitude": Shown("Magnitude", "magnitude"),
    "swi": Shown("Susceptibility-weighted image", "magnitude"),
    "minip": Shown("Minimum-intensity projection", "magnitude"),
    "smwi": Shown("Image weighted by susceptibility", "magnitude"),
    "r2star": Shown("R2*", "r2star"),
    "t2star": Shown("T2*", "t2star"),
    "r2": Shown("R2", "rate"),
    "r2prime": Shown("R2'", "rate"),
    "s0": Shown("Signal at zero echo time", "magnitude"),
    "misfit": Shown("Misfit of the decay", "weights"),
    "sti": Shown("Mean of the susceptibility tensor", "chi"),
    "anisotropy": Shown("Susceptibility anisotropy", "source"),
    "chi11": Shown("Tensor component xx", "chi"),
    "chi22": Shown("Tensor component yy", "chi"),
    "chi33": Shown("Tensor component zz", "chi"),
    "chi12": Shown("Tensor component xy", "chi"),
    "chi13": Shown("Tensor component xz", "chi"),
    "chi23": Shown("Tensor component yz", "chi"),
    "offdiagonal": Shown("Field of the tensor's xz and yz", "chi"),
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


def viewer_link(prefix: str) -> str:
    """Address of a run's viewer relative to the output folder: `viewer/?run=sub-01`; it works only when served."""
    return f"{FOLDER}/?run={quote(prefix, safe='')}"


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
    {"run", "report", "maps": [{"key", "file", "name", "detail", "unit", "window", "cut"}, ...], "overlays": [{"file",
    "name", "colour", "labels"}, ...], "pictures": [{"file", "name"}, ...]}. Files are addresses relative to the output
    folder. A window is two numbers or the name of a rule (see `figures.window_limits`); `cut` says that voxels of
    exactly zero lie outside.
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
    for key, shown in MAPS.items():
        path = output_path(key, prefix)
        if (root / path).is_file():
            beside = root / path.with_name(path.name.removesuffix(".nii.gz") + ".json")
            detail = _object(root, beside).get("EstimationAlgorithm", "")
            yield _map(key, path, shown, OUTPUTS[key], str(detail) if isinstance(detail, str) else "")
        if key == "chi":
            for further in _further_inversions(root, prefix):
                label = further.name.removeprefix(f"{prefix}_desc-").split("_")[0]
                yield _map(key, further.relative_to(root), shown, OUTPUTS[key], _method_title(label))


def _map(key: str, path: Path, shown: Shown, output: Any, detail: str) -> dict[str, Any]:
    window = STYLES[shown.style]["window"]
    return {
        "key": key,
        "file": quote(path.as_posix()),
        "name": shown.name,
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


def _method_title(label: str) -> str:
    """Title of an inversion by the label in its file name; the label itself where none is known."""
    titles = {m.name.replace("-", ""): m.title for m in registry.METHODS if m.stage == "inversion"}
    return titles.get(label, label)


def _masks(root: Path, prefix: str) -> Iterator[dict[str, Any]]:
    for key, (name, colour) in MASKS.items():
        path = output_path(key, prefix)
        if (root / path).is_file():
            yield {"file": quote(path.as_posix()), "name": name, "colour": colour, "labels": None}


def _segmentations(root: Path, prefix: str) -> Iterator[dict[str, Any]]:
    for path in sorted((root / subject_folder(prefix) / "anat").glob(f"{prefix}_*dseg.nii.gz")):
        found = re.search(r"_(?:desc|seg|atlas)-([0-9A-Za-z]+)", path.name.removeprefix(prefix))
        name = f"Segmentation: {found[1]}" if found else "Segmentation"
        address = quote(path.relative_to(root).as_posix())
        yield {"file": address, "name": name, "colour": None, "labels": _labels(root, path)}


def _labels(root: Path, segmentation: Path) -> dict[str, str]:
    """Number -> name from the table beside a segmentation; empty where there is none that can be read."""
    table = segmentation.with_name(segmentation.name.removesuffix(".nii.gz") + ".tsv")
    try:
        heads, *lines = (line.split("\t") for line in _text(root, table).splitlines() if line)
        number, name = heads.index("index"), heads.index("name")
        return {str(int(line[number])): line[name] for line in lines}
    except (OSError, ValueError, IndexError):
        return {}


def _pictures(root: Path, prefix: str) -> Iterator[dict[str, str]]:
    for path in sorted((root / figures_folder(prefix)).glob(f"{prefix}_desc-*.png")):
        name = path.stem.removeprefix(f"{prefix}_desc-").replace("_", ", ")
        yield {"file": quote(path.relative_to(root).as_posix()), "name": name}


def _verdict(root: Path, prefix: str) -> str:
    """What the quality control says of the run; empty where it said nothing."""
    verdict = _object(root, root / subject_folder(prefix) / "anat" / f"{prefix}_qc.json").get("verdict")
    return verdict if verdict in VERDICTS else ""


def _text(root: Path, path: Path) -> str:
    """Text of a file of the output folder; OSError for one that a link takes elsewhere."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise PermissionError(f"{path} leaves {root}.")
    return path.read_text(encoding="utf-8")


def _object(root: Path, path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(_text(root, path))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _run_files(root: Path) -> Iterator[Path]:
    for folder in [*root.glob("sub-*"), *root.glob("sub-*/ses-*")]:
        for pattern in ("anat/sub-*.nii.gz", "fmap/sub-*.nii.gz", "figures/sub-*_record.json"):
            yield from folder.glob(pattern)


def _prefix_of(name: str) -> str:
    """`sub-01_run-1` of `sub-01_run-1_desc-brain_mask.nii.gz`."""
    return "_".join(part for part in name.split(".")[0].split("_") if part.split("-")[0] in _ENTITIES)
