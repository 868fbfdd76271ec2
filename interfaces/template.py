"""Node that lays the package's own template of regions over a head."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, traits

from qsmprep import data
from qsmprep.analysis.brain_template import (
    LAST_NUCLEUS,
    NAMES,
    SMALLEST_CORRELATION,
    SMALLEST_OF_REGION,
    BrainTemplate,
    LaidTemplate,
    lay_brain_template,
)
from qsmprep.bids.names import listed
from qsmprep.engine import iterations
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import Grid, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec

FILE = Path(data.__file__).with_name("brain_template.npz")
CHI_SCALE_PPM = 0.002  # of that file
HOW = "the package's template (anatomy of ICBM152, nuclei placed by hand), registered to magnitude and susceptibility"
# Groups of regions drawn as one outline: what their names end with.
OUTLINES: Mapping[str, tuple[str, ...]] = {
    "striatum": ("caudate", "putamen"),
    "globus_pallidus": ("globus_pallidus",),
    "thalamus": ("thalamus",),
    "midbrain_and_cerebellum": ("red_nucleus", "substantia_nigra", "dentate_nucleus"),
    "internal_capsule": ("internal_capsule",),
    "ventricles": ("lateral_ventricles",),
}


@lru_cache(maxsize=1)
def load_brain_template() -> BrainTemplate:
    """The template that the package ships."""
    with np.load(FILE) as file:
        return BrainTemplate(
            file["magnitude"].astype(np.float32), file["chi"].astype(np.float32) * np.float32(CHI_SCALE_PPM),
            file["mask"], file["affine"], file["labels"], file["labels_affine"],
        )  # fmt: skip


class LayTemplateInputSpec(StepInputSpec):
    """Inputs of `LayTemplate`."""

    magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the gradient echoes")
    chi = File(exists=True, mandatory=True, desc="in ppm")
    mask = File(exists=True, mandatory=True, desc="brain")


class LayTemplateOutputSpec(StepOutputSpec):
    """Outputs of `LayTemplate`: labels without the regions that do not lie on the head, and masks for a picture."""

    labels = File(exists=True, desc="on the grid of the gradient echoes")
    origin = traits.Str(desc="what they are, and how they came onto the grid")
    striatum = File(exists=True, desc="as registered, as all that follow")
    globus_pallidus = File(exists=True)
    thalamus = File(exists=True)
    midbrain_and_cerebellum = File(exists=True)
    internal_capsule = File(exists=True)
    ventricles = File(exists=True)
    frame = File(exists=True, desc="the nuclei, else the brain")


class LayTemplate(Step):
    """Register the package's template of regions to magnitude and susceptibility."""

    input_spec = LayTemplateInputSpec
    output_spec = LayTemplateOutputSpec
    stage = "atlas"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.magnitude)
        brain = read_mask(inputs.mask)
        record = Record(self.stage, "template", HOW, ["fonov2011", "avants2008", "lowekamp2013"])
        laid = LaidTemplate(np.zeros(brain.shape, np.uint8), 0.0, {})
        kept: set[int] = set()
        try:
            laid = lay_brain_template(
                load_brain_template(), read_volume(inputs.magnitude), read_volume(inputs.chi), brain, grid.affine,
                progress=iterations.callback(),
            )  # fmt: skip
            kept = self._judged(laid, record)
        except (ValueError, RuntimeError) as error:  # it must not cost the table, let alone the map
            text = f"The template of regions could not be registered: {error} No values are given in its regions."
            record.warn(Warning("template-not-registered", text, "Give a segmentation, or take --roi-template none."))
        labels = np.where(np.isin(laid.labels, list(kept)), laid.labels, 0).astype(np.uint8)
        record.state(Fact("labels_on_grid", "labels on the grid", "", int(np.unique(labels[labels > 0]).size)))
        self._results["labels"] = write_volume(folder / "labels.nii", labels, grid)
        self._results["origin"] = HOW
        self._write_outlines(folder, laid.labels, brain, grid)
        return record

    @staticmethod
    def _judged(laid: LaidTemplate, record: Record) -> set[int]:
        """The regions that lie on the head, and what is told of the registration."""
        each = [f"{name} {laid.region_correlations[number]:.2f}" for number, name in NAMES.items()]
        record.state(
            Fact("correlation", "correlation of susceptibility around the nuclei", "", laid.correlation),
            Fact("region_correlations", "the same around each region", "", each),
        )
        if laid.correlation < SMALLEST_CORRELATION:
            record.warn(
                Warning(
                    "template-correlation",
                    f"The registered template's nuclei correlate with the map by only {laid.correlation:.2f} (limit "
                    f"{SMALLEST_CORRELATION:g}), so that no values are given in its regions.",
                    "Look at the outlines over the map; give a segmentation for regional values.",
                )
            )
            return set()
        poor = [n for n in NAMES if n <= LAST_NUCLEUS and laid.region_correlations[n] < SMALLEST_OF_REGION]
        if poor:
            names = listed([NAMES[number] for number in poor], 10)
            record.note(Note("template-regions-withheld", f"No values in {names}, where the template does not fit."))
        return set(NAMES) - set(poor)

    def _write_outlines(self, folder: Path, labels: np.ndarray, brain: np.ndarray, grid: Grid) -> None:
        """Masks of the groups of regions, as registered, and the nuclei, around which the picture is cut."""
        for group, endings in OUTLINES.items():
            members = [number for number, name in NAMES.items() if name.endswith(endings)]
            self._results[group] = write_volume(folder / f"{group}.nii", np.isin(labels, members), grid)
        nuclei = (labels > 0) & (labels <= LAST_NUCLEUS)
        self._results["frame"] = write_volume(folder / "frame.nii", nuclei if nuclei.any() else brain, grid)
