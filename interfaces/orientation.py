"""Nodes of several orientations: registration to one of them, COSMOS, susceptibility tensor imaging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, isdefined, traits

from qsmprep.bids.outputs import TENSOR
from qsmprep.engine import iterations
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import Grid, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec, parameters
from qsmprep.numerics.units import check_susceptibility_ppm, hz_to_ppm
from qsmprep.orientation.chisep_cosmos import ChisepCosmosOptions, chisep_cosmos
from qsmprep.orientation.cosmos import CosmosOptions, cosmos
from qsmprep.orientation.inputs import Orientations
from qsmprep.orientation.registration import register_rigid, resample, resample_inside
from qsmprep.orientation.rotation import rotated_b0, rotation_angle_deg, world_axes
from qsmprep.orientation.sti import StiOptions, sti
from qsmprep.separation.constants import RelaxometricOptions, constant_facts, constants_at

# What the methods text calls each step, and what it cites.
TITLES = {
    "registration": ("rigid registration of the magnitude by SimpleITK", ["lowekamp2013"]),
    "cosmos": ("COSMOS", ["liu2009"]),
    "sti": ("susceptibility tensor imaging (STI)", ["liu2010"]),
    "chisep-cosmos": ("chi-separation COSMOS", ["shin2021", "liu2009"]),
}


class RegisterOrientationInputSpec(StepInputSpec):
    """Inputs of `RegisterOrientation`."""

    reference_magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the reference's echoes")
    reference_mask = File(exists=True, mandatory=True, desc="brain mask of the reference")
    magnitude = File(exists=True, mandatory=True, desc="root sum of squares of this run's echoes")
    local_field = File(exists=True, mandatory=True, desc="tissue field in Hz")
    mask = File(exists=True, mandatory=True, desc="consensus mask 4")
    noise = File(exists=True, mandatory=True, desc="noise of the field in Hz")
    r2prime = File(exists=True, desc="in 1/s; where sources are separated")
    centre_frequency = traits.Float(mandatory=True, desc="of this run, in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")
    label = traits.Str(mandatory=True, desc="name of the run")
    is_reference = traits.Bool(False, usedefault=True, desc="this run is the reference: nothing is moved")
    smallest_correlation = traits.Float(0.7, usedefault=True, desc="below which a warning is given")


class RegisterOrientationOutputSpec(StepOutputSpec):
    """Outputs of `RegisterOrientation`, images on the reference's grid."""

    local_field = File(exists=True, desc="tissue field in ppm of this run's centre frequency")
    mask = File(exists=True)
    noise = File(exists=True, desc="in ppm")
    r2prime = File(exists=True, desc="in 1/s")
    magnitude = File(exists=True)
    transform = File(exists=True, desc="JSON: world-to-world matrix and B0 in the reference's voxel axes")


class RegisterOrientation(Step):
    """Register one run to the reference. Phase is never resampled: the field is real and may be."""

    input_spec = RegisterOrientationInputSpec
    output_spec = RegisterOrientationOutputSpec
    stage = "registration"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        grid, target = read_grid(inputs.local_field), read_grid(inputs.reference_magnitude)
        record = Record(self.stage, f"rigid-{inputs.label}", *TITLES[self.stage])
        magnitude, mask = read_volume(inputs.magnitude), read_mask(inputs.mask)
        field, noise = (hz_to_ppm(read_volume(path), inputs.centre_frequency) for path in
                        (inputs.local_field, inputs.noise))  # fmt: skip
        r2prime = read_volume(inputs.r2prime) if isdefined(inputs.r2prime) else None
        matrix = np.eye(4)
        if inputs.is_reference:
            record.title = "the reference, not moved"
        else:
            matrix, correlation = register_rigid(
                read_volume(inputs.reference_magnitude), target.affine, magnitude, grid.affine,
                mask=read_mask(inputs.reference_mask),
            )  # fmt: skip
            geometry = (grid.affine, matrix, target.affine, target.shape)
            field, moved_mask = resample_inside(field, mask, *geometry)
            noise, _ = resample_inside(noise, mask, *geometry)
            if r2prime is not None:
                r2prime = np.maximum(resample_inside(r2prime, mask, *geometry)[0], 0)
            noise, magnitude, mask = np.maximum(noise, 0), resample(magnitude, *geometry), moved_mask
            record.state(Fact("correlation", "correlation of the magnitudes", "", correlation))
            if correlation < inputs.smallest_correlation:
                record.warn(
                    Warning(
                        "orientation-correlation",
                        f"{inputs.label}: the registered magnitudes correlate by only {correlation:.2f}.",
                        "Look at them; leave the run out by --bids-filter-file if they do not fit.",
                    )
                )
        b0 = rotated_b0(np.array(inputs.b0_direction or grid.b0_direction), grid.affine, target.affine, matrix)
        turn = rotation_angle_deg(matrix)
        record.state(
            Fact("run", "run", "", inputs.label),
            Fact("turn", "turn of the head", "degrees", turn),
            Fact("b0_direction", "B0 in the voxel axes of the reference", "", b0.tolist()),
            Fact("matrix", "reference world to run world", "mm", matrix.tolist()),
        )
        for name, image in (("local_field", field), ("mask", mask), ("noise", noise), ("magnitude", magnitude)):
            self._results[name] = write_volume(folder / f"{name}.nii", image, target)
        if r2prime is not None:
            self._results["r2prime"] = write_volume(folder / "r2prime.nii", r2prime, target)
        transform = folder / "transform.json"
        transform.write_text(json.dumps({"matrix": matrix.tolist(), "b0": b0.tolist()}), encoding="utf-8")
        self._results["transform"] = str(transform)
        return record


