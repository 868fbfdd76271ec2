"""Node of dipole inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from qsmprep.findings import Fact
from qsmprep.interfaces.images import as_echoes, read_grid, read_mask, read_volume, scan_of, write_volume
from qsmprep.interfaces.step import (
    MethodInputSpec,
    MethodStep,
    Record,
    StepOutputSpec,
)
from qsmprep.numerics.units import check_susceptibility_ppm, hz_to_ppm


class InvertInputSpec(MethodInputSpec):
    """Inputs of `Invert`: of the images, those that the method takes."""

    local_field = File(exists=True, desc="tissue field in Hz")
    mask = File(exists=True, desc="consensus mask 4: where the tissue field is valid")
    total_field = File(exists=True, desc="total field in Hz")
    total_mask = File(exists=True, desc="consensus mask 3: where the total field is valid")
    phase = File(exists=True, desc="of the echoes in rad, offset removed")
    magnitude = File(exists=True, desc="of the echoes")
    weights = File(exists=True, desc="data weights")
    noise = File(exists=True, desc="noise of the field in Hz")
    residual = File(exists=True, desc="relative residual of the signal model")
    magnitude_rss = File(exists=True, desc="root sum of squares of the echoes")
    r2star = File(exists=True, desc="in 1/s")
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    centre_frequency = traits.Float(mandatory=True, desc="in MHz")
    b0_direction = traits.List(traits.Float, desc="unit vector in voxel axes; the affine's when not given")


# Parameter of an inversion -> input of `Invert` that holds it.
IMAGES = {
    "field_ppm": "local_field",
    "mask": "mask",
    "total_field_ppm": "total_field",
    "total_mask": "total_mask",
    "phase": "phase",
    "magnitude": "magnitude",
    "weights": "weights",
    "noise_hz": "noise",
    "relative_residual": "residual",
    "magnitude_rss": "magnitude_rss",
    "r2star": "r2star",
}
# What a network gives besides susceptibility -> output of `Invert` that holds it, in ppm.
BESIDE = {"expected-error": "expected_error", "off-diagonal-field": "offdiagonal"}
MASKS = ("mask", "total_mask")
OF_ECHOES = ("phase", "magnitude")


class InvertOutputSpec(StepOutputSpec):
    """Outputs of `Invert`."""

    chi = File(exists=True, desc="susceptibility in ppm")
    mask = File(exists=True, desc="where the susceptibility is valid")
    expected_error = File(exists=True, desc="absolute error in ppm that a network expects; of networks that tell it")
    offdiagonal = File(exists=True, desc="field in ppm of the tensor's off-diagonal elements; of networks that tell it")


class Invert(MethodStep):
    """Tissue field to susceptibility."""

    input_spec = InvertInputSpec
    output_spec = InvertOutputSpec
    stage = "inversion"

    @classmethod
    def not_reached(cls, inputs: InvertInputSpec) -> tuple[str, ...]:
        """Simulated heads too, unless a network is adapted by them."""
        simulated = (inputs.options or {}).get("adapt") == "dann"
        return super().not_reached(inputs) + (() if simulated else ("qsmprep.training",))

    def _compute(self, folder: Path) -> Record:
        files = {name: getattr(self.inputs, trait) for name, trait in IMAGES.items()}
        files = {name: path for name, path in files.items() if isdefined(path)}
        grid = read_grid(next(path for name, path in files.items() if name not in OF_ECHOES))
        images = {name: _read(name, path, self.inputs.centre_frequency) for name, path in files.items()}
        for name in MASKS:
            if name in images and not images[name].any():
                raise ValueError("No voxel is left in the mask: use smaller radii in background field removal, or "
                                 "check the brain mask.")  # fmt: skip
        result, record = self._run_method(
            scan=scan_of(grid, self.inputs),
            synthetic=self._synthetic(),
            **images,
        )
        check_susceptibility_ppm(result.chi_ppm, result.mask)
        record.add_convergence(result.convergence)
        record.state(*_excluded(images, self.inputs.options))
        self._results["chi"] = write_volume(folder / "chi.nii", result.chi_ppm, grid)
        self._results["mask"] = write_volume(folder / "mask.nii", result.mask, grid)
        for quantity, image in result.beside.items():
            output = BESIDE[quantity]
            self._results[output] = write_volume(folder / f"{output}.nii", image, grid)
        return record

    def _synthetic(self):
        """Simulated pairs for a network that is adapted by them; else None."""
        if (self.inputs.options or {}).get("adapt") != "dann":
            return None
        from qsmprep.training.synthetic import synthetic_pairs
        from qsmprep.weights.store import load_network

        return synthetic_pairs(load_network(self.inputs.network).spec)


def _read(name: str, path: str, centre_frequency: float) -> np.ndarray:
    """The image of a parameter in the unit that the inversions expect."""
    if name in MASKS:
        return read_mask(path)
    image = read_volume(path)
    if name in OF_ECHOES:
        return as_echoes(image)
    return hz_to_ppm(image, centre_frequency) if name.endswith("field_ppm") else image


def _excluded(images: dict[str, np.ndarray], options: dict[str, Any]) -> tuple[Fact, ...]:
    """How many voxels the inversion gave no weight, for the record."""
    threshold = (options or {}).get("residual_threshold")
    residual, mask = images.get("relative_residual"), images.get("mask", images.get("total_mask"))
    if threshold is None or residual is None or mask is None:
        return ()
    share = 100 * float((residual[mask] > threshold).mean())
    return (Fact("unweighted_share", "voxels without weight for their residual", "%", share),)
