"""Nodes of relaxometry: R2* from gradient echoes, R2 from spin echoes, R2' from both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, isdefined, traits

from qsmprep.engine import iterations
from qsmprep.findings import Fact, Note, Warning, read_notes
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_stored, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import (
    MethodInputSpec,
    MethodStep,
    Record,
    Step,
    StepInputSpec,
    StepOutputSpec,
    loaded_network,
    parameters,
)
from qsmprep.orientation.registration import itk_transform_text, register_rigid, resample, resample_inside
from qsmprep.orientation.rotation import rotation_angle_deg
from qsmprep.relaxometry.macroscopic import undo_gradient_loss
from qsmprep.relaxometry.r2primenet import R2primenetOptions, r2primenet
from qsmprep.separation.r2prime import R2prime, R2primeOptions, r2prime_map
from qsmprep.settings import R2starOptions

SMALLEST_CORRELATION = 0.5  # of spin echo and gradient echo magnitude, below which a warning is given
SMALLEST_COVER = 0.95  # of the brain by the spin echo scan, likewise


class FitRelaxationInputSpec(MethodInputSpec):
    """Inputs of `FitRelaxation`."""

    magnitude = File(exists=True, mandatory=True, desc="of the echoes")
    mask = File(exists=True)
    total_field = File(exists=True, desc="in Hz, for the correction of its gradient")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    preparation = traits.Dict(desc="options of what precedes the fit")


class FitRelaxationOutputSpec(StepOutputSpec):
    """Outputs of `FitRelaxation`."""

    r2star = File(exists=True, desc="in 1/s")
    t2star = File(exists=True, desc="in s")
    s0 = File(exists=True, desc="in the magnitude's unit")
    misfit = File(exists=True, desc="share of the signal that the decay leaves unexplained")


class FitRelaxation(MethodStep):
    """Magnitude to R2*, T2* and S0."""

    input_spec = FitRelaxationInputSpec
    output_spec = FitRelaxationOutputSpec
    stage = "relaxometry"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.magnitude)
        mask = read_mask(inputs.mask) if isdefined(inputs.mask) else None
        inside = np.ones(grid.shape, bool) if mask is None else mask
        magnitude, times = as_echoes(read_volume(inputs.magnitude)), np.array(inputs.echo_times)
        kind, weak = R2starOptions(**(inputs.preparation or {})).field_gradient, 0.0
        if kind != "none":
            field = read_volume(inputs.total_field)
            magnitude, weak = undo_gradient_loss(magnitude, field, inside, echo_times_s=times, kind=kind)
        result, record = self._run_method(magnitude=magnitude, mask=mask, echo_times_s=times)
        record.state(
            Fact("median_r2star", "median R2*", "1/s", float(np.median(result.r2star[inside]))),
            _unexplained(result.misfit[inside]),
        )
        if kind != "none":
            record.cite("fernandezseara2000")
            where = "in slice direction" if kind == "slice" else "along all axes"
            text = (
                f"The signal lost to the field's gradient {where} was restored; in {100 * weak:.1f} % of the "
                "brain only in part, more than 70 % of the last echo being lost."
            )
            record.note(Note("gradient-loss-restored", text))
        maps = (("r2star", result.r2star), ("t2star", result.t2star_s), ("s0", result.s0), ("misfit", result.misfit))
        for name, volume in maps:
            self._results[name] = write_volume(folder / f"{name}.nii", np.where(inside, volume, 0), grid)
        return record


class FitSpinEchoInputSpec(MethodInputSpec):
    """Inputs of `FitSpinEcho`."""

    magnitude_files = InputMultiPath(File(exists=True), mandatory=True, desc="one an echo, ascending")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    acquired_in_2d = traits.Bool(False, usedefault=True)
    notes = traits.List(traits.Dict, desc="what was decided before the graph was built, each with code and text")


class FitSpinEchoOutputSpec(StepOutputSpec):
    """Outputs of `FitSpinEcho`, on the grid of the spin echo scan."""

    r2 = File(exists=True, desc="in 1/s")
    magnitude = File(exists=True, desc="root sum of squares of the echoes")
    mask = File(exists=True, desc="where there is signal to fit")


class FitSpinEcho(MethodStep):
    """Spin echo magnitudes to R2."""

    input_spec = FitSpinEchoInputSpec
    output_spec = FitSpinEchoOutputSpec
    stage = "r2"

    def _compute(self, folder: Path) -> Record:
        inputs, grid = self.inputs, read_grid(self.inputs.magnitude_files[0])
        echoes = np.stack([stored.values().astype(np.float32) for stored in read_stored(inputs.magnitude_files)])
        brightness = np.sqrt(np.einsum("exyz,exyz->xyz", echoes, echoes))
        mask = brightness > 0.05 * np.percentile(brightness, 99)
        result, record = self._run_method(
            magnitude=echoes,
            mask=mask,
            echo_times_s=np.array(inputs.echo_times),
            voxel_size_mm=grid.voxel_size_mm,
            acquired_in_2d=inputs.acquired_in_2d,
        )
        record.note(*read_notes(inputs.notes or []))
        record.state(
            Fact("spin_echoes", "spin echoes", "", len(echoes)),
            Fact("median_r2", "median R2", "1/s", float(np.median(result.r2[mask]))),
            _unexplained(result.misfit[mask]),
        )
        if result.b1 is not None:
            median = float(np.median(result.b1[mask]))
            record.state(Fact("median_refocusing", "median refocusing angle over the nominal one", "", median))
        elif inputs.method == "epg":
            record.note(Note("refocusing-nominal", "The refocusing angle is taken as nominal."))
        if inputs.method == "mono-exponential":
            record.warn(
                Warning(
                    "stimulated-echoes",
                    "Stimulated echoes are not modelled: R2 is off where refocusing is imperfect.",
                    "Take --r2 epg, which models them.",
                )
            )
        for name, image in (("r2", np.where(mask, result.r2, 0)), ("magnitude", brightness), ("mask", mask)):
            self._results[name] = write_volume(folder / f"{name}.nii", image, grid)
        return record


class RegisterSpinEchoInputSpec(StepInputSpec):
    """Inputs of `RegisterSpinEcho`."""

    r2 = File(exists=True, mandatory=True)
    magnitude = File(exists=True, mandatory=True, desc="of the spin echo scan")
    mask = File(exists=True, mandatory=True, desc="where R2 was fitted")
    reference_magnitude = File(exists=True, mandatory=True, desc="root sum of squares of the gradient echoes")
    reference_mask = File(exists=True, mandatory=True, desc="brain mask of the gradient echoes")


class RegisterSpinEchoOutputSpec(StepOutputSpec):
    """Outputs of `RegisterSpinEcho`, images on the grid of the gradient echoes."""

    r2 = File(exists=True, desc="in 1/s, 0 where it is not known")
    magnitude = File(exists=True)
    transform = File(exists=True, desc="ITK text: a point of the gradient echo scan to one of the spin echo scan")


class RegisterSpinEcho(Step):
    """Register R2 to the gradient echoes, rigidly."""

    input_spec = RegisterSpinEchoInputSpec
    output_spec = RegisterSpinEchoOutputSpec
    stage = "r2-registration"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        grid, target = read_grid(inputs.magnitude), read_grid(inputs.reference_magnitude)
        brain = read_mask(inputs.reference_mask)
        magnitude = read_volume(inputs.magnitude)
        matrix, correlation = register_rigid(
            read_volume(inputs.reference_magnitude), target.affine, magnitude, grid.affine, mask=brain, contrast="other"
        )
        geometry = (grid.affine, matrix, target.affine, target.shape)
        r2, known = resample_inside(read_volume(inputs.r2), read_mask(inputs.mask), *geometry)
        r2 = np.maximum(r2, 0)
        cover = float(known[brain].mean())
        title = "rigid registration of the spin echo to the gradient echo magnitude by SimpleITK (mutual information)"
        record = Record(self.stage, "rigid", title, ["lowekamp2013"])
        record.state(
            Fact("correlation", "correlation of the magnitudes", "", correlation),
            Fact("turn", "turn of the head", "degrees", rotation_angle_deg(matrix)),
            Fact("shift", "shift at the origin", "mm", float(np.linalg.norm(matrix[:3, 3]))),
            Fact("covered_share", "brain covered by R2", "%", 100 * cover),
            Fact("matrix", "gradient echo world to spin echo world", "mm", matrix.tolist()),
        )
        if not known[brain].any():
            raise ValueError("The spin echo scan does not show the brain of the gradient echo scan; leave it out by "
                             "--r2 none or --bids-filter-file.")  # fmt: skip
        if correlation < SMALLEST_CORRELATION:
            record.warn(
                Warning(
                    "spin-echo-correlation",
                    f"The registered magnitudes correlate by only {correlation:.2f}.",
                    "Look at the outline on the registered image before trusting R2'; leave the scan out by --r2 none "
                    "if it does not fit.",
                )
            )
        if cover < SMALLEST_COVER:
            record.warn(
                Warning(
                    "spin-echo-coverage",
                    f"The spin echo scan covers {100 * cover:.0f} % of the brain; R2' is 0 elsewhere.",
                    "Do not use R2' and the separated sources outside of the covered part.",
                )
            )
        self._results["r2"] = write_volume(folder / "r2.nii", r2 * known, target)
        self._results["magnitude"] = write_volume(folder / "magnitude.nii", resample(magnitude, *geometry), target)
        transform = folder / "transform.txt"
        transform.write_text(itk_transform_text(matrix), encoding="utf-8")
        self._results["transform"] = str(transform)
        return record


class MapR2primeInputSpec(StepInputSpec):
    """Inputs of `MapR2prime`."""

    r2star = File(exists=True, mandatory=True)
    mask = File(exists=True, mandatory=True)
    r2 = File(exists=True, desc="on the grid of r2star; not given where there is no spin echo scan")
    options = traits.Dict()
    network = File(exists=True, desc="weights, where a network stands in for spin echoes")
    card = File(exists=True, desc="the card of the weights, so that a change of it is noticed")
    centre_frequency = traits.Float(desc="in MHz; the network needs it")
    memory_gb = traits.Float(0.0, usedefault=True, nohash=True, desc="memory a network may take in GiB; 0: no limit")
    device = traits.Str("cpu", usedefault=True, nohash=True, desc="where the network runs: cpu or cuda")


class MapR2primeOutputSpec(StepOutputSpec):
    """Outputs of `MapR2prime`."""

    r2prime = File(exists=True, desc="in 1/s")


class MapR2prime(Step):
    """R2* and R2 to R2', or R2* alone to what stands in for it."""

    input_spec = MapR2primeInputSpec
    output_spec = MapR2primeOutputSpec
    stage = "r2prime"

    @classmethod
    def not_reached(cls, inputs: MapR2primeInputSpec) -> tuple[str, ...]:
        """The step of the network too, where there is none."""
        without = super().not_reached(inputs)
        return (*without, "qsmprep.relaxometry.r2primenet") if without else ()

    def _compute(self, folder: Path) -> Record:
        inputs, options = self.inputs, R2primeOptions(**(self.inputs.options or {}))
        mask = read_mask(inputs.mask)
        measured = isdefined(inputs.r2)
        r2 = read_volume(inputs.r2) if measured else None
        method = "difference" if measured else options.fallback
        cited = [] if measured else ["kim2025" if method == "network" else "dimov2022"]
        record = Record(self.stage, method, "", cited, [] if measured else parameters(options))
        if method == "network":
            result = self._by_network(mask, options, record)
        else:
            result = r2prime_map(read_volume(inputs.r2star), mask, r2=r2, options=options)
        record.title = result.origin
        record.state(
            Fact("origin", "R2'", "", result.origin),
            Fact("median_r2prime", "median R2'", "1/s", float(np.median(result.r2prime[mask]))),
            Fact("r2_exceeds_share", "voxels where R2 exceeds R2*", "%", 100 * result.negative_share),
        )
        if not measured:
            record.warn(
                Warning(
                    "r2prime-approximated",
                    f"R2' is {result.origin}: there is no spin echo scan. Para- and diamagnetic maps made with it are "
                    "an approximation.",
                    "Acquire a spin echo scan (MESE) where the separation of sources matters.",
                )
            )
        self._results["r2prime"] = write_volume(folder / "r2prime.nii", result.r2prime, read_grid(inputs.r2star))
        return record

    def _by_network(self, mask: np.ndarray, options: R2primeOptions, record: Record) -> R2prime:
        inputs, grid = self.inputs, read_grid(self.inputs.r2star)
        network = loaded_network(inputs.network, record, inputs.device)
        found = r2primenet(
            read_volume(inputs.r2star), mask, network=network, scan=scan_of(grid, inputs),
            options=R2primenetOptions(weights=options.weights), memory_gb=inputs.memory_gb, device=inputs.device,
            progress=iterations.callback(),
        )  # fmt: skip
        record.state(*found.facts)
        record.warn(*found.warnings)
        return R2prime(found.r2prime, 0.0, f"guessed from R2* by the network {network.spec.name}")


def _unexplained(misfit: np.ndarray) -> Fact:
    """How much of the signal a fit left unexplained."""
    return Fact("unexplained_share", "median share of the signal unexplained", "%", 100 * float(np.median(misfit)))
