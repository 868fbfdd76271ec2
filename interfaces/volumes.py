"""Nodes that take images of four dimensions apart: echoes in one file, volumes of a time series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, OutputMultiPath, traits

from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.coils import CoilFiles
from qsmprep.interfaces.images import copy_volume, read_grid, write_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec
from qsmprep.phase.series import mean_of_volumes

PARTS = ("magnitude", "phase", "real", "imaginary")
LEAST_COHERENCE = 0.9  # of the head's median, below which head or phase moved between the volumes


class FilesOfPartsInputSpec(StepInputSpec):
    """Files of magnitude and phase, or of real and imaginary part."""

    magnitude_files = InputMultiPath(File(exists=True))
    phase_files = InputMultiPath(File(exists=True))
    real_files = InputMultiPath(File(exists=True))
    imaginary_files = InputMultiPath(File(exists=True))


class FilesOfPartsOutputSpec(StepOutputSpec):
    """One file an echo of the parts that were given."""

    magnitude_files = OutputMultiPath(File(exists=True))
    phase_files = OutputMultiPath(File(exists=True))
    real_files = OutputMultiPath(File(exists=True))
    imaginary_files = OutputMultiPath(File(exists=True))


class SplitEchoesInputSpec(FilesOfPartsInputSpec):
    """Inputs of `SplitEchoes`."""

    order = traits.List(traits.Int, mandatory=True, desc="place of each echo along the fourth axis, by echo time")
    told_by = traits.Str(mandatory=True, desc="what tells that the axis holds echoes")


class SplitEchoes(Step):
    """One file a part, with the echoes along the fourth axis, to one file an echo; numbers and scaling as stored."""

    input_spec = SplitEchoesInputSpec
    output_spec = FilesOfPartsOutputSpec
    stage = "input"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        for part in PARTS:
            for path in getattr(inputs, f"{part}_files") or []:
                written = [copy_volume(path, place, folder / f"{part}_echo-{echo}.nii")
                           for echo, place in enumerate(inputs.order, start=1)]  # fmt: skip
                self._results[f"{part}_files"] = written
        record = Record(self.stage, "split", "separation of the echoes of one file")
        record.note(Note("echoes-in-one-file", f"{len(inputs.order)} echoes in one file, told by {inputs.told_by}."))
        return record


class JoinVolumesInputSpec(FilesOfPartsInputSpec):
    """Inputs of `JoinVolumes`; one file an echo and part."""

    n_volumes = traits.Int(mandatory=True)
    chosen = traits.Int(-1, usedefault=True, desc="the volume that is taken alone, from 0; -1: the mean of all")
    units = traits.Str("", usedefault=True, desc="BIDS Units of the phase")
    manufacturer = traits.Str("", usedefault=True)


class JoinVolumes(Step):
    """A time series to one magnitude and phase an echo: one of its volumes, or the complex mean of all."""

    input_spec = JoinVolumesInputSpec
    output_spec = FilesOfPartsOutputSpec
    stage = "input"

    def _compute(self, folder: Path) -> Record:
        inputs, is_complex = self.inputs, not self.inputs.phase_files
        first, second = ("real_files", "imaginary_files") if is_complex else ("magnitude_files", "phase_files")
        files = getattr(inputs, first)
        series = CoilFiles(
            files, getattr(inputs, second), n_coils=inputs.n_volumes, n_echoes=len(files), units=inputs.units,
            manufacturer=inputs.manufacturer, is_complex=is_complex, called="volume",
        )  # fmt: skip
        record = Record(self.stage, "volumes", f"mean of {inputs.n_volumes} volumes")
        record.note(Note("volume-phase-scaling", f"Phase of the volumes: {series.rule}."))
        record.warn(*(series.scaling.warnings if series.scaling else ()))
        if series.alternating_axis is not None:
            text = f"Sign of every second slice along axis {series.alternating_axis} corrected (as GE stores it)."
            record.note(Note("volume-slice-alternation", text))
        if inputs.chosen >= 0:
            record.title = f"choice of volume {inputs.chosen + 1} of {inputs.n_volumes}"
            echoes = [series.read(inputs.chosen, echo) for echo in range(len(files))]
        else:
            echoes = self._mean(series, record)
        grid = read_grid(files[0])
        for which, part in enumerate(("magnitude", "phase")):
            self._results[f"{part}_files"] = [
                write_volume(folder / f"{part}_echo-{number}.nii", images[which], grid)
                for number, images in enumerate(echoes, start=1)
            ]
        return record

    def _mean(self, series: CoilFiles, record: Record) -> list[tuple[np.ndarray, np.ndarray]]:
        """The mean over the volumes of every echo, and what tells whether it may be trusted."""
        means = [mean_of_volumes(series, echo) for echo in range(series.n_echoes)]
        coherence, drift = min(mean.coherence for mean in means), max(mean.drift_rad for mean in means)
        record.state(
            Fact("volumes", "volumes", "", series.n_coils),
            Fact("volume_coherence", "median coherence of the volumes in the head, least of the echoes", "", coherence),
            Fact("volume_drift", "change of the mean phase over the volumes, largest of the echoes", "rad", drift),
        )
        record.note(Note("volumes-mean", "The volumes were averaged as complex numbers, each after its mean phase "
                         "relative to the first was taken off."))  # fmt: skip
        if coherence < LEAST_COHERENCE:
            text = (
                f"The volumes' phase agrees badly (median coherence {coherence:.2f}): the head moved, or the field "
                "changed."
            )
            record.warn(Warning("volumes-incoherent", text, "Take --volumes each, or the volumes before the motion."))
        return [(mean.magnitude, mean.phase) for mean in means]
