"""Nodes that bring the maps of a run into the space of a template, and write them there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from qsmprep.analysis.brain_template import LAST_NUCLEUS, NAMES, SMALLEST_CORRELATION
from qsmprep.analysis.displacement import FIELD_MM, field_of, grid_over, inverse_field, resample_by
from qsmprep.analysis.template_space import (
    BY_T1W,
    OWN_FIRST_MM,
    OWN_SHAPE,
    SMALLEST_OVERLAP,
    InTemplate,
    SpaceTemplate,
    lay_in_template,
    own_space,
    space_of_t1w,
)
from qsmprep.bids.images import open_image
from qsmprep.bids.outputs import OUTPUTS, output_path, sidecar, write_displacement, write_image, write_json
from qsmprep.bids.space_files import space_path, space_transform_path
from qsmprep.bids.spaces import RESOLUTIONS
from qsmprep.engine import iterations
from qsmprep.files.checksum import sha256_of
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import Grid, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec, records_behind
from qsmprep.interfaces.template import load_brain_template
from qsmprep.numerics.arrays import DoubleArray, FloatImage
from qsmprep.numerics.progress import part

STAGE = "output-space"
CITED = ("avants2008", "lowekamp2013")
# Codes of NIfTI for the transform of an image in MNI152 space, and in that of another template.
MNI_CODE, TEMPLATE_CODE = 4, 5
ICBM_PAGE = "https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009"
TEMPLATEFLOW_PAGE = "https://templateflow.s3.amazonaws.com"
OUTLINES = ("template_brain", "template_nuclei", "template_ventricles")
# Of each map: the mask in which it is valid; the magnitude is known everywhere.
VALID = {"chi": "qsm_mask", "para": "sources_mask", "dia": "sources_mask", "r2star": "brain_mask"}


def registration_title(space: str, by: str) -> str:
    """What the registration to a template is, in words."""
    return f"nonlinear registration to {space} by {by} (affine by SimpleITK, then local correlation)"


def space_code(space: str) -> int:
    """The code of NIfTI for images in a template's space."""
    return MNI_CODE if space.startswith("MNI152") else TEMPLATE_CODE


class RegisterSpaceInputSpec(StepInputSpec):
    """Inputs of `RegisterSpace`."""

    space = traits.Str(mandatory=True, desc="TemplateFlow's name of the template")
    template = File(exists=True, desc="its T1w image; without: the package's own template")
    template_mask = File(exists=True, desc="its brain; without: where the T1w image is not 0")
    source = traits.Str(mandatory=True, desc="which template it is, in words")
    citations = traits.List(traits.Str)
    magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the gradient echoes")
    chi = File(exists=True, mandatory=True, desc="in ppm")
    mask = File(exists=True, mandatory=True, desc="brain")
    t1w = File(exists=True, desc="on the grid of the gradient echoes")


class RegisterSpaceOutputSpec(StepOutputSpec):
    """Outputs of `RegisterSpace`; nothing but the record where no registration was found."""

    transform = File(exists=True, desc="displacement from the template to the scan, as NIfTI's world has it")
    inverse = File(exists=True, desc="from the scan to the template")
    shown = File(exists=True, desc="susceptibility on the grid of `transform`, for a picture")
    template_brain = File(exists=True, desc="of the template, as those that follow")
    template_nuclei = File(exists=True)
    template_ventricles = File(exists=True)


