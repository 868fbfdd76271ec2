"""Node of background field removal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.background.refinement import RefinementOptions, refine_background
from qsmprep.findings import Fact, Note, Warning
from qsmprep.interfaces.images import read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, StepOutputSpec
from qsmprep.unwrap.jumps import residual_jumps

LARGEST_SHARE_OF_JUMPS = 1e-3
SMALL_BRAIN_L, LEAST_KEPT = 0.2, 0.8  # of a small brain the spheres of a human one leave less than that share


class RemoveBackgroundInputSpec(MethodInputSpec):
    """Inputs of `RemoveBackground`."""

    total_field = File(exists=True, mandatory=True, desc="total field in Hz")
    noise = File(exists=True, desc="noise of the field in Hz")
    mask = File(exists=True, mandatory=True, desc="consensus mask 3")
    echo_spacing = traits.Float(mandatory=True, desc="in seconds: what turns a wrap into a step of the field")
    centre_frequency = traits.Float(desc="in MHz; needed by methods that work in ppm")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")
    echo_times = traits.List(traits.Float, desc="in seconds; needed by the refinement")
    refinement = traits.Dict(desc="options of the refinement")


class RemoveBackgroundOutputSpec(StepOutputSpec):
    """Outputs of `RemoveBackground`."""

    local_field = File(exists=True, desc="tissue field in Hz")
    mask = File(exists=True, desc="consensus mask 4: where the tissue field is valid")


class RemoveBackground(MethodStep):
    """Total field to tissue field."""

    input_spec = RemoveBackgroundInputSpec
    output_spec = RemoveBackgroundOutputSpec
    stage = "background"

    @classmethod
    def not_reached(cls, inputs: RemoveBackgroundInputSpec) -> tuple[str, ...]:
        """The refinement, and the inversion in it, where no pass is asked for."""
        refined = bool((inputs.refinement or {}).get("passes"))
        return super().not_reached(inputs) + (() if refined else ("qsmprep.background.refinement",))

    def _compute(self, folder: Path) -> Record:
        grid, mask = read_grid(self.inputs.total_field), read_mask(self.inputs.mask)
        total_field = read_volume(self.inputs.total_field)
        noise = read_volume(self.inputs.noise) if isdefined(self.inputs.noise) else None
        scan = scan_of(grid, self.inputs)
        given = {"mask": mask, "scan": scan, "noise": noise}
        result, record = self._run_method(total_field=total_field, **given)
        options = RefinementOptions(**(self.inputs.refinement or {}))
        if options.passes:
            result = refine_background(
                total_field,
                result,
                lambda field: self._run_method(total_field=field, **given)[0],
                scan=scan,
                noise_hz=noise,
                options=options,
                device=self.inputs.device,
            )
            record.state(Fact("refinement_passes", "times the background was removed again", "", options.passes))
            record.note(
                Note(
                    "background-refined",
                    "The background was removed again from what a quick susceptibility map left unexplained; passes: "
                    f"{options.passes}.",
                )
            )
        record.add_convergence(result.convergence)
        kept, litres = float(result.mask.sum() / mask.sum()), float(mask.sum() * np.prod(grid.voxel_size_mm) * 1e-6)
        if litres < SMALL_BRAIN_L and kept < LEAST_KEPT:
            record.warn(
                Warning(
                    "spheres-large",
                    f"Only {100 * kept:.0f} % of mask 3 are left: radii in mm are for human brains, and this one holds "
                    f"{1000 * litres:.2g} mL.",
                    "Take --v-sharp-radius-unit voxel, or a smaller radius (--help v-sharp, or the other method).",
                )
            )
        jumps, pairs = residual_jumps(total_field, result.mask, period_hz=1 / self.inputs.echo_spacing)
        record.state(
            Fact("mask_voxels", "voxels of mask 4", "", int(result.mask.sum())),
            Fact("share_kept", "share of the eroded mask 3 kept", "%", 100 * kept),
            Fact("neighbour_pairs", "pairs of neighbours in the mask", "", pairs),
            Fact("half_turn_pairs", "pairs with a step of more than half a turn", "", jumps),
        )
        if jumps > LARGEST_SHARE_OF_JUMPS * pairs:
            record.warn(
                Warning(
                    "half-turn-pairs",
                    f"{jumps} pairs of neighbours differ by more than half a turn: the total field may still hold "
                    "phase wraps.",
                    "Look at the unwrapped phase for sharp edges; take a stricter reliable mask or unwrap each echo by "
                    "itself (--romeo-individual).",
                )
            )
        self._results["local_field"] = write_volume(folder / "local_field.nii", result.tissue_field, grid)
        self._results["mask"] = write_volume(folder / "qsm_mask.nii", result.mask, grid)
        return record
