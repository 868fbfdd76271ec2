"""Node of referencing: where susceptibility is zero, and the numbers of the common reference regions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.analysis.regions import COMMON_REFERENCES, REFERENCE_NAMES, find_reference
from qsmprep.findings import Fact, Note, Warning, key_of
from qsmprep.interfaces.images import read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec, parameters
from qsmprep.inversion.reference import RegionNumbers, in_whole_brain_map, reference_to
from qsmprep.masking.ventricles import MINIMUM_VOXELS, csf_mask, enough_csf
from qsmprep.phase.sign import SignCheck, chi_sign_is_plausible
from qsmprep.settings import ReferenceOptions

REFERENCE_TITLES = {
    "whole-brain": "the mean of the whole-brain mask",
    "csf": "the mean of the cerebrospinal fluid of the ventricles",
    "segmentation": "the mean of a region of a given segmentation",
    "none": "no region (the mean is as the inversion left it)",
}
WHOLE_BRAIN = "whole_brain"


@dataclass(frozen=True)
class FoundRegion:
    """A region to be measured: what it is called, where it comes from, and its voxels (None: the whole mask)."""

    name: str
    origin: str
    voxels: np.ndarray | None


class ReferenceInputSpec(StepInputSpec):
    """Inputs of `Reference`."""

    chi = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    r2star = File(exists=True, desc="in 1/s; where given, the map's sign is tested and the ventricles found by it")
    label = traits.Str("", usedefault=True, desc="which of several maps this is")
    segmentation = File(exists=True, desc="label image that holds the region of the reference segmentation")
    index = traits.Int(desc="label of that region")
    region_name = traits.Str(desc="what that label is called")
    segmentations = traits.List(File(exists=True), desc="label images on the grid of the map")
    labels = traits.List(traits.Str, desc="what messages call each")
    region_names = traits.List(traits.Dict, desc="number (as text) to name of the regions of each")
    joint = traits.Bool(False, usedefault=True, desc="of several orientations: only the whole brain is measured")
    options = traits.Dict()


class ReferenceOutputSpec(StepOutputSpec):
    """Susceptibility."""

    chi = File(exists=True, desc="susceptibility in ppm")


class Reference(Step):
    """Set where susceptibility is zero, and measure the common reference regions."""

    input_spec = ReferenceInputSpec
    output_spec = ReferenceOutputSpec
    stage = "reference"

    def _compute(self, folder: Path) -> Record:
        options = ReferenceOptions(**(self.inputs.options or {}))
        main, chi, mask = options.main, read_volume(self.inputs.chi), read_mask(self.inputs.mask)
        csf, given = self._csf(options, mask), self._given(options, mask)
        region = None
        if main == "csf":
            if csf is None:
                raise ValueError("The reference csf needs R2*, which this map lacks: choose another --reference.")
            region = enough_csf(csf)
        elif main == "segmentation":
            if given is None or not given.any():
                raise ValueError(f"{self._nothing_in_label()}; choose another --reference-label.")
            region = given
        result, measured = reference_to(chi, mask, region=region), in_whole_brain_map(chi, mask, region=region)
        title = REFERENCE_TITLES[main] + (f" ({self.inputs.label})" if self.inputs.label else "")
        record = Record(self.stage, main, title, [], parameters(options), label=self.inputs.label)
        record.state(
            Fact("region", "region", "", self.inputs.region_name if main == "segmentation" else main),
            Fact("region_voxels", "voxels of the region", "", measured.voxels),
            Fact("mean_before", "mean before subtraction", "ppm", result.mean_ppm),
            Fact("mean_in_whole_brain_map", "mean with the whole brain at zero", "ppm", measured.mean_ppm),
            Fact("sd", "standard deviation", "ppm", result.sd_ppm),
        )
        found = self._found(options, mask, csf, given)
        for key, one in found.items():
            record.state(*_numbers(key, one.name, in_whole_brain_map(chi, mask, region=one.voxels)))
            record.note(Note("reference-origin", f"{one.name}: {one.origin}."))
        if not self.inputs.joint:
            self._tell_missing(record, options, found, csf)
        if isdefined(self.inputs.r2star):
            _tell_sign(record, chi_sign_is_plausible(chi, read_volume(self.inputs.r2star), mask))
        chi = chi if main == "none" else result.chi_ppm
        self._results["chi"] = write_volume(folder / "chi.nii", chi, read_grid(self.inputs.chi))
        return record

    def _csf(self, options: ReferenceOptions, mask: np.ndarray) -> np.ndarray | None:
        """The fluid of the ventricles, found by R2*; None where there is no R2*."""
        if not isdefined(self.inputs.r2star):
            return None
        voxel_size_mm = read_grid(self.inputs.chi).voxel_size_mm
        rate = read_volume(self.inputs.r2star)
        return csf_mask(rate, mask, voxel_size_mm=voxel_size_mm, largest_r2star=options.csf_r2star)

    def _given(self, options: ReferenceOptions, mask: np.ndarray) -> np.ndarray | None:
        """The part of the label chosen as a reference where the map is valid; None where none was chosen."""
        if "segmentation" not in options.chosen():
            return None
        return (read_volume(self.inputs.segmentation) == self.inputs.index) & mask

    def _found(
        self, options: ReferenceOptions, mask: np.ndarray, csf: np.ndarray | None, given: np.ndarray | None
    ) -> dict[str, FoundRegion]:
        """Every reference region that can be measured in the map, by its key."""
        found = {WHOLE_BRAIN: FoundRegion(COMMON_REFERENCES[WHOLE_BRAIN], "the mask of the map", None)}
        if csf is not None and np.count_nonzero(csf) >= MINIMUM_VOXELS:
            origin = f"the ventricles, found by R2* below {options.csf_r2star:g} 1/s near the centre of the brain"
            found["csf"] = FoundRegion(COMMON_REFERENCES["csf"], origin, csf)
        names = [{int(index): name for index, name in table.items()} for table in self.inputs.region_names or []]
        images = [read_volume(path).astype(np.int32) for path in self.inputs.segmentations or []]
        laid = list(zip(self.inputs.labels or [], images, names, strict=True))
        for key in [key for key in REFERENCE_NAMES if key not in found]:
            region = find_reference(key, laid)
            if region is not None and (region[0] & mask).any():
                found[key] = FoundRegion(COMMON_REFERENCES[key], region[1], region[0])
        if given is not None and given.any():
            name, image = self.inputs.region_name, Path(self.inputs.segmentation).name
            found[_key_of_label(name)] = FoundRegion(name, f"label {self.inputs.index} of {image}", given)
        return found

    def _tell_missing(
        self, record: Record, options: ReferenceOptions, found: dict[str, FoundRegion], csf: np.ndarray | None
    ) -> None:
        """Say which common reference regions were not found, and what would give them."""
        missing = [COMMON_REFERENCES[key] for key in REFERENCE_NAMES if key not in found]
        record.state(Fact("references_missing", "common reference regions not found", "", missing))
        why = "there is no R2* to find it by"
        if csf is not None:
            count = np.count_nonzero(csf)
            why = f"only {count} voxels of low R2* near the brain's centre, fewer than the {MINIMUM_VOXELS} needed"
        if missing:
            reason = "" if "csf" in found else f" Cerebrospinal fluid: {why}."
            text = (
                f"No segmentation has these reference regions, so they have no numbers: {', '.join(missing)}.{reason}"
            )
            remedy = "Give one that has them by --derivatives NAME=PATH or --segmentation-file, without --no-roi."
            record.note(Note("references-missing", f"{text} {remedy}"))
        asked = options.chosen()[1:]
        problems = [f"--reference csf: {why}"] if "csf" in asked and "csf" not in found else []
        if "segmentation" in asked and _key_of_label(self.inputs.region_name) not in found:
            problems.append(f"--reference segmentation: {self._nothing_in_label()}")
        if problems:
            text = f"A reference region that was asked for was not found: {'; '.join(problems)}."
            remedy = "Raise --reference-csf-r2star, or give a segmentation that has the region inside the mask."
            record.warn(Warning("reference-not-found", text, remedy))

    def _nothing_in_label(self) -> str:
        """That the chosen label has no valid voxel."""
        return f"{self.inputs.segmentation}: no voxel of {self.inputs.region_name!r} lies where susceptibility is valid"


def _key_of_label(name: str) -> str:
    """The key of a label in facts, which is no other region's."""
    key = key_of(name)
    return f"segmentation_{key}" if key in COMMON_REFERENCES else key


def _numbers(key: str, name: str, numbers: RegionNumbers) -> tuple[Fact, ...]:
    """Mean, spread and size of a region in the whole-brain-referenced map."""
    return (
        Fact(f"reference_{key_of(key)}_mean", f"{name}: mean with the whole brain at zero", "ppm", numbers.mean_ppm),
        Fact(f"reference_{key_of(key)}_sd", f"{name}: standard deviation", "ppm", numbers.sd_ppm),
        Fact(f"reference_{key_of(key)}_voxels", f"{name}: voxels", "", numbers.voxels),
    )


def _tell_sign(record: Record, check: SignCheck) -> None:
    """Note that iron is paramagnetic in the map, or warn that it is not."""
    text = f"Sign test: {check.reason}."
    if check.plausible:
        record.note(Note("sign-test", text))
    else:
        remedy = "Compare bright nuclei with R2*: if iron is dark, run again with --phase-sign invert."
        record.warn(Warning("chi-sign", text, remedy))
