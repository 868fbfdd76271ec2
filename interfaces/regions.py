"""Nodes of regional values: measure the maps in regions, write the table and the segmentations."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from qsmprep.analysis.brain_template import RESIDUAL_MM
from qsmprep.analysis.placement import placement_errors
from qsmprep.analysis.regions import (
    REFERENCE_NAMES,
    RegionalValue,
    RegionOptions,
    ValueMap,
    erode_labels,
    find_reference,
    label_values,
    region_value,
)
from qsmprep.bids.grid import grid_of
from qsmprep.bids.images import open_image
from qsmprep.bids.names import listed
from qsmprep.bids.outputs import write_json, write_labels, write_text
from qsmprep.bids.roi_table import MAPS, columns_document, dseg_path, dseg_table, roi_path, table_text
from qsmprep.findings import Fact, Note, Warning, key_of
from qsmprep.interfaces.images import read_grid, read_mask, read_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec, parameters
from qsmprep.masking.ventricles import MINIMUM_VOXELS, csf_mask

REFERENCE = "reference"  # what the table calls the regions that are always measured


class MeasureRegionsInputSpec(StepInputSpec):
    """Inputs of `MeasureRegions`."""

    chi = File(exists=True, mandatory=True, desc="referenced susceptibility in ppm of the main inversion")
    mask = File(exists=True, mandatory=True, desc="consensus mask 4")
    brain_mask = File(exists=True, mandatory=True, desc="consensus mask 1")
    r2star = File(exists=True, desc="in 1/s")
    para = File(exists=True, desc="in ppm")
    dia = File(exists=True, desc="in ppm")
    sources_mask = File(exists=True, desc="where both sources are valid")
    segmentations = traits.List(File(exists=True), desc="label images on the grid of the maps")
    labels = traits.List(traits.Str, desc="what the table calls each")
    region_names = traits.List(traits.Dict, desc="number (as text) to name of the regions of each")
    origins = traits.List(traits.Str, desc="which file each is, and how it came onto the grid")
    registered = traits.Str(desc="label of the one for which the package's template was registered")
    options = traits.Dict()
    csf_r2star = traits.Float(5.0, usedefault=True, desc="R2* in 1/s below which a central voxel is fluid")


class MeasureRegionsOutputSpec(StepOutputSpec):
    """Outputs of `MeasureRegions`."""

    table = File(exists=True, desc="TSV")
    columns = File(exists=True, desc="JSON: what each column is")


class MeasureRegions(Step):
    """Mean, spread and percentiles of every map in every region."""

    input_spec = MeasureRegionsInputSpec
    output_spec = MeasureRegionsOutputSpec
    stage = "regions"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        options = RegionOptions(**(inputs.options or {}))
        maps, labels = self._maps(), list(inputs.labels or [])
        title = "mean, standard deviation and percentiles of the maps in regions, inside consensus mask 4"
        record = Record(self.stage, "statistics", title, [], parameters(options))
        images = [
            erode_labels(read_volume(path).astype(np.int32), options.erosion) for path in inputs.segmentations or []
        ]
        names = [{int(index): name for index, name in table.items()} for table in inputs.region_names or []]
        references, told = self._reference_regions(images, names, maps[0].mask)
        rows: list[tuple[str, RegionalValue]] = []
        moved = partial(placement_errors, voxel_size_mm=read_grid(inputs.chi).voxel_size_mm, shift_mm=RESIDUAL_MM)
        for number, (name, region) in enumerate(references.items(), start=1):
            rows += [(REFERENCE, region_value(region, value_map, index=number, name=name)) for value_map in maps]
        for label, image, table in zip(labels, images, names, strict=True):
            own = [label_values(image, table, value_map) for value_map in maps]
            if label == inputs.registered:
                errors = [moved(image, value_map, means) for value_map, means in zip(maps, own, strict=True)]
                own = [
                    tuple(replace(value, placement_error=known[value.index]) for value in values)
                    for values, known in zip(own, errors, strict=True)
                ]
            rows += [(label, value) for values in zip(*own, strict=True) for value in values]
        origins = dict(zip(labels, inputs.origins or [], strict=True))
        self._tell(record, rows, told, origins, options)
        (folder / "stats.tsv").write_text(table_text(rows), encoding="utf-8")
        origins[REFERENCE] = "Regions that are always measured."
        document = columns_document(origins, told, [value_map.name for value_map in maps])
        (folder / "stats.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        self._results |= {"table": str(folder / "stats.tsv"), "columns": str(folder / "stats.json")}
        return record

    def _maps(self) -> list[ValueMap]:
        """The maps there are, each with the part of mask 4 in which it is valid."""
        inputs, mask = self.inputs, read_mask(self.inputs.mask)
        sources = read_mask(inputs.sources_mask) & mask if isdefined(inputs.sources_mask) else mask
        found = []
        for name, trait in (("chi", "chi"), ("chi_para", "para"), ("chi_dia", "dia"), ("r2star", "r2star")):
            path = getattr(inputs, trait)
            if isdefined(path):
                valid = sources if trait in ("para", "dia") else mask
                found.append(ValueMap(name, MAPS[name][0], read_volume(path), valid))
        return found

    def _reference_regions(
        self, images: list[np.ndarray], names: list[dict[int, str]], mask: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The reference regions, and where each comes from: the first segmentation that has it."""
        regions = {"whole_brain": read_mask(self.inputs.brain_mask)}
        told = {"whole_brain": "Reference region: the brain (consensus mask 1)."}
        labels = list(self.inputs.labels or [])
        given = [label != self.inputs.registered for label in labels]
        for name in REFERENCE_NAMES:
            # Fluid is found by its decay better than by a template.
            usable = [True] * len(labels) if name != "csf" else given
            found = find_reference(name, compress(zip(labels, images, names, strict=True), usable))
            if found is None:
                regions[name], told[name] = self._without_segmentation(name, mask)
            else:
                regions[name], told[name] = found[0], f"Reference region: {found[1]}."
        return regions, told

    def _without_segmentation(self, name: str, mask: np.ndarray) -> tuple[np.ndarray, str]:
        """A reference region that no segmentation has: fluid is found by its slow decay, the others stay empty."""
        nothing = np.zeros(mask.shape, bool)
        if name != "csf":
            return nothing, "Reference region: no segmentation has it, so n is 0."
        if not isdefined(self.inputs.r2star):
            return nothing, "Reference region: no segmentation has it and there is no R2* to find it by, so n is 0."
        limit = self.inputs.csf_r2star
        found = csf_mask(
            read_volume(self.inputs.r2star), mask, voxel_size_mm=read_grid(self.inputs.r2star).voxel_size_mm,
            largest_r2star=limit,
        )  # fmt: skip
        text = f"Reference region: ventricles found by R2* below {limit:g} 1/s near the brain's centre."
        count = int(np.count_nonzero(found))
        if count < MINIMUM_VOXELS:
            text += f" Only {count} voxels, fewer than the {MINIMUM_VOXELS} that a reference needs."
        return found, text

    def _tell(
        self,
        record: Record,
        rows: list[tuple[str, RegionalValue]],
        told: dict[str, str],
        origins: dict[str, str],
        options: RegionOptions,
    ) -> None:
        chi = [(segmentation, value) for segmentation, value in rows if value.map == "chi"]
        for label, origin in origins.items():
            own = [value for segmentation, value in chi if segmentation == label]
            empty = [value.name for value in own if value.n == 0]
            record.state(Fact(f"regions_of_{key_of(label)}", f"regions of {label}", "", len(own)))
            record.note(Note("segmentation-origin", f"{label}: {origin}."))
            if own and len(empty) == len(own) and label == self.inputs.registered:
                record.note(Note("template-withheld", f"No values in {label}: it does not lie on this head."))
            elif own and len(empty) == len(own):
                record.warn(
                    Warning(
                        "regions-empty",
                        f"No region of {label} has a voxel where susceptibility is valid.",
                        "Look at the segmentation over the map: it must be of this head and session.",
                    )
                )
            elif empty:
                record.note(Note("regions-without-voxels", f"No voxel of {label} is valid in {listed(empty, 10)}."))
        for segmentation, value in chi:
            if segmentation == REFERENCE and value.n:
                label = f"{value.name.replace('_', ' ')}: mean susceptibility"
                record.state(Fact(f"mean_of_{key_of(value.name)}", label, "ppm", value.mean))
        if options.erosion:
            text = f"Regions of segmentations lost {options.erosion} layers of voxels."
            record.note(Note("regions-eroded", text))
        record.note(*(Note("reference-region", f"{name.replace('_', ' ')}: {text}") for name, text in told.items()))


class SaveRegionsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveRegions`."""

    table = File(exists=True, mandatory=True)
    columns = File(exists=True, mandatory=True)
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")


class SavedOutputSpec(TraitedSpec):
    """Outputs of what writes final files."""

    out_file = File(exists=True)


class SaveRegions(SimpleInterface):
    """Write the table of regional values and its description under their final names."""

    input_spec = SaveRegionsInputSpec
    output_spec = SavedOutputSpec
    _always_run = True  # an output that somebody deleted is written again

    def _run_interface(self, runtime):
        inputs = self.inputs
        path = Path(inputs.output_dir) / roi_path(inputs.prefix, ".tsv")
        write_text(path, Path(inputs.table).read_text("utf-8"))
        write_json(path.with_suffix(".json"), json.loads(Path(inputs.columns).read_text("utf-8")))
        self._results["out_file"] = str(path)
        return runtime


class SaveSegmentationInputSpec(BaseInterfaceInputSpec):
    """Inputs of `SaveSegmentation`."""

    labels = File(exists=True, mandatory=True)
    origin = traits.Str(mandatory=True, desc="which file it is, and how it came onto the grid")
    label = traits.Str(mandatory=True, desc="what tables call the segmentation")
    region_names = traits.Dict(desc="number (as text) to name")
    sources = traits.List(traits.Str, desc="BIDS URIs of the label image that it was made from")
    reference = traits.Str(mandatory=True, desc="image of the dataset whose grid it is on, relative to the dataset")
    output_dir = traits.Str(mandatory=True)
    prefix = traits.Str(mandatory=True, desc="stem of the run's output names")


class SaveSegmentation(SimpleInterface):
    """Write a segmentation as it was resampled to the maps, with its table."""

    input_spec = SaveSegmentationInputSpec
    output_spec = SavedOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        path, table, document = (
            Path(inputs.output_dir) / dseg_path(inputs.prefix, inputs.label, extension)
            for extension in (".nii.gz", ".tsv", ".json")
        )
        image = open_image(inputs.labels)
        write_labels(path, np.asanyarray(image.dataobj), grid_of(image))
        write_text(table, dseg_table({int(index): name for index, name in inputs.region_names.items()}))
        reference = f"bids:raw:{inputs.reference}"
        text = f"Regions of {inputs.label} on the grid of the maps: {inputs.origin}."
        sources = {"Sources": list(inputs.sources)} if inputs.sources else {}
        write_json(document, {"Description": text, **sources, "SpatialReference": reference})
        self._results["out_file"] = str(path)
        return runtime
