"""Nodes that read the echoes and prepare their phase: radians, sign, phase offset, choice of echoes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, traits

from qsmprep.findings import Fact, Note, Warning, read_notes
from qsmprep.interfaces.images import Grid, as_echoes, read_grid, read_stored, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, Step, StepInputSpec, StepOutputSpec
from qsmprep.masking.robust import signal_threshold
from qsmprep.phase.bipolar import CHOICES as BIPOLAR_CHOICES
from qsmprep.phase.bipolar import find_bipolar, readout_warnings, remove_bipolar, takes_plane
from qsmprep.phase.filtered import looks_filtered
from qsmprep.phase.fringes import fringe_warnings, open_fringes
from qsmprep.phase.scaling import real_imag_to_polar, to_radians
from qsmprep.phase.sign import decide_sign, remove_slice_alternation, slice_alternation
from qsmprep.phase.slices import find_slice_offsets, remove_slice_offsets, slice_warnings
from qsmprep.scan import Scan


class EchoesOutputSpec(StepOutputSpec):
    """Magnitude and phase of the echoes."""

    magnitude = File(exists=True, desc="echoes as the fourth axis")
    phase = File(exists=True, desc="in rad, wrapped, echoes as the fourth axis")


class PreparePhaseInputSpec(StepInputSpec):
    """Inputs of `PreparePhase`: magnitude and phase, or real and imaginary part, one file an echo."""

    magnitude_files = InputMultiPath(File(exists=True))
    phase_files = InputMultiPath(File(exists=True))
    real_files = InputMultiPath(File(exists=True))
    imaginary_files = InputMultiPath(File(exists=True))
    units = traits.Str(desc="BIDS Units of the phase")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds, ascending")
    manufacturer = traits.Str("", usedefault=True)
    phase_sign = traits.Enum("auto", "keep", "invert", usedefault=True)
    bipolar = traits.Enum(*BIPOLAR_CHOICES, usedefault=True, desc="what is done about a bipolar readout")
    slice_axis = traits.Int(-1, usedefault=True, desc="across slices that may have offsets of their own; -1: 3D")
    slice_phase = traits.Enum("auto", "align", "keep", usedefault=True, desc="what is done about such offsets")
    centre_frequency = traits.Float(mandatory=True, desc="of the scanner in MHz; told, not used")
    notes = traits.List(traits.Dict, desc="what was decided before the graph was built, each with code and text")


class PreparePhaseOutputSpec(EchoesOutputSpec):
    """Outputs of `PreparePhase`."""

    magnitude_rss = File(exists=True, desc="root sum of squares over echoes")


class PreparePhase(Step):
    """Files of one run to magnitude and phase in radians of the right sign."""

    input_spec = PreparePhaseInputSpec
    output_spec = PreparePhaseOutputSpec
    stage = "input"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        record = Record(self.stage, "prepare", "conversion to radians")
        record.note(*read_notes(inputs.notes or []))
        record.state(Fact("centre_frequency", "centre frequency", "MHz", inputs.centre_frequency))
        if inputs.phase_files:
            magnitude, phase = self._from_polar(record)
        else:
            magnitude, phase = self._from_complex(record)
        grid = read_grid((inputs.phase_files or inputs.real_files)[0])
        self._fix_sign(magnitude, phase, record)
        rss = np.sqrt(np.einsum("exyz,exyz->xyz", magnitude, magnitude))
        self._align_slices(magnitude, phase, scan_of(grid, inputs), record)
        self._correct_readout(magnitude, phase, rss, scan_of(grid, inputs), record)
        self._count_fringes(magnitude, phase, grid, record)
        lively = magnitude[0] > 0.1 * np.percentile(magnitude[0], 98)
        if looks_filtered(phase, magnitude, lively, inputs.echo_times):
            record.warn(
                Warning(
                    "phase-filtered",
                    "The phase looks high-pass filtered (as SWI phase is): susceptibility from it is not to be "
                    "trusted.",
                    "Export the unfiltered phase from the scanner and run again; do not use this map.",
                )
            )
        self._save(folder, grid, magnitude=magnitude, phase=phase, magnitude_rss=rss)
        return record

    def _from_polar(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        inputs = self.inputs
        images = read_stored([*inputs.magnitude_files, *inputs.phase_files])
        magnitudes, phases = images[: len(inputs.magnitude_files)], images[len(inputs.magnitude_files) :]
        magnitude = np.stack([image.values().astype(np.float32, copy=False) for image in magnitudes])
        for echo, path in zip(magnitude, inputs.magnitude_files, strict=True):
            _set_finite(echo, path, record)
        try:
            scaled = to_radians(
                [image.values() for image in phases],
                raw=[image.numbers for image in phases] if phases[0].is_scaled else None,
                units=inputs.units or None,
                manufacturer=inputs.manufacturer,
                slope=phases[0].slope,
            )
        except ValueError as error:
            raise ValueError(f"{inputs.phase_files[0]}: {error}") from None
        record.title += f" ({scaled.rule})"
        record.note(Note("phase-scaling", f"Phase to radians: {scaled.rule}."))
        record.warn(*scaled.warnings)
        return magnitude, scaled.phase

    def _from_complex(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        polar = []
        for real, imaginary in zip(self.inputs.real_files, self.inputs.imaginary_files, strict=True):
            try:
                polar.append(real_imag_to_polar(read_volume(real), read_volume(imaginary)))
            except ValueError as error:
                raise ValueError(f"{real}: {error}") from None
        record.note(Note("complex-input", "Magnitude and phase computed from real and imaginary parts."))
        return np.stack([magnitude for magnitude, _ in polar]), np.stack([phase for _, phase in polar])

    def _fix_sign(self, magnitude: np.ndarray, phase: np.ndarray, record: Record) -> None:
        """Undo GE's slice alternation and the inverted sign, in place, and say so."""
        alternation = slice_alternation(phase[0], magnitude[0])
        if alternation.axis is not None:
            for echo in range(len(phase)):
                phase[echo] = remove_slice_alternation(phase[echo], alternation.axis)
            text = f"Sign of every second slice along axis {alternation.axis} corrected (as GE stores it)."
            record.note(Note("slice-alternation", text))
        sign = decide_sign(self.inputs.manufacturer, self.inputs.phase_sign)
        if sign.inverted:
            np.negative(phase, out=phase)
        record.note(Note("phase-sign", f"Phase sign {sign.reason}."))
        record.state(
            Fact("phase_inverted", "phase inverted", "", sign.inverted),
            Fact("phase_sign_known", "sign by a known convention, or given", "", sign.known),
        )

    def _align_slices(self, magnitude: np.ndarray, phase: np.ndarray, scan: Scan, record: Record) -> None:
        """Take the offsets of single slices of a 2D scan off the phase in place, where they show or as asked."""
        axis, choice = self.inputs.slice_axis, self.inputs.slice_phase
        if axis < 0:
            return
        found = find_slice_offsets(phase, magnitude, scan=scan, axis=axis)
        aligned = choice == "align" or (choice == "auto" and found.are_there)
        record.state(
            Fact("slice_jump", "change of the phase step from slice to slice, rms", "rad", found.jump_rad),
            Fact("slices_aligned", "phase offsets of single slices taken off", "", aligned),
        )
        if aligned:
            remove_slice_offsets(phase, found)
            record.title += f", and alignment of the phase of slices (2D) along axis {axis}"
        record.warn(*slice_warnings(found, aligned=aligned))

    def _correct_readout(
        self, magnitude: np.ndarray, phase: np.ndarray, rss: np.ndarray, scan: Scan, record: Record
    ) -> None:
        """Find the phase plane of a bipolar readout, take it off in place where that is asked for, and say so."""
        choice = self.inputs.bipolar
        found = None
        if len(phase) > 2:
            head = rss > signal_threshold(rss)
            found = find_bipolar(phase, magnitude, scan=scan, mask=head)
        by_plane = takes_plane(choice, found)
        corrected = by_plane or choice == "mcpc-3d-s"
        size = None if found is None else found.range_rad
        record.state(
            Fact("bipolar_range", "phase between odd and even echoes, range over the head", "rad", size),
            Fact("bipolar_found", "bipolar readout found in the phase", "", None if found is None else found.is_there),
            Fact("bipolar_corrected", "phase of bipolar readout corrected", "", corrected),
        )
        if found is not None and by_plane:
            remove_bipolar(phase, found)
            record.title += ", and subtraction of the phase plane between odd and even echoes (bipolar readout)"
            record.cite("li2015bipolar")
        record.warn(*readout_warnings(found, choice))

    def _count_fringes(self, magnitude: np.ndarray, phase: np.ndarray, grid: Grid, record: Record) -> None:
        """Count the open-ended fringes of the phase as it came; two echoes tell them from other things."""
        if len(phase) < 2:
            return
        found = open_fringes(phase, magnitude, grid.voxel_size_mm, grid.superior_direction)
        record.state(
            Fact("open_fringe_lines", "open-ended fringe lines of the phase as it came", "", found.lines),
            Fact("open_fringe_length", "their length", "cm", round(found.length_cm, 1)),
        )
        own = any(step["stage"] == "coil-combination" for step in self._records_before())
        record.warn(*fringe_warnings(found, self.inputs.manufacturer, combined_here=own))

    def _save(self, folder: Path, grid: Grid, **volumes: np.ndarray) -> None:
        for name, volume in volumes.items():
            self._results[name] = write_volume(folder / f"{name}.nii", volume, grid)


