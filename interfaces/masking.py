"""Nodes of the consensus masks 1 to 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep import registry
from qsmprep.bids.masks import edge_warning, read_given_mask
from qsmprep.bids.problem import Problem
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import Grid, read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import (
    MethodInputSpec,
    MethodStep,
    Record,
    Step,
    StepInputSpec,
    StepOutputSpec,
    code_of,
    loaded_network,
    parameters,
)
from qsmprep.masking.bet import BetOptions, brain_image
from qsmprep.masking.consensus import (
    BackgroundMaskOptions,
    ReliableMaskOptions,
    background_mask,
    reliable_mask,
)
from qsmprep.masking.plausibility import cut_ends, doubts
from qsmprep.masking.robust import robust_mask
from qsmprep.masking.tissue import decay_rate

NETWORK = "net"  # the method that comes in where another's mask has not the shape of a brain
SMALL_BRAIN_L = 0.2  # less than that of a newborn
CUT_REACH_MM = 20  # see docs/odd-data.md
IMAGE_TITLES = {
    "first-echo": "first-echo magnitude",
    "root-sum-of-squares": "root sum of squares of the magnitude over the echoes",
}
JOINED = {
    True: "the largest component of the overlap of both, holes filled",
    False: "the largest component of the overlap of both",
}


class MaskOutputSpec(StepOutputSpec):
    """A mask."""

    mask = File(exists=True)


class BrainImageInputSpec(StepInputSpec):
    """Inputs of `BrainImage`."""

    magnitude = File(exists=True, mandatory=True, desc="magnitude of all echoes")
    image = traits.Str(mandatory=True, desc="first-echo or root-sum-of-squares")


class BrainImageOutputSpec(StepOutputSpec):
    """Outputs of `BrainImage`."""

    out_file = File(exists=True)


class BrainImage(Step):
    """The image that brain extraction works on."""

    input_spec = BrainImageInputSpec
    output_spec = BrainImageOutputSpec
    stage = "mask-image"

    def _compute(self, folder: Path) -> Record:
        image = brain_image(read_volume(self.inputs.magnitude), options=BetOptions(image=self.inputs.image))
        self._results["out_file"] = write_volume(folder / "brain_image.nii", image, read_grid(self.inputs.magnitude))
        return Record(self.stage, self.inputs.image, IMAGE_TITLES[self.inputs.image])


class ExtractBrainInputSpec(MethodInputSpec):
    """Inputs of `ExtractBrain`."""

    image = File(exists=True, mandatory=True, desc="magnitude image of the head")
    magnitude = File(exists=True, desc="magnitude of all echoes, whose decay tells marrow and bone from brain")
    echo_times = traits.List(traits.Float, desc="in seconds")
    second_network = File(exists=True, desc="weights of a mask network, for a mask that has no brain's shape")
    second_card = File(exists=True, desc="their card")


class ExtractBrain(MethodStep):
    """Consensus mask 1: the brain; by a network where the chosen method's mask has not the shape of one."""

    input_spec = ExtractBrainInputSpec
    output_spec = MaskOutputSpec
    stage = "mask"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.image)
        decay = None
        if isdefined(self.inputs.magnitude) and isdefined(self.inputs.echo_times):
            decay = decay_rate(read_volume(self.inputs.magnitude), self.inputs.echo_times)
        available = {
            "image": read_volume(self.inputs.image), "scan": scan_of(grid, self.inputs),
            "superior_direction": grid.superior_direction, "anterior_direction": world_direction(grid, 1),
        }  # fmt: skip
        mask, record = self._run_method(**available, decay=decay)
        if isdefined(self.inputs.second_network) and (found := _doubts(mask, grid)):
            second = self._second(available, grid, found)
            if isinstance(second, Note):
                record.note(second)
            else:
                mask, record = second
        add_volume(record, mask, grid, "brain")
        self._results["mask"] = write_volume(folder / "brain_mask.nii", mask, grid)
        return record

    @classmethod
    def code(cls, inputs: StepInputSpec) -> tuple[str, ...]:
        """That of the chosen method, and of the network where it may come in."""
        second = code_of(cls.stage, NETWORK) if isdefined(inputs.second_network) else ()
        return (*super().code(inputs), *second)

    def _second(self, available: dict[str, Any], grid: Grid, found: list[str]) -> tuple[np.ndarray, Record] | Note:
        """The mask of the network and its record; why not, where it refuses or has no brain's shape either."""
        first, method = registry.find(self.stage, self.inputs.method), registry.find(self.stage, NETWORK)
        options_type = method.options_type()
        options = options_type() if options_type else None
        record = Record(self.stage, method.name, method.title, list(method.citations), parameters(options))
        network = loaded_network(self.inputs.second_network, record, self.inputs.device)
        try:
            mask = method.run(options, network=network, device=self.inputs.device, **available)
        except ValueError as error:
            return Note("mask-network-refused", f"The mask network was asked too: {error}")
        if own := _doubts(mask, grid):
            return Note("mask-network-doubted", f"Nor has the network's mask the shape of a brain: {'; '.join(own)}.")
        record.warn(
            Warning(
                "mask-by-network",
                f"The mask of {first.title} did not have the shape of a brain ({'; '.join(found)}): this one is a "
                "network's.",
                f"Look at the outline of mask 1; --mask {first.name} keeps the other, and --mask-file takes your own.",
            )
        )
        return mask, record