class RegisterSpace(Step):
    """Register a template to the head, by the T1w image or by magnitude and susceptibility."""

    input_spec = RegisterSpaceInputSpec
    output_spec = RegisterSpaceOutputSpec
    stage = STAGE

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        title = f"registration to {inputs.space}"
        record = Record(self.stage, inputs.space, title, [*CITED, *(inputs.citations or [])])
        record.state(Fact("template", "template", "", inputs.source))
        if isdefined(inputs.template):
            record.state(Fact("template_sha256", "SHA-256 of its T1w image", "", sha256_of(Path(inputs.template))))
        try:
            space = self._space(record)
            found = self._register(space)
        except (ValueError, RuntimeError) as error:  # it must not cost the maps themselves
            text = f"The head could not be registered to {inputs.space}: {error} No map is written in this space."
            remedy = "Use the maps in the space of the scan; a template needs the whole brain of an adult."
            record.warn(Warning("space-registration-failed", text, remedy))
            record.title = f"registration to {inputs.space}, which failed"
            return record
        record.title = registration_title(inputs.space, found.by)
        self._judge(found, space, record)
        self._write(folder, found, space, record)
        return record

    def _space(self, record: Record) -> SpaceTemplate:
        """What is known of the template."""
        inputs = self.inputs
        own = load_brain_template()
        if not isdefined(inputs.template):
            return own_space(own)
        t1w = np.nan_to_num(read_volume(inputs.template))
        mask = read_mask(inputs.template_mask) if isdefined(inputs.template_mask) else t1w > 0
        if mask.shape != t1w.shape:
            raise ValueError(f"{inputs.template_mask} is not on the grid of {inputs.template}.")
        told = part(iterations.callback(), 0, 2)
        space = space_of_t1w(t1w, mask, read_grid(inputs.template).affine, own, progress=told)
        text = "The package's own template of magnitude and susceptibility was laid over its T1w image."
        record.note(Note("space-contrasts", text))
        record.state(Fact("own_likeness", "local correlation of both templates, squared", "", space.own_likeness))
        return space

    def _register(self, space: SpaceTemplate) -> InTemplate:
        inputs = self.inputs
        told = part(iterations.callback(), 1, 2) if isdefined(inputs.template) else iterations.callback()
        return lay_in_template(
            space, read_volume(inputs.magnitude), read_volume(inputs.chi), read_mask(inputs.mask),
            read_grid(inputs.magnitude).affine, progress=told,
            t1w=read_volume(inputs.t1w) if isdefined(inputs.t1w) else None,
        )  # fmt: skip

    def _judge(self, found: InTemplate, space: SpaceTemplate, record: Record) -> None:
        """Tell how good the registration is, and warn of one that cannot be right."""
        if found.by != BY_T1W:
            why = "the template has no T1w image here" if space.images.t1w is None else "no T1w image of the session"
            record.note(Note("space-by", f"Registered by magnitude and susceptibility: {why}."))
        else:
            record.note(Note("space-by", "Registered by the T1w image, which was laid on the gradient echoes before."))
        record.state(
            Fact("registered_by", "registered by", "", found.by),
            Fact("overlap", "overlap of the brains (Dice)", "", found.overlap),
            Fact("likeness", "local correlation, squared", "", found.deformation.likeness),
            Fact("nuclei_correlation", "correlation of susceptibility around the nuclei", "", found.nuclei_correlation),
            Fact("smallest_jacobian", "smallest Jacobian determinant of the deformation", "", found.smallest_jacobian),
        )
        doubts = []
        if found.overlap < SMALLEST_OVERLAP:
            doubts.append(f"the brains overlap by only {found.overlap:.2f} (Dice; limit {SMALLEST_OVERLAP:g})")
        if found.nuclei_correlation < SMALLEST_CORRELATION:
            doubts.append(f"susceptibility around the nuclei correlates by only {found.nuclei_correlation:.2f} (limit "
                          f"{SMALLEST_CORRELATION:g})")  # fmt: skip
        if not found.smallest_jacobian > 0:
            doubts.append("the deformation folds")
        if doubts:
            text = f"The registration to {self.inputs.space} is doubtful: {'; '.join(doubts)}. The maps are written."
            remedy = (
                "Look at the map in the template before it is used; give a T1w image of the session if there is none."
            )
            record.warn(Warning("space-registration-doubtful", text, remedy))

    def _write(self, folder: Path, found: InTemplate, space: SpaceTemplate, record: Record) -> None:
        """Both transforms, and what a picture shows."""
        inputs = self.inputs
        shape, affine = grid_over(*template_grid(inputs.template), FIELD_MM)
        field = field_of(found.deformation, shape, affine)
        native = read_grid(inputs.magnitude)
        back_shape, back_affine = grid_over(native.shape, native.affine, FIELD_MM)
        mask = read_mask(inputs.mask)
        brain = resample_by(mask, None, native.affine, np.zeros((3, 2, 2, 2), np.float32), native.affine, back_shape,
                            back_affine) > 0.5  # fmt: skip
        back, error = inverse_field(found.deformation, back_shape, back_affine, brain)
        record.state(Fact("inverse_error", "99th percentile of the inverse transform's error", "mm", error))
        self._results["transform"] = _write_field(folder / "transform.nii", field, affine)
        self._results["inverse"] = _write_field(folder / "inverse.nii", back, back_affine)
        shown = resample_by(read_volume(inputs.chi), mask, native.affine, field, affine, shape, affine)
        grid = Grid(shape, affine)
        self._results["shown"] = write_volume(folder / "shown.nii", shown, grid)
        labels = _on(space.nuclei, space.images.affine, shape, affine)
        ventricles = [number for number, name in NAMES.items() if name == "lateral_ventricles"]
        for name, region in (
            ("template_brain", _on(space.images.mask, space.images.affine, shape, affine) > 0),
            ("template_nuclei", (labels > 0) & (labels <= LAST_NUCLEUS)),
            ("template_ventricles", np.isin(labels, ventricles)),
        ):
            self._results[name] = write_volume(folder / f"{name}.nii", region, grid)