class RemovePhaseOffsetInputSpec(MethodInputSpec):
    """Inputs of `RemovePhaseOffset`."""

    magnitude = File(exists=True, mandatory=True)
    phase = File(exists=True, mandatory=True)
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    bipolar = traits.Bool(False, usedefault=True, desc="remove what alternates between odd and even echoes too")


class RemovePhaseOffset(MethodStep):
    """Phase of all echoes without the part that does not grow with echo time."""

    input_spec = RemovePhaseOffsetInputSpec
    output_spec = EchoesOutputSpec
    stage = "phase-offset"

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.phase)
        result, record = self._run_method(
            phase=as_echoes(read_volume(self.inputs.phase)),
            magnitude=as_echoes(read_volume(self.inputs.magnitude)),
            scan=scan_of(grid, self.inputs),
            bipolar=self.inputs.bipolar or None,
        )
        if self.inputs.bipolar:
            record.title += " with correction of bipolar readout"
        record.state(Fact("voxels_left_out", "voxels left out of the estimate", "", result.left_out_voxels))
        self._results["magnitude"] = self.inputs.magnitude
        self._results["phase"] = write_volume(folder / "phase.nii", result.phase, grid)
        return record


class SelectEchoesInputSpec(StepInputSpec):
    """Inputs of `SelectEchoes`."""

    magnitude = File(exists=True, mandatory=True)
    phase = File(exists=True, mandatory=True)
    echoes = traits.List(traits.Int, mandatory=True, desc="numbers of the echoes to keep, from 1")


class SelectEchoes(Step):
    """Keep some of the echoes."""

    input_spec = SelectEchoesInputSpec
    output_spec = EchoesOutputSpec
    stage = "echo-selection"

    def _compute(self, folder: Path) -> Record:
        chosen = [number - 1 for number in self.inputs.echoes]
        for name in ("magnitude", "phase"):
            path = getattr(self.inputs, name)
            self._results[name] = write_volume(
                folder / f"{name}.nii", as_echoes(read_volume(path))[chosen], read_grid(path)
            )
        numbers = ", ".join(str(number) for number in self.inputs.echoes)
        record = Record(self.stage, "selected", f"echoes {numbers}")
        record.state(Fact("echoes_used", "echoes used", "", list(self.inputs.echoes)))
        return record


def _set_finite(volume: np.ndarray, path: str, record: Record) -> None:
    bad = ~np.isfinite(volume)
    if bad.any():
        volume[bad] = 0
        record.warn(
            Warning(
                "magnitude-not-finite",
                f"{Path(path).name}: {int(bad.sum())} voxels are NaN or infinite and were set to 0.",
                "Convert the images again; harmless outside of the head.",
            )
        )