class ImportMaskInputSpec(StepInputSpec):
    """Inputs of `ImportMask`."""

    in_file = File(exists=True, mandatory=True, desc="mask made elsewhere")
    like = File(exists=True, mandatory=True, desc="image whose grid the mask must have")
    origin = traits.Str(mandatory=True, desc="where the mask comes from, in words")
    title = traits.Str("given mask", usedefault=True)
    citations = traits.List(traits.Str)
    parameters = traits.List(traits.Dict, desc="what the program that made it was given")


class ImportMask(Step):
    """Consensus mask 1 taken from elsewhere: checked against the grid and made binary."""

    input_spec = ImportMaskInputSpec
    output_spec = MaskOutputSpec
    stage = "mask"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.like)
        given = read_given_mask(Path(self.inputs.in_file), grid)
        if isinstance(given, Problem):
            raise ValueError(str(given))
        mask = given.mask
        record = Record(self.stage, "imported", self.inputs.title, list(self.inputs.citations or []))
        record.note(Note("mask-origin", f"Brain mask: {self.inputs.origin}."), *given.notes)
        if edges := edge_warning(mask):
            record.warn(edges)
        record.parameters = [dict(item) for item in self.inputs.parameters or []]
        add_volume(record, mask, grid, "brain")
        self._results["mask"] = write_volume(folder / "brain_mask.nii", mask, grid)
        return record


class FindHeadInputSpec(StepInputSpec):
    """Inputs of `FindHead`."""

    magnitude = File(exists=True, mandatory=True, desc="magnitude of all echoes")
    brain_mask = File(exists=True, mandatory=True)


class FindHead(Step):
    """Where the field is mapped for a network that is given no mask: the brain and all that has signal."""

    input_spec = FindHeadInputSpec
    output_spec = MaskOutputSpec
    stage = "field-mask"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.brain_mask)
        image = brain_image(read_volume(self.inputs.magnitude), options=BetOptions(image="first-echo"))
        mask = read_mask(self.inputs.brain_mask) | robust_mask(image)
        record = Record(self.stage, "head", "the whole head, as the network asks that is given no mask")
        add_volume(record, mask, grid, "the head")
        self._results["mask"] = write_volume(folder / "head_mask.nii", mask, grid)
        return record


class ReliableMaskInputSpec(StepInputSpec):
    """Inputs of `FindReliable`."""

    quality = File(exists=True, desc="quality map of the unwrapping")
    noise = File(exists=True, desc="noise map of the field")
    brain_mask = File(exists=True, mandatory=True)
    options = traits.Dict()


class FindReliable(Step):
    """Consensus mask 2: where the phase is reliable."""

    input_spec = ReliableMaskInputSpec
    output_spec = MaskOutputSpec
    stage = "reliable-mask"

    def _compute(self, folder: Path) -> Record:
        options = ReliableMaskOptions(**(self.inputs.options or {}))
        maps = {
            name: read_volume(getattr(self.inputs, name))
            for name in ("quality", "noise")
            if isdefined(getattr(self.inputs, name))
        }
        mask = reliable_mask(**maps, options=options)
        brain = read_mask(self.inputs.brain_mask)
        grid = read_grid(self.inputs.brain_mask)
        record = Record(self.stage, options.source, f"a threshold of the {options.source} map", [], parameters(options))
        share = 100 * float((brain & ~mask).sum() / brain.sum())
        record.state(Fact("unreliable_share", "unreliable voxels in the brain", "%", share))
        self._results["mask"] = write_volume(folder / "reliable_mask.nii", mask, grid)
        return record


class BackgroundMaskInputSpec(StepInputSpec):
    """Inputs of `JoinMasks`."""

    brain_mask = File(exists=True, mandatory=True)
    reliable_mask = File(exists=True, mandatory=True)
    options = traits.Dict()


class BackgroundMaskOutputSpec(MaskOutputSpec):
    """Outputs of `JoinMasks`."""

    eroded = File(exists=True, desc="the mask eroded, which background field removal works on")


