"""Nodes of source separation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep import registry
from qsmprep.engine import iterations
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import (
    MethodInputSpec,
    MethodStep,
    Record,
    Step,
    StepInputSpec,
    StepOutputSpec,
    code_of,
    parameters,
)
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T, hz_to_ppm
from qsmprep.separation import Constants, Separation
from qsmprep.separation.constants import REFERENCE_FIELD_T, RelaxometricOptions, constant_facts, constants_at
from qsmprep.separation.offset import Offset, offset_by_signs
from qsmprep.settings import SourceOptions

# Parameter of a separation -> input of `Separate` that holds it.
IMAGES = {
    "field_ppm": "local_field",
    "r2prime": "r2prime",
    "r2star": "r2star",
    "weights": "weights",
    "relative_residual": "residual",
    "magnitude_rss": "magnitude_rss",
    "magnitude": "magnitude",
    "echo_chi_ppm": "echo_chi",
}
OF_ECHOES = ("magnitude", "echo_chi_ppm")
FASTEST_INVERSION = "rts"  # of each echo, for a decay that is fitted voxel by voxel


class SeparateInputSpec(MethodInputSpec):
    """Inputs of `Separate`: of the images, those that the method takes."""

    chi = File(exists=True, mandatory=True, desc="referenced susceptibility in ppm")
    chi_mask = File(exists=True, mandatory=True, desc="where it is valid")
    mask = File(exists=True, mandatory=True, desc="consensus mask 4: where the tissue field is valid")
    local_field = File(exists=True, desc="tissue field in Hz")
    r2prime = File(exists=True, mandatory=True, desc="in 1/s")
    r2star = File(exists=True, desc="in 1/s")
    weights = File(exists=True, desc="data weights")
    residual = File(exists=True, desc="relative residual of the signal model")
    magnitude_rss = File(exists=True, desc="root sum of squares of the echoes")
    magnitude = File(exists=True, desc="of the echoes")
    echo_chi = File(exists=True, desc="susceptibility of each echo in ppm")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")
    relaxometric = traits.Dict(desc="relaxometric constants at 3 T")
    source = traits.Dict(desc="options of what separation starts from")


class SeparateOutputSpec(StepOutputSpec):
    """Outputs of `Separate`, in ppm."""

    para = File(exists=True)
    dia = File(exists=True, desc=">= 0")
    mask = File(exists=True, desc="where both are valid")


class Separate(MethodStep):
    """Susceptibility, field and R2' to paramagnetic and diamagnetic susceptibility."""

    input_spec = SeparateInputSpec
    output_spec = SeparateOutputSpec
    stage = "separation"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.chi)
        mask = read_mask(inputs.mask) & read_mask(inputs.chi_mask)
        if not mask.any():
            raise ValueError("No voxel has both a tissue field and a susceptibility: the masks do not overlap.")
        chi, images = read_volume(inputs.chi), self._images()
        field_strength = inputs.centre_frequency / GYROMAGNETIC_RATIO_MHZ_PER_T
        constants = constants_at(RelaxometricOptions(**(inputs.relaxometric or {})), field_strength)
        offset = self._offset(chi, read_volume(inputs.r2prime), mask, constants, grid.voxel_size_mm)
        result, record = self._run_method(
            chi_ppm=np.where(mask, chi + np.float32(offset.value if offset else 0), 0),
            mask=mask,
            constants=constants,
            scan=scan_of(grid, inputs),
            **images,
        )
        record.add_convergence(result.convergence)
        record.state(*_consistency(result, chi))
        wanted = registry.find(self.stage, inputs.method).inputs()
        if "chi_ppm" in wanted:
            if offset:
                _tell_offset(record, offset)
            record.parameters += parameters(SourceOptions(**(inputs.source or {})))
        if "constants" in wanted:
            self._tell_constants(record, constants, field_strength)
        for name, image in (("para", result.chi_para), ("dia", result.chi_dia), ("mask", result.mask)):
            self._results[name] = write_volume(folder / f"{name}.nii", image, grid)
        return record

    def _tell_constants(self, record: Record, constants: Constants, field_strength: float) -> None:
        record.state(*constant_facts(constants))
        record.parameters += parameters(RelaxometricOptions(**(self.inputs.relaxometric or {})))
        if abs(field_strength - REFERENCE_FIELD_T) > 0.2:
            text = (
                f"The relaxometric constants at {REFERENCE_FIELD_T:g} T are taken to grow with the field strength "
                f"({field_strength:.2f} T): an assumption."
            )
            record.note(Note("relaxometric-constants-scaled", text))

    def _images(self) -> dict[str, np.ndarray]:
        wanted = registry.find(self.stage, self.inputs.method).inputs()
        images = {}
        for name, trait in IMAGES.items():
            path = getattr(self.inputs, trait)
            if name in wanted and isdefined(path):
                image = read_volume(path)
                image = as_echoes(image) if name in OF_ECHOES else image
                images[name] = hz_to_ppm(image, self.inputs.centre_frequency) if name == "field_ppm" else image
        return images

    def _offset(
        self,
        chi: np.ndarray,
        r2prime: np.ndarray,
        mask: np.ndarray,
        constants: Constants,
        voxel_size_mm: tuple[float, float, float],
    ) -> Offset | None:
        """The constant to add to susceptibility; None: that of the reference stays."""
        if SourceOptions(**(self.inputs.source or {})).offset == "reference":
            return None
        return offset_by_signs(chi, r2prime, mask, constants=constants, voxel_size_mm=voxel_size_mm)


