"""Susceptibility tensor imaging (STI): a symmetric tensor a voxel from six or more orientations of the head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import Array, DoubleArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import frequencies, indices, irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import Solution, lsmr
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.orientation import TensorMaps
from qsmprep.orientation.directions import PAIRS, quadratic_forms, tensor_condition
from qsmprep.orientation.inputs import Orientations, checked
from qsmprep.orientation.rotation import axes_about

LEAST = 6
_COMPONENT = {pair: number for number, pair in enumerate(PAIRS)} | {(n, m): i for i, (m, n) in enumerate(PAIRS)}
_ROOT2 = np.sqrt(2.0)


@dataclass(frozen=True)
class StiOptions:
    """Options of susceptibility tensor imaging."""

    max_condition: float = option(
        50.0, "largest condition number of the orientations; six within 17 degrees have 50", low=1
    )
    tolerance: float = option(0.01, "relative gradient of the least squares at which to stop", low=1e-8, high=1)
    max_iterations: int = option(60, "cap on iterations", low=1, high=10000)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def sti(
    orientations: Orientations,
    *,
    laboratory_axes: np.ndarray | None = None,
    options: StiOptions = StiOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> TensorMaps:
    """Susceptibility tensor by least squares: F f_i = b_i' (1/3 - k k'/|k|^2) F(chi) b_i.

    Without weights, closed form. The field is b' S b with S = (M chi + chi M) / 2 and M = 1/3 - k k'/|k|^2, whose
    eigenvalues 1/3, 1/3, -2/3 never add up to 0 in pairs that meet: S follows from the fields by the pseudo-inverse of
    b -> b b', the same at every k, and with s = S k/|k|, c = k'S k/|k|^2
    chi = 3 S - 9 (k s' + s k')/|k| + 27/2 c k k'/|k|^2.
    With weights, the six components jointly by LSMR on min sum_i |w_i (f_i(chi) - f_i)|^2 over tensors that are 0 where
    no orientation weighs anything; early stopping keeps noise out of what the orientations hardly see.

    Parameters
    ----------
    orientations : six or more.
    laboratory_axes : (3, 3) rows: the laboratory's x, y, z as unit vectors in voxel axes; z is B0. None: z is the first
        direction of B0, x and y what the smallest rotation makes of the first two voxel axes.
    options : see StiOptions.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    TensorMaps in ppm. The mean of each component over the volume is not measured and left at 0 by the closed form.

    Raises
    ------
    ValueError : fewer than six orientations, orientations too much alike, shapes that differ, a field not in ppm.

    References
    ----------
    Liu 2010; Feng 2021 (laboratory frame).

    Examples
    --------
    An isotropic cube of 0.1 ppm has no anisotropy:

    >>> from qsmprep.numerics.dipole import dipole_kernel
    >>> chi = np.zeros((15, 15, 15), np.float32)
    >>> chi[6:10, 6:10, 6:10] = 0.1
    >>> directions = [(0, 0, 1), (0, 0.7, 0.7), (0.7, 0, 0.7), (0.7, 0.7, 0), (0, 1, 0), (-0.6, 0.6, 0.6)]
    >>> dipoles = [dipole_kernel(chi.shape, (1, 1, 1), b) for b in directions]
    >>> fields = np.stack([irfftn(rfftn(chi) * dipole, chi.shape) for dipole in dipoles])
    >>> found = sti(Orientations(fields, np.ones(chi.shape), (1, 1, 1), directions), options=StiOptions(padding=0))
    >>> round(float(np.ptp(found.mean_ppm)), 3), round(float(found.anisotropy_ppm.max()), 3)
    (0.1, 0.0)
    """
    check_options(options)
    begin = time.perf_counter()
    what = "susceptibility tensor imaging"
    given, condition = checked(
        orientations, what, least=LEAST, condition_of=tensor_condition, largest=options.max_condition
    )
    directions, inside, support = given.b0_directions, given.mask, given.support
    axes = axes_about(directions[0]) if laboratory_axes is None else np.asarray(laboratory_axes, float)
    frame = frame_around(support, padding=options.padding)
    shape = frame.padded_shape
    k = [to_device(part, device) for part in unit_frequencies(shape, given.voxel_size_mm)]
    data = [to_device(frame.crop(field), device) for field in given.fields_ppm]
    if given.weights is None:
        components = _closed_form(data, directions, k, shape)
        convergence = ended(begin, (), True, monitored="closed form", unlisted=1)
        if progress is not None:
            progress(1, 1)
    else:
        scaled = [to_device(frame.crop(w), device) for w in given.weights]
        region = to_device(frame.crop(support.astype(np.float32)), device)
        solution = _weighted(data, scaled, region, directions, k, options, progress)
        components = _true_components(solution.x)
        convergence = ended(
            begin, solution.history, solution.converged, monitored="relative gradient of the least squares"
        )
    tensor = np.stack([frame.restore(to_numpy(part)) * inside for part in components])
    chi11, chi22, chi33, chi12, chi13, chi23 = (rotated_component(tensor, axes[m], axes[n]) for m, n in PAIRS)
    crops = [to_device(frame.crop(chi), device) for chi in (chi13, chi23)]
    offdiagonal = frame.restore(to_numpy(offdiagonal_field(crops, axes, k, shape))) * inside
    return TensorMaps(
        tensor_ppm=tensor,
        mean_ppm=(tensor[0] + tensor[1] + tensor[2]) / np.float32(3),
        anisotropy_ppm=anisotropy(tensor, inside),
        chi11_ppm=chi11,
        chi22_ppm=chi22,
        chi33_ppm=chi33,
        chi12_ppm=chi12,
        chi13_ppm=chi13,
        chi23_ppm=chi23,
        offdiagonal_ppm=offdiagonal,
        laboratory_axes=axes,
        mask=inside,
        condition=condition,
        convergence=convergence,
    )


def unit_frequencies(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...]) -> list[np.ndarray]:
    """k/|k| of the half spectrum, three float32 arrays; 0 at k = 0.

    A component at its Nyquist index has no sign, so it is taken as 0: k k' stays a projection everywhere.
    """
    parts = [
        np.where(2 * np.abs(n) == size, 0.0, f)
        for n, size, f in zip(indices(shape), shape, frequencies(shape, voxel_size_mm), strict=True)
    ]
    length = np.sqrt(sum(part**2 for part in parts))
    length[length == 0] = np.inf
    return [(part / length).astype(np.float32) for part in parts]


def tensor_field(components: Sequence[Any], b: np.ndarray, k: Sequence[Any]) -> Any:
    """Spectrum of the field of a tensor's six spectra in the direction b: b'chi b/3 - (k.b)(k'chi b), 0 at k = 0."""
    along = [sum(float(b[n]) * components[_COMPONENT[m, n]] for n in range(3)) for m in range(3)]
    field = sum(float(b[m]) / 3 * along[m] for m in range(3))
    field = field - sum(float(b[m]) * k[m] for m in range(3)) * sum(k[m] * along[m] for m in range(3))
    field[0, 0, 0] = 0
    return field


def rotated_component(tensor: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """row' chi column of a tensor image (6, ...), float32."""
    weights = [(row[m] * column[n] + row[n] * column[m]) / (2 if m == n else 1) for m, n in PAIRS]
    return np.tensordot(np.array(weights, np.float32), tensor, 1)


def anisotropy(tensor: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Largest eigenvalue less the mean of the other two, 0 outside the mask; float32."""
    inside = tensor[:, mask].astype(float)
    full = np.empty((inside.shape[1], 3, 3))
    for number, (m, n) in enumerate(PAIRS):
        full[:, m, n] = full[:, n, m] = inside[number]
    values = np.linalg.eigvalsh(full)
    image = np.zeros(mask.shape, np.float32)
    image[mask] = values[:, 2] - (values[:, 0] + values[:, 1]) / 2
    return image


def _closed_form(data: list[Array], directions: DoubleArray, k: list[Array], shape: tuple[int, ...]) -> list[Array]:
    """Six component images: S by pseudo-inverse in image space, then chi frequency by frequency."""
    inverse = np.linalg.pinv(quadratic_forms(directions))
    s = [rfftn(sum(float(w) * image for w, image in zip(row, data, strict=True))) for row in inverse]
    turned = [sum(k[n] * s[_COMPONENT[m, n]] for n in range(3)) for m in range(3)]
    along = sum(k[m] * turned[m] for m in range(3))
    components = []
    for m, n in PAIRS:
        spectrum = 3 * s[_COMPONENT[m, n]] - 9 * (k[m] * turned[n] + turned[m] * k[n]) + 13.5 * along * k[m] * k[n]
        spectrum[0, 0, 0] = 0
        components.append(irfftn(spectrum, shape))
    return components


def _weighted(
    data: list[Array],
    weights: list[Array],
    region: Array,
    directions: DoubleArray,
    k: list[Array],
    options: StiOptions,
    progress: Progress | None,
) -> Solution:
    """LSMR on the components, off-diagonal ones times the root of 2 so that the norm is the tensor's."""
    shape = tuple(region.shape)
    template = data[0]

    def stack(images: list[Array]) -> Array:
        if isinstance(template, np.ndarray):
            return np.stack(images)
        import torch

        return torch.stack(images)

    def apply(x: Array) -> Array:
        spectra = [rfftn(part * region) for part in _true_components(x)]
        return stack([irfftn(tensor_field(spectra, b, k), shape) * w for b, w in zip(directions, weights, strict=True)])

    def adjoint(y: Array) -> Array:
        totals: list[Any] = [0] * 6
        for image, b, w in zip(y, directions, weights, strict=True):
            spectrum = rfftn(image * w)
            spectrum[0, 0, 0] = 0
            projected = sum(float(b[m]) * k[m] for m in range(3))
            g = [float(b[m]) / 3 - projected * k[m] for m in range(3)]
            for number, (m, n) in enumerate(PAIRS):
                factor = g[m] * float(b[n]) if m == n else (g[m] * float(b[n]) + g[n] * float(b[m])) / float(_ROOT2)
                totals[number] = totals[number] + spectrum * factor
        return stack([irfftn(total, shape) * region for total in totals])

    rhs = stack([field * w for field, w in zip(data, weights, strict=True)])
    return lsmr(
        apply,
        adjoint,
        rhs,
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )


def _true_components(x: Any) -> list[Any]:
    """Tensor components of LSMR's unknowns."""
    return [part if number < 3 else part * float(1 / _ROOT2) for number, part in enumerate(x)]


def offdiagonal_field(chi: Sequence[Any], axes: np.ndarray, k: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Field of chi13 and chi23: - F^-1 [k_z (k_x F chi13 + k_y F chi23) / |k|^2], k in the laboratory frame."""
    kx, ky, kz = (sum(float(axis[m]) * k[m] for m in range(3)) for axis in axes)
    return irfftn(-kz * (kx * rfftn(chi[0]) + ky * rfftn(chi[1])), shape)
