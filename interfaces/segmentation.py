"""Nodes that bring segmentations and atlases onto the grid of the maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.analysis.atlas import hybrid_image, register_atlas
from qsmprep.analysis.regions import lay_labels
from qsmprep.bids.segmentation import LabelImage, read_labels
from qsmprep.findings import Fact, Warning, fact_values, read_notes
from qsmprep.interfaces.images import Grid, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec
from qsmprep.orientation.registration import register_rigid, resample
from qsmprep.orientation.rotation import rotation_angle_deg

# Of a T1w image of the same session; more is the head lying anew, or a registration that went astray.
LARGEST_TURN_DEG, LARGEST_SHIFT_MM = 15.0, 20.0
SMALLEST_CORRELATION = 0.3  # of template and image: below it they hardly overlap


class RegisterT1wInputSpec(StepInputSpec):
    """Inputs of `RegisterT1w`."""

    t1w = File(exists=True, mandatory=True)
    magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the gradient echoes")
    mask = File(exists=True, mandatory=True, desc="brain mask of the gradient echoes")
    rigid = traits.Bool(True, usedefault=True, desc="register; else the scanner's coordinates are taken")


class RegisterT1wOutputSpec(StepOutputSpec):
    """Outputs of `RegisterT1w`."""

    t1w = File(exists=True, desc="on the grid of the gradient echoes")
    transform = File(exists=True, desc="JSON, (4, 4): a point of the gradient echo world to the T1w image's world")


class RegisterT1w(Step):
    """Register the session's T1w image to the magnitude."""

    input_spec = RegisterT1wInputSpec
    output_spec = RegisterT1wOutputSpec
    stage = "t1w-registration"

    def _compute(self, folder: Path) -> Record:
        inputs, grid, target = self.inputs, read_grid(self.inputs.t1w), read_grid(self.inputs.magnitude)
        brain, t1w = read_mask(inputs.mask), np.nan_to_num(read_volume(inputs.t1w))
        record = Record(self.stage, "scanner", "the scanner's coordinates of the T1w image")
        matrix = np.eye(4)
        if inputs.rigid:
            try:
                matrix, record = self._registered(t1w, grid, brain, target)
            except ValueError as error:  # it must not cost the table; how labels were laid is told with each
                record.warn(
                    Warning(
                        "t1w-not-registered",
                        f"{inputs.t1w}: {error} The scanner's coordinates are taken instead.",
                        "Look at the segmentations over the magnitude; convert the T1w image again if it is damaged.",
                    )
                )
        record.state(Fact("t1w_image", "T1w image", "", Path(inputs.t1w).name))
        laid = resample(t1w, grid.affine, matrix, target.affine, target.shape)
        self._results["t1w"] = write_volume(folder / "t1w.nii", laid, target)
        transform = folder / "transform.json"
        transform.write_text(json.dumps(matrix.tolist()), encoding="utf-8")
        self._results["transform"] = str(transform)
        return record

    def _registered(self, t1w: np.ndarray, grid: Grid, brain: np.ndarray, target: Grid) -> tuple[np.ndarray, Record]:
        """The matrix from the magnitude's world to the T1w image's, and what to tell of it."""
        magnitude = read_volume(self.inputs.magnitude)
        matrix, correlation = register_rigid(magnitude, target.affine, t1w, grid.affine, mask=brain, contrast="other")
        title = "rigid registration of the T1w image to the gradient echo magnitude by SimpleITK"
        record = Record(self.stage, "rigid", f"{title} (mutual information)", ["lowekamp2013"])
        centre, turn = _centre(brain, target), rotation_angle_deg(matrix)
        shift = float(np.linalg.norm((matrix @ centre - centre)[:3]))
        record.state(
            Fact("correlation", "correlation of the images", "", correlation),
            Fact("turn", "turn of the head", "degrees", turn),
            Fact("shift", "shift at the brain's centre", "mm", shift),
            Fact("matrix", "gradient echo world to T1w world", "mm", matrix.tolist()),
        )
        if turn > LARGEST_TURN_DEG or shift > LARGEST_SHIFT_MM:
            record.warn(
                Warning(
                    "t1w-moved-far",
                    f"The T1w image was turned by {turn:.0f} degrees and moved by {shift:.0f} mm, much for a session.",
                    "Look at the segmentation over the magnitude, or take --no-roi-registration.",
                )
            )
        return matrix, record


class LaidOutputSpec(StepOutputSpec):
    """Outputs of what resamples labels to the maps."""

    labels = File(exists=True, desc="on the grid of the gradient echoes")
    origin = traits.Str(desc="which file, and how it came onto the grid")


class LaySegmentationInputSpec(StepInputSpec):
    """Inputs of `LaySegmentation`."""

    in_file = File(exists=True, mandatory=True, desc="label image")
    label = traits.Str(mandatory=True, desc="what tables call the segmentation")
    placement = traits.Enum("grid", "scanner", "t1w", mandatory=True)
    notes = traits.List(traits.Dict, desc="what was decided before the graph was built, each with code and text")
    magnitude = File(exists=True, mandatory=True, desc="whose grid it is laid on")
    transform = File(exists=True, desc="of `RegisterT1w`, for the placement t1w")