class JoinMasks(Step):
    """Consensus mask 3: brain and reliable phase, holes filled; and its eroded form."""

    input_spec = BackgroundMaskInputSpec
    output_spec = BackgroundMaskOutputSpec
    stage = "background-mask"

    def _compute(self, folder: Path) -> Record:
        options = BackgroundMaskOptions(**(self.inputs.options or {}))
        grid = read_grid(self.inputs.brain_mask)
        found = background_mask(
            read_mask(self.inputs.brain_mask), read_mask(self.inputs.reliable_mask), options=options
        )
        record = Record(self.stage, "joined", JOINED[options.fill_holes], [], parameters(options))
        add_volume(record, found.mask, grid, "mask 3")
        record.state(
            Fact("unreliable_voxels", "unreliable voxels in the brain", "", found.unreliable_voxels),
            Fact("holes_filled", "holes were filled", "", options.fill_holes),
            Fact("filled_voxels", "voxels filled", "", found.filled_voxels),
            Fact("detached_voxels", "voxels detached", "", found.detached_voxels),
            Fact("mask_voxels", "voxels of mask 3", "", found.mask_voxels),
            Fact("eroded_voxels", "voxels after erosion", "", found.eroded_voxels),
        )
        kept = found.mask_voxels / found.brain_voxels
        if kept < 0.7:
            record.warn(
                Warning(
                    "background-mask-small",
                    f"Only {100 * kept:.0f} % of the brain mask is left for background field removal.",
                    "Look at the quality map: motion, low signal or a wrong phase scaling; loosen the threshold of the "
                    "reliable mask if it looks good.",
                )
            )
        self._results["mask"] = write_volume(folder / "background_mask.nii", found.mask, grid)
        self._results["eroded"] = write_volume(folder / "eroded_mask.nii", found.eroded, grid)
        return record


def add_volume(record: Record, mask: np.ndarray, grid: Grid, name: str) -> None:
    """State a mask's size; of the brain also what the volume cuts off, and a size or a shape that heads do not have."""
    litres = float(mask.sum() * np.prod(grid.voxel_size_mm) * 1e-6)
    record.state(Fact("volume", f"volume of {name}", "L", litres))
    if name != "brain":
        return
    ends = cut_ends(mask)
    if ends:
        record.warn(_slab(mask, grid, ends))
    elif litres < SMALL_BRAIN_L:
        record.warn(
            Warning(
                "small-brain",
                f"The brain mask holds {1000 * litres:.2g} mL: no human brain. BET enlarges a head shorter "
                "than 80 mm to a human one, which an animal's is not.",
                "Look at the outline of mask 1; give a mask by --mask-file if it is not good. Lengths of later steps "
                "are for human brains: take --v-sharp-radius-unit voxel.",
            )
        )
    elif not 0.6 <= litres <= 2.2:
        record.warn(
            Warning(
                "brain-volume",
                f"The brain mask holds {litres:.2f} L; adult brains have about 0.9 to 1.9 L.",
                "Look at the outline of mask 1; set --bet-fractional-intensity, or give a mask by --mask-file.",
            )
        )
    if found := _doubts(mask, grid):
        record.warn(
            Warning(
                "brain-shape",
                f"The brain mask does not have the shape of a brain: {'; '.join(found)}.",
                "Look at the outline of mask 1 for neck, orbits, scalp or lost brain; set --bet-fractional-intensity, "
                "or give a mask by --mask-file.",
            )
        )


def _slab(mask: np.ndarray, grid: Grid, ends: Sequence[tuple[int, int]]) -> Warning:
    """What it costs that the volume ends inside the brain."""
    names = [grid.end_name(axis, end) for axis, end in ends]
    across = sorted({axis for axis, _ in ends})
    lengths = (
        mask.any(axis=tuple(o for o in range(3) if o != axis)).sum() * grid.voxel_size_mm[axis] for axis in across
    )
    size = " and ".join(f"{length:.0f} mm" for length in lengths)
    return Warning(
        "brain-cut",
        f"The volume cuts the brain ({', '.join(names)}), of which it holds {size}: the slices next to the cut are "
        f"lost, susceptibility within about {CUT_REACH_MM} mm of it is unsure, as the field of what lies beyond cannot "
        "be told from background, and the whole-brain reference is the mean over what the volume holds of it.",
        "Acquire the whole brain where you can; else compare only scans with the same coverage, away from the cut, "
        "against a region inside (--reference segmentation or csf).",
    )


def _doubts(mask: np.ndarray, grid: Grid) -> list[str]:
    return doubts(mask, grid.voxel_size_mm, grid.superior_direction, world_direction(grid, 0))


def world_direction(grid: Grid, axis: int) -> tuple[float, float, float]:
    """Unit vector towards the right (0) or the front (1) of the head in voxel axes."""
    first, second, third = (float(part) for part in grid.affine[axis, :3] / np.array(grid.voxel_size_mm))
    return first, second, third
