"""The one table of what qsmprep writes: names, units, parents and sidecar keys of every derivative."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from qsmprep import registry
from qsmprep.bids.grid import SCANNER, Grid, lay_as
from qsmprep.bids.prov import activity_id
from qsmprep.files.whole_file import whole_file
from qsmprep.findings import fact_values
from qsmprep.numerics.arrays import RealArray

RAW = "raw"


@dataclass(frozen=True)
class Output:
    """One kind of derivative.

    Attributes
    ----------
    folder, desc, suffix : where it lies and how it is named; `desc` may be empty.
    description : for the sidecar.
    units : of the values; empty for a mask.
    parents : keys of the outputs it was made from directly, or RAW.
    mask_type : "Brain" or "ROI" for masks.
    skull_stripped : whether voxels outside the brain are zero.
    """

    folder: str
    desc: str
    suffix: str
    description: str
    units: str = ""
    parents: tuple[str, ...] = (RAW,)
    mask_type: str = ""
    skull_stripped: bool = True

    @property
    def is_mask(self) -> bool:
        """Whether it is a binary mask."""
        return bool(self.mask_type)


# fmt: off
OUTPUTS: Mapping[str, Output] = {
    "total_field": Output("fmap", "total", "fieldmap", "Total field: all sources, unwrapped and combined over echoes.", "Hz", (RAW, "brain_mask")),
    "local_field": Output("fmap", "local", "fieldmap", "Tissue (local) field: background field removed.", "Hz", ("total_field", "background_mask")),
    "magnitude": Output("fmap", "", "magnitude", "Root sum of squares of the echoes' magnitude, on the grid of the field maps.", "arbitrary", (RAW,), skull_stripped=False),
    "chi": Output("anat", "", "Chimap", "Magnetic susceptibility (SI), paramagnetic positive.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "expected_error": Output("anat", "expectederror", "Chimap", "Absolute error that the network expects of the susceptibility, as its training taught it.", "ppm", ("local_field", "qsm_mask")),
    "r2star": Output("anat", "", "R2starmap", "Effective transverse relaxation rate.", "1/s", (RAW, "brain_mask")),
    "t2star": Output("anat", "", "T2starmap", "Effective transverse relaxation time.", "s", (RAW, "brain_mask")),
    "s0": Output("anat", "", "S0map", "Signal extrapolated to zero echo time.", "arbitrary", (RAW, "brain_mask")),
    "misfit": Output("anat", "misfit", "S0map", "Root sum of squares of what the fitted decay leaves unexplained, over that of the signal.", "1", (RAW, "brain_mask")),
    "r2": Output("anat", "", "R2map", "Transverse relaxation rate of spin echoes, on the grid of the gradient echoes.", "1/s", (RAW, "magnitude")),
    "r2prime": Output("anat", "reversible", "R2map", "Reversible transverse relaxation rate R2' = max(R2* - R2, 0).", "1/s", ("r2star", "r2")),
    "para": Output("anat", "paramagnetic", "Chimap", "Paramagnetic part of the magnetic susceptibility (SI), >= 0; the total is the paramagnetic less the diamagnetic part.", "ppm", ("chi", "local_field", "qsm_mask", "r2star", "r2prime")),
    "dia": Output("anat", "diamagnetic", "Chimap", "Size (>= 0) of the diamagnetic part of the magnetic susceptibility (SI); the total is the paramagnetic less the diamagnetic part.", "ppm", ("chi", "local_field", "qsm_mask", "r2star", "r2prime")),
    "swi": Output("anat", "", "swi", "Susceptibility-weighted image: magnitude darkened where the field is that of paramagnetic sources.", "arbitrary", (RAW, "brain_mask"), skull_stripped=False),
    "minip": Output("anat", "", "minIP", "Minimum-intensity projection of the susceptibility-weighted image over a slab around each slice.", "arbitrary", ("swi", "brain_mask")),
    "smwi": Output("anat", "", "smwi", "Susceptibility map-weighted image: magnitude darkened by paramagnetic susceptibility.", "arbitrary", ("magnitude", "chi", "qsm_mask"), skull_stripped=False),
    "brain_mask": Output("anat", "brain", "mask", "Consensus mask 1: the brain.", mask_type="Brain"),
    "reliable_mask": Output("anat", "reliable", "mask", "Consensus mask 2: voxels of reliable phase.", mask_type="ROI", parents=(RAW, "brain_mask")),
    "background_mask": Output("anat", "bfr", "mask", "Consensus mask 3: mask 1 and mask 2, holes filled; for background field removal.", mask_type="ROI", parents=("brain_mask", "reliable_mask")),
    "qsm_mask": Output("anat", "qsm", "mask", "Consensus mask 4: where the tissue field, and so susceptibility, is valid.", mask_type="ROI", parents=("total_field", "background_mask")),
    "cosmos": Output("anat", "cosmos", "Chimap", "Magnetic susceptibility (SI) from several orientations of the head (COSMOS), paramagnetic positive.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "cosmos_mask": Output("anat", "cosmos", "mask", "Where every orientation is valid.", mask_type="ROI", parents=("qsm_mask",)),
    "sti": Output("anat", "sti", "Chimap", "Mean of the susceptibility tensor from several orientations of the head.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "anisotropy": Output("anat", "anisotropy", "Chimap", "Magnetic susceptibility anisotropy: largest eigenvalue of the tensor less the mean of the other two.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi11": Output("anat", "chi11", "Chimap", "Component xx of the susceptibility tensor in the laboratory frame of the reference, z along B0.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi22": Output("anat", "chi22", "Chimap", "Component yy of the susceptibility tensor in the laboratory frame of the reference, z along B0.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi33": Output("anat", "chi33", "Chimap", "Component of the susceptibility tensor along B0 of the reference, relative to the field of view.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi12": Output("anat", "chi12", "Chimap", "Component xy of the susceptibility tensor in the laboratory frame of the reference, z along B0.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi13": Output("anat", "chi13", "Chimap", "Component xz of the susceptibility tensor in the laboratory frame of the reference, z along B0.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "chi23": Output("anat", "chi23", "Chimap", "Component yz of the susceptibility tensor in the laboratory frame of the reference, z along B0.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "offdiagonal": Output("anat", "offdiagonal", "Chimap", "Field, relative to B0, of the off-diagonal components xz and yz of the susceptibility tensor in the orientation of the scan or of the reference.", "ppm", ("local_field", "qsm_mask", "magnitude")),
    "sti_mask": Output("anat", "sti", "mask", "Where every orientation is valid.", mask_type="ROI", parents=("qsm_mask",)),
}
# fmt: on

TENSOR = ("chi11", "chi22", "chi33", "chi12", "chi13", "chi23")  # components of the susceptibility tensor

# Of a step's record: what differs from run to run, or is for the report alone.
NOT_LASTING = ("seconds", "curve", "curve_name", "curve_iterations", "curve_second")
BIDSIGNORE = ("figures", "group_*", "*.html", "logs/", "prov", "*_stats.tsv", "*_stats.json", "*_xfm.txt", "*_xfm.json",
              "*_xfm.nii.gz", "*_qc.json", "*_swi.*", "*_minIP.*", "*_smwi.*")  # fmt: skip
KEPT_ENTITIES = ("acq", "run")


def run_prefix(subject: str, session: str | None, entities: Mapping[str, str]) -> str:
    """File name stem of a run's derivatives: "sub-01_ses-2_acq-x_run-1".

    BIDS allows neither `rec` nor other entities with a field map; they are folded into `acq`, so that two inputs
    never write one name.
    """
    folded = {name: value for name, value in entities.items() if name not in (*KEPT_ENTITIES, "echo", "part")}
    acq = str(entities.get("acq", "")) + "".join(f"{name}{value}" for name, value in folded.items())
    parts = {"sub": subject, "ses": session, "acq": re.sub("[^0-9A-Za-z]", "", acq), "run": entities.get("run")}
    return "_".join(f"{name}-{value}" for name, value in parts.items() if value not in (None, ""))


def output_path(key: str, prefix: str, *, desc: str | None = None) -> Path:
    """Path of a derivative relative to the output folder, without opening anything.

    Parameters
    ----------
    key : a key of OUTPUTS.
    prefix : what `run_prefix` gave.
    desc : replaces the table's `desc` (a further inversion's name); non-alphanumerics are dropped.
    """
    output = OUTPUTS[key]
    label = re.sub("[^0-9A-Za-z]", "", output.desc if desc is None else desc)
    name = "_".join(part for part in (prefix, f"desc-{label}" if label else "", output.suffix) if part)
    return subject_folder(prefix) / output.folder / f"{name}.nii.gz"


def transform_path(prefix: str) -> Path:
    """Path of the transform between gradient and spin echoes, relative to the output folder."""
    return subject_folder(prefix) / "anat" / f"{prefix}_from-MEGRE_to-MESE_mode-image_xfm.txt"


def quality_path(prefix: str) -> Path:
    """Path of the quality numbers of a run, relative to the output folder."""
    return subject_folder(prefix) / "anat" / f"{prefix}_qc.json"


def subject_folder(prefix: str) -> Path:
    """`sub-01/ses-2` of a prefix."""
    return Path(*(part for part in prefix.split("_") if part.startswith(("sub-", "ses-"))))


def figures_folder(prefix: str) -> Path:
    """Folder of a run's figures and record, relative to the output folder."""
    return subject_folder(prefix) / "figures"