class LaySegmentation(Step):
    """Bring a segmentation onto the grid of the maps."""

    input_spec = LaySegmentationInputSpec
    output_spec = LaidOutputSpec
    stage = "segmentation"

    def _compute(self, folder: Path) -> Record:
        inputs, target = self.inputs, read_grid(self.inputs.magnitude)
        image = read_labels(Path(inputs.in_file))
        labels = image.labels
        if inputs.placement != "grid":
            labels = lay_labels(labels, image.affine, self._motion(), target.affine, target.shape)
        how = self._how()
        name = Path(inputs.in_file).name
        record = Record(self.stage, inputs.label, f"{name}, {how}")
        record.note(*read_notes(inputs.notes or []))
        record.state(*_label_facts(image, labels))
        if not labels.any():
            record.warn(
                Warning(
                    "segmentation-beside-images",
                    f"{inputs.in_file} does not overlap the images: no region has a voxel.",
                    "Give the segmentation of this head and session.",
                )
            )
        self._results["labels"] = write_volume(folder / "labels.nii", labels, target)
        self._results["origin"] = f"{name}, {how}"
        return record

    def _motion(self) -> np.ndarray:
        """From the magnitude's world to that of the segmentation."""
        if not isdefined(self.inputs.transform):
            return np.eye(4)
        return np.array(json.loads(Path(self.inputs.transform).read_text("utf-8")))

    def _how(self) -> str:
        """How it came onto the grid, in words."""
        if self.inputs.placement == "grid":
            return "on the grid of the maps already"
        nearest = "resampled with nearest neighbour through the affines"
        if self.inputs.placement == "scanner":
            return f"{nearest} (the scanner's coordinates)"
        step = next(record for record in self._records_before() if record["stage"] == RegisterT1w.stage)
        if step["method"] != "rigid":
            return f"{nearest} (the scanner's coordinates, as the T1w image could not be registered)"
        t1w = fact_values(step["facts"])["t1w_image"]
        return f"{nearest} and the rigid registration of {t1w} to the magnitude"


class LayAtlasInputSpec(StepInputSpec):
    """Inputs of `LayAtlas`."""

    in_file = File(exists=True, mandatory=True, desc="label image of the atlas")
    template = File(exists=True, mandatory=True)
    label = traits.Str(mandatory=True, desc="what tables call the atlas")
    notes = traits.List(traits.Dict, desc="what was decided before the graph was built, each with code and text")
    magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the gradient echoes")
    t1w = File(exists=True, desc="on the grid of the gradient echoes; the magnitude stands in for it")
    chi = File(exists=True, mandatory=True, desc="in ppm")
    mask = File(exists=True, mandatory=True, desc="brain")


class LayAtlas(Step):
    """Register an atlas to the head by its template."""

    input_spec = LayAtlasInputSpec
    output_spec = LaidOutputSpec
    stage = "atlas"

    def _compute(self, folder: Path) -> Record:
        inputs, target = self.inputs, read_grid(self.inputs.magnitude)
        anatomical = "T1w image" if isdefined(inputs.t1w) else "magnitude"
        brain = read_mask(inputs.mask)
        seen = read_volume(inputs.t1w if isdefined(inputs.t1w) else inputs.magnitude)
        hybrid = hybrid_image(seen, read_volume(inputs.chi), brain)
        atlas = read_labels(Path(inputs.in_file))
        labels, correlation = register_atlas(
            hybrid, target.affine, read_volume(inputs.template), read_grid(inputs.template).affine, atlas.labels,
            atlas.affine,
        )  # fmt: skip
        how = f"{Path(inputs.in_file).name}, its template registered by ANTs (SyN) to {anatomical} and susceptibility"
        record = Record(self.stage, inputs.label, how, ["avants2008"])
        record.note(*read_notes(inputs.notes or []))
        record.state(
            Fact("correlation", "correlation of template and image", "", correlation), *_label_facts(atlas, labels)
        )
        if abs(correlation) < SMALLEST_CORRELATION:
            record.warn(
                Warning(
                    "atlas-correlation",
                    f"The registered template correlates with the image by only {correlation:.2f}.",
                    "Look at the atlas over the map before trusting its regions.",
                )
            )
        self._results["labels"] = write_volume(folder / "labels.nii", labels, target)
        self._results["origin"] = how
        return record


def _label_facts(image: LabelImage, laid: np.ndarray) -> tuple[Fact, ...]:
    """How many labels an image has, and how many of them are left on the grid of the maps."""
    return (
        Fact("labels", "labels", "", len(image.present)),
        Fact("labels_on_grid", "labels on the grid", "", int(np.unique(laid[laid > 0]).size)),
    )


def _centre(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Centre of mass of a mask in the world, in homogeneous coordinates."""
    return grid.affine @ np.append(np.argwhere(mask).mean(axis=0), 1.0)
