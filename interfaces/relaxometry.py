"""Node of relaxometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, StepOutputSpec


class FitRelaxationInputSpec(MethodInputSpec):
    """Inputs of `FitRelaxation`."""

    magnitude = File(exists=True, mandatory=True, desc="of the echoes")
    mask = File(exists=True)
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")


class FitRelaxationOutputSpec(StepOutputSpec):
    """Outputs of `FitRelaxation`."""

    r2star = File(exists=True, desc="in 1/s")
    t2star = File(exists=True, desc="in s")
    s0 = File(exists=True, desc="in the magnitude's unit")


class FitRelaxation(MethodStep):
    """Magnitude to R2*, T2* and S0."""

    input_spec = FitRelaxationInputSpec
    output_spec = FitRelaxationOutputSpec
    stage = "relaxometry"
    source_modules = ("qsmprep.relaxometry",)

    def _compute(self, folder: Path) -> Record:
        grid = read_grid(self.inputs.magnitude)
        mask = read_mask(self.inputs.mask) if isdefined(self.inputs.mask) else None
        result, record = self._run_method(
            magnitude=as_echoes(read_volume(self.inputs.magnitude)),
            mask=mask,
            echo_times_s=np.array(self.inputs.echo_times),
        )
        inside = np.ones(grid.shape, bool) if mask is None else mask
        record.facts["median R2* (1/s)"] = float(np.median(result.r2star[inside]))
        for name, volume in (("r2star", result.r2star), ("t2star", result.t2star_s), ("s0", result.s0)):
            self._results[name] = write_volume(folder / f"{name}.nii", np.where(inside, volume, 0), grid)
        return record