class JoinInputSpec(StepInputSpec):
    """Inputs of a node that joins orientations: outputs of `RegisterOrientation`, in one order."""

    local_fields = InputMultiPath(File(exists=True), mandatory=True, desc="in ppm")
    masks = InputMultiPath(File(exists=True), mandatory=True)
    noises = InputMultiPath(File(exists=True), mandatory=True, desc="in ppm")
    transforms = InputMultiPath(File(exists=True), mandatory=True)
    weighting = traits.Enum("noise", "none", usedefault=True)
    options = traits.Dict()
    device = traits.Str("cpu", usedefault=True, nohash=True, desc="where the solver runs: cpu or cuda")


class CosmosOutputSpec(StepOutputSpec):
    """Outputs of `Cosmos`."""

    chi = File(exists=True, desc="susceptibility in ppm")
    mask = File(exists=True, desc="where every orientation is valid")


class StiOutputSpec(StepOutputSpec):
    """Outputs of `Sti`, in ppm."""

    mean = File(exists=True)
    anisotropy = File(exists=True)
    chi11 = File(exists=True)
    chi22 = File(exists=True)
    chi33 = File(exists=True)
    chi12 = File(exists=True)
    chi13 = File(exists=True)
    chi23 = File(exists=True)
    offdiagonal = File(exists=True)
    mask = File(exists=True, desc="where every orientation is valid")


class _Join(Step):
    """What joining nodes share."""

    input_spec = JoinInputSpec

    def _orientations(self) -> tuple[Grid, Orientations]:
        """The grid and what lies on it."""
        inputs, grid = self.inputs, read_grid(self.inputs.local_fields[0])
        masks = np.stack([read_mask(path) for path in inputs.masks])
        if not masks.all(axis=0).any():
            raise ValueError("No voxel is valid in every orientation: look at the registrations and at the masks.")
        directions = [json.loads(Path(path).read_text("utf-8"))["b0"] for path in inputs.transforms]
        return grid, Orientations(
            fields_ppm=np.stack([read_volume(path) for path in inputs.local_fields]),
            mask=np.asarray(masks.all(axis=0)),
            voxel_size_mm=grid.voxel_size_mm,
            b0_directions=np.array(directions),
            weights=self._weights(masks) if inputs.weighting == "noise" else None,
        )

    def _weights(self, masks: np.ndarray) -> np.ndarray:
        """1/noise inside each run's mask, the 99th percentile and more being 1."""
        noise = np.stack([read_volume(path) for path in self.inputs.noises])
        known = masks & np.isfinite(noise) & (noise > 0)
        weights = np.zeros(noise.shape, np.float32)
        weights[known] = 1 / noise[known]
        return np.minimum(weights / np.percentile(weights[known], 99), 1)

    def _record(self, method: str, options: Any, result: Any, condition: float | None = None) -> Record:
        record = Record(self.stage, method, *TITLES[method], parameters(options))
        record.add_convergence(result.convergence)
        record.warn(*result.warnings)
        condition = result.condition if condition is None else condition
        record.state(
            Fact("orientations", "orientations", "", len(self.inputs.local_fields)),
            Fact("condition_number", "condition number of the orientations", "", condition),
        )
        weighted = self.inputs.weighting == "noise"
        record.note(Note("weighting", "Weighted by 1/noise." if weighted else "Not weighted: closed form."))
        return record