def sidecar(
    key: str,
    prefix: str,
    *,
    raw_sources: tuple[str, ...],
    steps: list[dict[str, Any]],
    available: frozenset[str],
    software: Mapping[str, str],
    sources: tuple[str, ...] = (),
) -> dict[str, Any]:
    """JSON sidecar of a derivative, but for the checksum of the image itself.

    Parameters
    ----------
    key : a key of OUTPUTS.
    raw_sources : input files relative to the BIDS dataset.
    steps : records of the steps that led to the file.
    available : keys of the outputs that this run writes, so that Sources names files that exist.
    software : name -> version.
    sources : BIDS URIs of the direct parents, where they are those of several runs; else they follow from the table.
    """
    output = OUTPUTS[key]
    made_from = list(sources)
    parents = _chi_parents(steps) if key == "chi" else _swi_parents(steps) if key == "swi" else output.parents
    for parent in () if sources else parents:
        if parent == RAW:
            made_from += [f"bids:raw:{path}" for path in raw_sources]
        elif parent in available:
            made_from.append(f"bids::{output_path(parent, prefix).as_posix()}")
    document: dict[str, Any] = {
        "Description": output.description,
        "Sources": made_from,
        "GeneratedBy": activity_id(prefix, steps, made_from, software),
    }
    if output.is_mask:
        document["Type"] = output.mask_type
    else:
        document |= {"Units": output.units, "SkullStripped": output.skull_stripped}
    if key == "chi":
        document |= _susceptibility_keys(steps)
    if key in ("para", "dia"):
        document |= _source_keys(steps)
    document |= _orientation_keys(steps)
    return {**document, "ProcessingSoftware": dict(software), "ProcessingSteps": [_lasting(step) for step in steps]}