def _tell_offset(record: Record, offset: Offset) -> None:
    """The constant added to susceptibility, the range it may come from, and a warning where there is none."""
    record.state(
        Fact("constant_added", "constant added to susceptibility", "ppm", offset.value),
        Fact("lowest_constant", "lowest constant without a negative source", "ppm", offset.low),
        Fact("highest_constant", "highest constant without a negative source", "ppm", offset.high),
        Fact("contradicting_share", "voxels in which a source would be negative", "%", 100 * offset.contradicting),
    )
    if offset.low > offset.high:
        record.warn(
            Warning(
                "no-constant",
                "No constant of susceptibility leaves both sources positive everywhere: it would have to be at least "
                f"{offset.low:+.3f} and at most {offset.high:+.3f} ppm. The one with as many contradictions on either "
                f"side was taken, {offset.value:+.3f} ppm; {100 * offset.contradicting:.0f} % of the voxels contradict "
                "it.",
                "Read the levels of both maps with care, differences within them rather. Spin echoes, for a measured "
                "R2', and --source-offset reference, with CSF as the reference, do without the assumption.",
            )
        )


def _consistency(result: Separation, chi: np.ndarray) -> tuple[Fact, ...]:
    """How far the total of both sources is the susceptibility map: regression and error in the mask, in the record."""
    total, given = result.chi_ppm[result.mask], chi[result.mask]
    total, given = total - total.mean(dtype=np.float64), given - given.mean(dtype=np.float64)
    size = float(given @ given)
    if size == 0:
        return ()
    error = 100 * float(np.linalg.norm(total - given) / size**0.5)
    return (
        Fact("total_slope", "total of both sources against susceptibility: slope", "", float(total @ given) / size),
        Fact("total_nrmse", "total of both sources against susceptibility: NRMSE", "%", error),
    )


class EchoSusceptibilityInputSpec(StepInputSpec):
    """Inputs of `EchoSusceptibility`."""

    unwrapped = File(exists=True, mandatory=True, desc="phase of the echoes in rad, unwrapped")
    mask = File(exists=True, mandatory=True, desc="consensus mask 3")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")
    background = traits.Str(mandatory=True, desc="method of background field removal")
    background_options = traits.Dict()
    device = traits.Str("cpu", usedefault=True, nohash=True, desc="where the solvers run: cpu or cuda")


class EchoSusceptibilityOutputSpec(StepOutputSpec):
    """Outputs of `EchoSusceptibility`."""

    chi = File(exists=True, desc="in ppm, echoes as the fourth axis")


class EchoSusceptibility(Step):
    """Unwrapped phase of each echo to a susceptibility map of its own."""

    input_spec = EchoSusceptibilityInputSpec
    output_spec = EchoSusceptibilityOutputSpec
    stage = "echo-inversion"

    @classmethod
    def code(cls, inputs: EchoSusceptibilityInputSpec) -> tuple[str, ...]:
        """The class, the chosen background field removal and the inversion."""
        removal = code_of("background", inputs.background) if inputs.background else ()
        return (*super().code(inputs), *removal, *code_of("inversion", FASTEST_INVERSION))

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.unwrapped)
        phase, mask = as_echoes(read_volume(inputs.unwrapped)), read_mask(inputs.mask)
        given = {"scan": scan_of(grid, inputs), "device": inputs.device}
        remove, invert = registry.find("background", inputs.background), registry.find("inversion", FASTEST_INVERSION)
        removal_type, inversion_type = remove.options_type(), invert.options_type()
        removal = removal_type(**(inputs.background_options or {})) if removal_type else None
        inversion = inversion_type() if inversion_type else None
        maps, progress = np.zeros_like(phase), iterations.callback()
        for echo, (turns, time) in enumerate(zip(phase, inputs.echo_times, strict=True)):
            field_ppm = hz_to_ppm(turns / np.float32(2 * np.pi * time), inputs.centre_frequency)
            local = remove.run(removal, total_field=field_ppm, mask=mask, **given)
            maps[echo] = invert.run(inversion, field_ppm=local.tissue_field, mask=local.mask, **given).chi_ppm
            if progress is not None:
                progress(echo + 1, len(phase))
        title = f"{remove.title} and {invert.title} of each echo"
        citations = [*remove.citations, *invert.citations]
        self._results["chi"] = write_volume(folder / "chi.nii", maps, grid)
        return Record(self.stage, "echo-wise", title, citations, parameters(removal))