class Cosmos(_Join):
    """Tissue fields of several orientations to susceptibility."""

    output_spec = CosmosOutputSpec
    stage = "cosmos"

    def _compute(self, folder: Path) -> Record:
        options = CosmosOptions(**(self.inputs.options or {}))
        grid, orientations = self._orientations()
        result = cosmos(orientations, options=options, device=self.inputs.device, progress=iterations.callback())
        check_susceptibility_ppm(result.chi_ppm, result.mask)
        self._results["chi"] = write_volume(folder / "chi.nii", result.chi_ppm, grid)
        self._results["mask"] = write_volume(folder / "mask.nii", result.mask, grid)
        return self._record("cosmos", options, result)


class Sti(_Join):
    """Tissue fields of several orientations to a susceptibility tensor."""

    output_spec = StiOutputSpec
    stage = "sti"

    def _compute(self, folder: Path) -> Record:
        options = StiOptions(**(self.inputs.options or {}))
        grid, orientations = self._orientations()
        # The laboratory's z is B0 of the reference, whose own direction the user may have given.
        axes = _laboratory(grid, orientations.b0_directions[0])
        result = sti(
            orientations, laboratory_axes=axes, options=options, device=self.inputs.device,
            progress=iterations.callback(),
        )  # fmt: skip
        check_susceptibility_ppm(result.mean_ppm, result.mask)
        for name in ("mean", "anisotropy", *TENSOR, "offdiagonal"):
            image = getattr(result, f"{name}_ppm")
            self._results[name] = write_volume(folder / f"{name}.nii", image, grid)
        self._results["mask"] = write_volume(folder / "mask.nii", result.mask, grid)
        record = self._record("sti", options, result)
        record.state(
            Fact(
                "laboratory_axes", "x, y, z of the tensor in the voxel axes of the reference", "",
                result.laboratory_axes.tolist(),
            )
        )  # fmt: skip
        return record


class ChisepCosmosInputSpec(JoinInputSpec):
    """Inputs of `ChisepCosmos`."""

    r2primes = InputMultiPath(File(exists=True), mandatory=True, desc="in 1/s")
    field_strength = traits.Float(mandatory=True, desc="in tesla")
    relaxometric = traits.Dict(desc="relaxometric constants at 3 T")


class ChisepCosmosOutputSpec(StepOutputSpec):
    """Outputs of `ChisepCosmos`, in ppm."""

    para = File(exists=True)
    dia = File(exists=True, desc=">= 0")
    mask = File(exists=True, desc="where every orientation is valid")


class ChisepCosmos(_Join):
    """Tissue fields and R2' of several orientations to both sources."""

    input_spec = ChisepCosmosInputSpec
    output_spec = ChisepCosmosOutputSpec
    stage = "chisep-cosmos"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        options = ChisepCosmosOptions(**(inputs.options or {}))
        grid, orientations = self._orientations()
        constants = constants_at(RelaxometricOptions(**(inputs.relaxometric or {})), inputs.field_strength)
        r2primes = np.stack([read_volume(path) for path in inputs.r2primes])
        result, condition = chisep_cosmos(
            orientations, r2primes=r2primes, constants=constants, options=options, device=inputs.device,
            progress=iterations.callback(),
        )  # fmt: skip
        for name, image in (("para", result.chi_para), ("dia", result.chi_dia), ("mask", result.mask)):
            self._results[name] = write_volume(folder / f"{name}.nii", image, grid)
        record = self._record("chisep-cosmos", options, result, condition)
        record.parameters += parameters(RelaxometricOptions(**(inputs.relaxometric or {})))
        record.state(*constant_facts(constants))
        return record


def _laboratory(grid: Grid, b0: np.ndarray) -> np.ndarray | None:
    """World axes in voxel axes; None, so that axes are made from B0, where B0 is not the world's z."""
    axes = world_axes(grid.to_scanner)
    return axes if np.allclose(axes[2], b0, atol=1e-3) else None