def template_grid(path: str | None) -> tuple[tuple[int, int, int], DoubleArray]:
    """Shape and affine of a template's file; those of ICBM 2009a at 1 mm for the package's own template."""
    if path is not None and isdefined(path):
        grid = read_grid(path)
        return grid.shape, grid.affine
    affine = np.eye(4)
    affine[:3, 3] = OWN_FIRST_MM
    return OWN_SHAPE, affine


def _on(labels: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], grid: np.ndarray) -> np.ndarray:
    """Labels on another grid of the same world; the nearest counts."""
    from scipy.ndimage import affine_transform

    way = np.linalg.inv(affine) @ grid
    taken: np.ndarray = affine_transform(
        np.asarray(labels, np.uint8), way[:3, :3], way[:3, 3], output_shape=shape, order=0
    )
    return taken


def _write_field(path: Path, field: FloatImage, affine: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(np.moveaxis(field, 0, -1), affine), path)
    return str(path)


def _read_field(path: str) -> tuple[FloatImage, DoubleArray]:
    image = open_image(path)
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.dataobj, np.float32), -1, 0)), image.affine


class LayMapsInputSpec(StepInputSpec):
    """Inputs of `LayMaps`: the maps as they are named in the table of outputs, where there are such."""

    space = traits.Str(mandatory=True)
    resolution = traits.Enum("", "1", "2", usedefault=True, desc="in mm; empty: voxels of the scan's size")
    template = File(exists=True, desc="T1w image of the template; without: the package's own template")
    transform = File(exists=True, desc="of `RegisterSpace`; without: nothing is laid")
    chi = File(exists=True, mandatory=True)
    qsm_mask = File(exists=True, mandatory=True)
    magnitude = File(exists=True, mandatory=True)
    brain_mask = File(exists=True, mandatory=True)
    r2star = File(exists=True)
    para = File(exists=True)
    dia = File(exists=True)
    sources_mask = File(exists=True, desc="where both sources are valid")
    keys = traits.List(traits.Str, mandatory=True, desc="which of them are written")


class LayMapsOutputSpec(StepOutputSpec):
    """Outputs of `LayMaps`."""

    files = traits.List(File(exists=True), desc="in the order of `keys`; empty where nothing was laid")


class LayMaps(Step):
    """Resample the maps of a run to a template, each once."""

    input_spec = LayMapsInputSpec
    output_spec = LayMapsOutputSpec
    stage = STAGE

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        edge = RESOLUTIONS.get(inputs.resolution) or float(np.cbrt(np.prod(read_grid(inputs.chi).voxel_size_mm)))
        method = f"{inputs.space}:res-{inputs.resolution or 'native'}"
        record = Record(self.stage, method, f"resampling to {inputs.space} with voxels of {edge:.3g} mm (linear)")
        self._results["files"] = []
        if not isdefined(inputs.transform):
            record.title = f"no maps in {inputs.space}, as the registration failed"
            return record
        shape, affine = grid_over(*template_grid(inputs.template), edge)
        field, field_affine = _read_field(inputs.transform)
        lay = partial(resample_by, field=field, field_affine=field_affine, shape=shape, grid=affine)
        for key in inputs.keys:
            path = getattr(inputs, key)
            valid = read_mask(getattr(inputs, VALID[key])) if key in VALID else None
            laid = lay(read_volume(path), valid, read_grid(path).affine)
            made = laid >= 0.5 if OUTPUTS[key].is_mask else laid
            self._results["files"].append(write_volume(folder / f"{key}.nii", made, Grid(shape, affine)))
        record.state(Fact("voxel_edge", "edge of a voxel", "mm", edge), Fact("grid", "voxels", "", list(shape)))
        return record


class SaveInSpaceInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveInSpace`."""

    files = traits.List(File(exists=True), desc="of `LayMaps`")
    keys = traits.List(traits.Str, mandatory=True, desc="of the table of outputs, one a file")
    space = traits.Str(mandatory=True)
    resolution = traits.Str("", usedefault=True)
    reference = traits.Str(mandatory=True, desc="SpatialReference")
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")
    software = traits.Dict(desc="name -> version")


class SavedFilesOutputSpec(TraitedSpec):
    """Outputs of what writes several final files."""

    out_files = traits.List(File(exists=True))


class SaveInSpace(SimpleInterface):
    """Write maps that were laid in a template under their final names, each with its sidecar."""

    input_spec = SaveInSpaceInputSpec
    output_spec = SavedFilesOutputSpec
    _always_run = True  # an output that somebody deleted is written again

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        files = list(inputs.files) if isdefined(inputs.files) else []
        for key, file in zip(inputs.keys, files, strict=bool(files)):
            path = Path(inputs.output_dir) / space_path(key, inputs.prefix, inputs.space, inputs.resolution)
            image = open_image(file)
            write_image(path, np.asanyarray(image.dataobj), image.affine, mask=OUTPUTS[key].is_mask,
                        code=space_code(inputs.space))  # fmt: skip
            edge = float(np.linalg.norm(image.affine[:3, 0]))
            native, moved = output_path(key, inputs.prefix), space_transform_path(inputs.prefix, inputs.space)
            document = sidecar(
                key, inputs.prefix, raw_sources=(), steps=records_behind([file]), available=frozenset(),
                software=inputs.software, sources=(f"bids::{native.as_posix()}", f"bids::{moved.as_posix()}"),
            )  # fmt: skip
            document["Description"] += f" In the space of {inputs.space}."
            document |= {"SpatialReference": inputs.reference, "Resolution": f"Cubic voxels of {edge:.3g} mm."}
            document["Digest"] = {"sha256": sha256_of(path)}
            write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), document)
            self._results["out_files"].append(str(path))
        return runtime


class SaveSpaceTransformsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveSpaceTransforms`."""

    transform = File(exists=True, desc="of `RegisterSpace`; without: nothing is written")
    inverse = File(exists=True)
    space = traits.Str(mandatory=True)
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")
    software = traits.Dict(desc="name -> version")


class SaveSpaceTransforms(SimpleInterface):
    """Write the transform of images to a template, and its inverse, as fields that ITK and ANTs read."""

    input_spec = SaveSpaceTransformsInputSpec
    output_spec = SavedFilesOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        ways = ((inputs.transform, False), (inputs.inverse, True))
        for file, inverse in ways if isdefined(inputs.transform) else ():
            path = Path(inputs.output_dir) / space_transform_path(inputs.prefix, inputs.space, inverse=inverse)
            field, affine = _read_field(file)
            write_displacement(path, field, affine, code=1 if inverse else space_code(inputs.space))
            made_of = [output_path(key, inputs.prefix) for key in ("magnitude", "chi", "brain_mask")]
            document = sidecar(
                "magnitude", inputs.prefix, raw_sources=(), steps=records_behind([file]), available=frozenset(),
                software=inputs.software, sources=tuple(f"bids::{source.as_posix()}" for source in made_of),
            )  # fmt: skip
            document["Description"] = _transform_words(inputs.space, inverse)
            document |= {"Units": "mm", "Digest": {"sha256": sha256_of(path)}}
            document.pop("SkullStripped")
            write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), document)
            self._results["out_files"].append(str(path))
        return runtime


def _transform_words(space: str, inverse: bool) -> str:
    start, end = ("the scan", space) if inverse else (space, "the scan")
    image, grid = (space, "the scan") if inverse else ("the scan", space)
    return (
        f"Displacement in mm from a point of {start} to one of {end}, by which an image of {image} is resampled on a "
        f"grid of {grid}: antsApplyTransforms -i IMAGE -r GRID -t THIS_FILE. Vectors in ITK's axes (LPS); the affine "
        "part is in them."
    )
