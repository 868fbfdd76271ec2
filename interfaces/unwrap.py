"""Node of phase unwrapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.findings import Fact, Warning
from qsmprep.interfaces.images import read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, StepOutputSpec


class UnwrapInputSpec(MethodInputSpec):
    """Inputs of `Unwrap`."""

    phase = File(exists=True, mandatory=True, desc="wrapped, in rad; one image or echoes as the fourth axis")
    magnitude = File(exists=True, desc="of the echoes")
    mask = File(exists=True, desc="where to unwrap")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds, one for each image of the phase")


class UnwrapOutputSpec(StepOutputSpec):
    """Outputs of `Unwrap`."""

    unwrapped = File(exists=True, desc="in rad")
    quality = File(exists=True, desc="quality map in [0, 1]")


class Unwrap(MethodStep):
    """Wrapped phase to unwrapped phase and its quality."""

    input_spec = UnwrapInputSpec
    output_spec = UnwrapOutputSpec
    stage = "unwrapping"

    def _compute(self, folder: Path) -> Record:
        grid, phase = read_grid(self.inputs.phase), read_volume(self.inputs.phase)
        magnitude = read_volume(self.inputs.magnitude) if isdefined(self.inputs.magnitude) else None
        if phase.ndim == 3 and magnitude is not None and magnitude.ndim == 4:
            magnitude = np.sqrt(np.einsum("exyz,exyz->xyz", magnitude, magnitude))
        mask = read_mask(self.inputs.mask) if isdefined(self.inputs.mask) else None
        result, record = self._run_method(
            phase=phase,
            magnitude=magnitude,
            mask=mask,
            scan=scan_of(grid, self.inputs),
        )
        record.state(Fact("voxels_left_wrapped", "voxels left wrapped", "", result.isolated_voxels))
        if result.isolated_voxels:
            record.warn(
                Warning(
                    "voxels-left-wrapped",
                    f"{result.isolated_voxels} voxels of the mask have no neighbour to unwrap from and keep their "
                    "wrapped phase.",
                    "Look at the mask for islands; a smaller mask (--mask, --bet-fractional-intensity) leaves them "
                    "out.",
                )
            )
        self._results["unwrapped"] = write_volume(folder / "unwrapped.nii", result.phase, grid)
        self._results["quality"] = write_volume(folder / "quality.nii", result.quality, grid)
        return record
