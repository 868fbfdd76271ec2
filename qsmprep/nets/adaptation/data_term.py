"""What a susceptibility map must explain: the case's field; and how rough it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from qsmprep.nets.unrolled import convolve
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape
from qsmprep.scan import Scan

PADDING = 16  # zeros that keep the periodic images of the sources away, in voxels
ROUNDING_PPM_MM = 1e-4  # gradient below which the total variation is rounded off


@dataclass(frozen=True)
class DataTerm:
    """Misfit of a map to the field of one case.

    Attributes
    ----------
    field_ppm : (1, 1, n0, n1, n2) tissue field.
    weights : (1, 1, n0, n1, n2) W >= 0, 0 outside the mask.
    kernel : half spectrum of the dipole kernel of the padded volume.
    padded_shape : its shape.
    radians_per_ppm : phase of 1 ppm.
    nonlinear : whether complex phases are compared.
    uniform : (1, 1, n0, n1, n2) field of 1 ppm everywhere inside the mask. A network's map has a zero of its own, so
        that this much of the field, whatever fits best, is left out of the misfit; None leaves all of it in.
    """

    field_ppm: torch.Tensor
    weights: torch.Tensor
    kernel: torch.Tensor
    padded_shape: tuple[int, ...]
    radians_per_ppm: float
    nonlinear: bool
    uniform: torch.Tensor | None = None

    def field_of(self, outputs_ppm: torch.Tensor) -> torch.Tensor:
        """Field (1, 1, n0, n1, n2) in ppm of (1, 1 or 2, n0, n1, n2): susceptibility, and a further field if there.

        The sources are padded with zeros, so that what lies across the volume does not wrap around.
        """
        shape = outputs_ppm.shape[-3:]
        widths = [
            width for n, p in zip(reversed(shape), reversed(self.padded_shape), strict=True) for width in (0, p - n)
        ]
        field = convolve(functional.pad(outputs_ppm[:, :1], widths), self.kernel)
        return field[..., : shape[0], : shape[1], : shape[2]] + outputs_ppm[:, 1:].sum(dim=1, keepdim=True)

    def misfit(self, outputs_ppm: torch.Tensor) -> torch.Tensor:
        """|exp(i r A x) - exp(i r f)| / r with its sign, or A x - f where linear: (1, 1, n0, n1, n2) in ppm.

        x is the map with the constant that fits best.
        """
        difference = self.field_of(outputs_ppm) - self.field_ppm
        if self.nonlinear:
            turn = 2 * np.pi / self.radians_per_ppm
            difference = difference - turn * torch.round(difference / turn)
        if self.uniform is not None:
            weighted = self.weights.square() * self.uniform
            difference = difference - self.uniform * (weighted * difference).sum() / (weighted * self.uniform).sum()
        if not self.nonlinear:
            return difference
        # |exp(i a) - exp(i b)| = 2 |sin((a - b) / 2)|
        return torch.sin(difference * (self.radians_per_ppm / 2)) * (2 / self.radians_per_ppm)

    def squared(self, outputs_ppm: torch.Tensor) -> torch.Tensor:
        """|W (exp(i r A x) - exp(i r f))|^2 / r^2 over the sum of W^2, in ppm^2."""
        return (self.weights * self.misfit(outputs_ppm)).square().sum() / self.weights.square().sum()

    def absolute(self, outputs_ppm: torch.Tensor) -> torch.Tensor:
        """|W (exp(i r A x) - exp(i r f))|_1 / r over the sum of W, in ppm."""
        return (self.weights * self.misfit(outputs_ppm)).abs().sum() / self.weights.sum()


def data_term(
    field_ppm: torch.Tensor,
    mask: torch.Tensor,
    *,
    scan: Scan,
    weights: torch.Tensor | None,
    radians_per_ppm: float,
    nonlinear: bool,
) -> DataTerm:
    """The data term of a field and its mask, both (1, 1, n0, n1, n2); without weights all voxels count the same."""
    padded = fast_shape(tuple(n + PADDING for n in field_ppm.shape[-3:]))
    kernel = torch.as_tensor(dipole_kernel(padded, scan.voxel_size_mm, scan.b0_direction), device=field_ppm.device)
    inside = mask if weights is None else weights * mask
    plain = DataTerm(field_ppm * mask, inside, kernel, padded, float(radians_per_ppm), nonlinear)
    return dataclasses.replace(plain, uniform=plain.field_of(mask))


def total_variation(
    chi_ppm: torch.Tensor, mask: torch.Tensor, voxel_size_mm: tuple[float, float, float]
) -> torch.Tensor:
    """Mean length of the gradient over the mask, in ppm/mm; the rim of the mask is no edge.

    Parameters
    ----------
    chi_ppm, mask : (n, 1, n0, n1, n2).
    voxel_size_mm : edge lengths.
    """
    squared = torch.full_like(chi_ppm, ROUNDING_PPM_MM**2)
    for axis, size in enumerate(voxel_size_mm, start=-3):
        n = chi_ppm.shape[axis]
        rise = chi_ppm.diff(dim=axis) * (mask.narrow(axis, 1, n - 1) * mask.narrow(axis, 0, n - 1) / size)
        squared = squared + functional.pad(rise.square(), _at_the_end(axis))
    return ((squared.sqrt() - ROUNDING_PPM_MM) * mask).sum() / mask.sum()


def _at_the_end(axis: int) -> list[int]:
    """Widths of one more plane at the end of an axis, the last axis first."""
    return [int(a == axis and side) for a in (-1, -2, -3) for side in (0, 1)]


def largest_weight_one(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weights with their 99.9th percentile in the mask at 1, and clipped there; ValueError where none is above 0."""
    largest = np.percentile(weights[mask], 99.9)
    if not (np.isfinite(weights[mask]).all() and largest > 0 and weights[mask].min() >= 0):
        raise ValueError("Data weights must be finite, none below 0, and some above 0 inside the mask.")
    return np.asarray(np.clip(weights / largest, 0, 1), np.float32)