def _lasting(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step's record as sidecars hold it: short, and the same for the same run."""
    return {key: value for key, value in step.items() if key not in NOT_LASTING}


def _orientation_keys(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """How several orientations lie to each other; nothing for a map of one."""
    facts = [fact_values(step["facts"]) for step in steps if step.get("stage") == "registration"]
    if not facts:
        return {}
    axes = _facts_of(steps, "sti").get("laboratory_axes")
    return {
        "Orientations": [fact["run"] for fact in facts],
        "B0Directions": [fact["b0_direction"] for fact in facts],
        "RegistrationMatrices": [fact["matrix"] for fact in facts],
        **({"TensorAxes": axes} if axes else {}),
    }


def _chi_parents(steps: list[dict[str, Any]]) -> tuple[str, ...]:
    """What susceptibility was made of: the tissue field, or what a single-step method starts from."""
    method = next((step["method"] for step in steps if step["stage"] == "inversion"), "")
    inputs = registry.find("inversion", method).inputs() if method in registry.names("inversion") else ("field_ppm",)
    if "field_ppm" in inputs:
        return OUTPUTS["chi"].parents
    return ("total_field" if "total_field_ppm" in inputs else RAW, "background_mask", "magnitude")


def _swi_parents(steps: list[dict[str, Any]]) -> tuple[str, ...]:
    """What a susceptibility-weighted image was made of: phase alone, or the field that its method was given."""
    options = [item for step in steps if step["stage"] == "swi" for item in step.get("parameters", ())]
    field = next((str(item["value"]) for item in options if item["name"] == "field"), "")
    return (RAW, "local_field" if field == "tissue" else "total_field", "brain_mask") if field else (RAW,)


def _source_keys(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """How the sources were separated, and what R2' is."""
    by_stage = {step["stage"]: step for step in steps}
    step = by_stage.get("chisep-cosmos") or by_stage.get("separation", {})
    facts = fact_values(step.get("facts"))
    method = step.get("method", "")  # of one run, or of several orientations, which always take R2'
    known = method in registry.names("separation")
    uses_r2prime = not known or "r2prime" in registry.find("separation", method).inputs()
    constants = {
        kind: facts.get(key)
        for kind, key in (("paramagnetic", "relaxometric_para"), ("diamagnetic", "relaxometric_dia"))
    }
    return {
        "EstimationAlgorithm": step.get("title", ""),
        **({"RelaxometricConstant": constants} if all(constants.values()) else {}),
        **({"R2Prime": _facts_of(steps, "r2prime").get("origin", "")} if uses_r2prime else {}),
    }


def _susceptibility_keys(steps: list[dict[str, Any]]) -> dict[str, Any]:
    by_stage = {step["stage"]: step for step in steps}
    reference = _facts_of(steps, "reference")
    algorithm = by_stage.get("inversion", {}).get("title", "")
    region = reference.get("region", "none")
    if region == "none":
        return {"EstimationAlgorithm": algorithm, "ReferenceRegion": region}
    return {
        "EstimationAlgorithm": algorithm,
        "ReferenceRegion": region,
        "ReferenceRegionMeanBeforeReferencing": reference.get("mean_before"),
        "ReferenceRegionMean": reference.get("mean_in_whole_brain_map"),
        "ReferenceRegionStandardDeviation": reference.get("sd"),
    }


def _facts_of(steps: list[dict[str, Any]], stage: str) -> dict[str, Any]:
    """Facts of the last step of a stage by their key."""
    return fact_values(next((step.get("facts") for step in reversed(steps) if step["stage"] == stage), None))


def dataset_description(version: str, *, raw: Path, container: str | None, engine: str = "docker") -> dict[str, Any]:
    """dataset_description.json of the derivatives; `engine` is what runs the container, if it is one."""
    generated: dict[str, Any] = {
        "Name": "qsmprep",
        "Version": version,
        "Description": "Quantitative susceptibility maps and what they were made from",
    }
    if container:
        generated["Container"] = {"Type": engine, "Tag": container}
    return {
        "Name": "qsmprep derivatives",
        "BIDSVersion": "1.11.0",
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        "SourceDatasets": [{"URL": Path(raw).resolve().as_uri()}],
        "DatasetLinks": {"raw": Path(raw).resolve().as_uri()},
    }


def write_text(path: Path, text: str) -> None:
    """Write text whole, UTF-8."""
    with whole_file(path) as stream:
        stream.write(text.encode("utf-8"))


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole; NaN is refused since JSON has no word for it."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_image(
    path: Path, array: NDArray[Any], place: RealArray | Grid, *, mask: bool = False, code: int = SCANNER
) -> None:
    """Write a volume as compressed NIfTI: float32, or uint8 for a mask. The same array gives the same bytes.

    Parameters
    ----------
    place : an affine, which is then qform and sform with this code (the scanner's); or the grid of an image, both of
        whose transforms and codes the file carries on.
    """
    _write_nifti(path, np.asarray(array, np.uint8 if mask else np.float32), place, code=code)


def write_displacement(path: Path, field: NDArray[Any], affine: RealArray, *, code: int) -> None:
    """Write a field of displacement as ITK and ANTs read it: compressed NIfTI, five dimensions, vectors in LPS.

    Parameters
    ----------
    field : (3, n0, n1, n2) mm, in the axes of NIfTI (to the patient's right, front, head). ITK's run to the left and
        the back, so that the first two change their sign.
    affine : (4, 4) of its grid; qform and sform with this code.
    """
    turned = np.asarray(field, np.float32) * np.array([-1, -1, 1], np.float32).reshape(3, 1, 1, 1)
    _write_nifti(path, np.moveaxis(turned, 0, -1)[:, :, :, None, :], affine, code=code, intent="vector")


def _write_nifti(
    path: Path, array: NDArray[Any], place: RealArray | Grid, *, code: int = SCANNER, intent: str = ""
) -> None:
    affine = place.affine if isinstance(place, Grid) else place
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    if isinstance(place, Grid) and place.header:
        lay_as(image.header, place)
        image = nib.Nifti1Image(array, None, image.header)
    else:
        image.set_sform(affine, code)
        image.set_qform(affine, code)
    if intent:
        image.header.set_intent(intent)
    buffer = BytesIO()
    image.to_stream(buffer)
    with whole_file(path) as stream:
        _write_gzip(stream, buffer.getbuffer())


def write_labels(path: Path, labels: NDArray[Any], place: RealArray | Grid) -> None:
    """Write a label image as compressed NIfTI, int32, placed as by `write_image`. The same array, the same bytes."""
    _write_nifti(path, np.asarray(labels, np.int32), place)


def _write_gzip(stream: BinaryIO, content: memoryview) -> None:
    with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
        packed.write(content)
