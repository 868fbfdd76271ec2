"""Laplacian unwrapping: one Poisson equation, a smooth answer that need not be the phase modulo whole turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.operators import laplacian_spectrum
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.threads import thread_count
from qsmprep.numerics.units import TWO_PI
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple
from qsmprep.unwrap import Unwrapping
from qsmprep.unwrap.quality import voxel_quality


@dataclass(frozen=True)
class LaplacianOptions:
    """Options of Laplacian unwrapping."""

    solver: str = option(
        "neumann",
        "border of the volume; neumann is exact for smooth phase",
        choices=("neumann", "periodic"),
    )
    congruent: bool = option(
        False, "add the multiple of 2 pi to the measured phase that comes nearest to the smooth solution"
    )


def laplacian(
    phase: np.ndarray,
    *,
    scan: Scan,
    mask: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    options: LaplacianOptions = LaplacianOptions(),
    progress: Progress | None = None,
) -> Unwrapping:
    """Unwrap every echo by the Poisson equation of its wrapped phase steps.

    The Laplacian of the unwrapped phase is the divergence of the wrapped steps between neighbours (on the 7-point
    stencil the same as cos(phi) lap(sin(phi)) - sin(phi) lap(cos(phi)) for smooth phase). Steps to voxels outside the
    mask are left out; inside, the solution is then right up to a harmonic function, as a background field is. The
    constant is set so that solution and phase agree, on average over the mask, modulo whole turns.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) or (n0, n1, n2), rad. Voxels that are not finite become 0.
    scan : its voxel size; echo times, where known, serve the quality map alone.
    mask : (n0, n1, n2) bool; by default the whole volume.
    magnitude : shape of `phase`; used for the quality map alone.
    progress : called as progress(echoes done, echoes).

    Returns
    -------
    Unwrapping, with the ROMEO quality map of the first echo.

    Raises
    ------
    ValueError
        When shapes do not fit or the mask is empty.

    References
    ----------
    Schofield & Zhu 2003, Opt Lett 28:1194.

    Examples
    --------
    A smooth phase of several turns comes back, but for a constant:

    >>> truth = (12 * np.linspace(-1, 1, 24) ** 2)[:, None, None] + np.zeros((24, 4, 4))
    >>> found = laplacian(np.angle(np.exp(1j * truth)), scan=Scan((1, 1, 1)))
    >>> round(float(np.ptp(found.phase - truth)), 3)
    0.0
    """
    check_options(options)
    echoes = phase[None] if phase.ndim == 3 else phase
    mask = np.ones(echoes.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    if echoes.ndim != 4 or mask.shape != echoes.shape[1:]:
        raise ValueError(f"Mask of shape {mask.shape} does not fit phase of shape {phase.shape}.")
    unwrapped = np.zeros(echoes.shape, np.float32)
    isolated = 0
    for number, echo in enumerate(echoes):
        wrapped = np.array(echo, np.float32, order="C")
        valid = np.ascontiguousarray(mask & np.isfinite(wrapped))
        if not valid.any():
            raise ValueError("The mask is empty: no voxel with finite phase to unwrap.")
        unwrapped[number] = _unwrap(wrapped, valid, scan.voxel_size_mm, options)
        isolated += int(np.count_nonzero(mask) - np.count_nonzero(valid))
        if progress is not None:
            progress(number + 1, len(echoes))
    quality = _quality(echoes, magnitude, scan.echo_times_s, mask)
    return Unwrapping(unwrapped.reshape(phase.shape), quality, isolated)


def _unwrap(wrapped: FloatImage, valid: Mask, voxel_size_mm: Triple, options: LaplacianOptions) -> FloatImage:
    source = np.empty(wrapped.shape, np.float32)
    periodic = options.solver == "periodic"
    _source(wrapped, valid, np.array(voxel_size_mm, np.float32) ** -2, periodic, source)
    solve = _solve_periodic if periodic else _solve_neumann
    smooth = solve(source, voxel_size_mm)
    constant = np.angle(np.mean(np.exp(1j * (wrapped[valid] - smooth[valid])), dtype=np.complex128))
    smooth += np.float32(constant)
    if options.congruent:
        with np.errstate(invalid="ignore"):
            smooth = wrapped + np.float32(TWO_PI) * np.rint((smooth - wrapped) / np.float32(TWO_PI))
    return np.where(valid, smooth, np.float32(0))


def _solve_neumann(source: FloatImage, voxel_size_mm: Triple) -> FloatImage:
    from scipy.fft import dctn, idctn

    spectrum = dctn(source, type=2, workers=thread_count(), overwrite_x=True)
    eigenvalues = sum(
        ((2 * np.cos(np.pi * np.arange(n) / n) - 2) / h**2).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, h) in enumerate(zip(source.shape, voxel_size_mm, strict=True))
    ).astype(np.float32)
    eigenvalues[0, 0, 0] = np.inf  # the constant is free
    spectrum /= eigenvalues
    solution: FloatImage = idctn(spectrum, type=2, workers=thread_count(), overwrite_x=True)
    return solution


def _solve_periodic(source: FloatImage, voxel_size_mm: Triple) -> FloatImage:
    eigenvalues = -laplacian_spectrum(source.shape, voxel_size_mm)
    eigenvalues[0, 0, 0] = np.inf
    spectrum = rfftn(source)
    spectrum /= eigenvalues
    solution: FloatImage = irfftn(spectrum, source.shape)
    return solution


def _quality(echoes: RealArray, magnitude: RealArray | None, echo_times_s: tuple[float, ...], mask: Mask) -> FloatImage:
    first = np.ascontiguousarray(echoes[0], np.float32)
    strength = None
    if magnitude is not None:
        strength = magnitude if magnitude.ndim == 3 else magnitude[0]
        strength = np.nan_to_num(np.maximum(strength, 0), posinf=0).astype(np.float32)
    second, ratio = None, 1.0
    if echo_times_s and len(echoes) > 1:
        second, ratio = np.ascontiguousarray(echoes[1], np.float32), echo_times_s[0] / echo_times_s[1]
    return voxel_quality(first, mask=mask, second_phase=second, time_ratio=ratio, magnitude=strength)


@jit(parallel=True)
def _source(phase: RealArray, valid: Mask, scales: RealArray, periodic: bool, source: RealArray) -> None:
    """Divergence of the wrapped steps between valid neighbours, per mm^2."""
    n0, n1, n2 = phase.shape
    for a in prange(n0):
        for b in range(n1):
            for k in range(n2):
                source[a, b, k] = 0
                if not valid[a, b, k]:
                    continue
                here = phase[a, b, k]
                for side in (-1, 1):
                    x, y, z = (a + side) % n0, (b + side) % n1, (k + side) % n2
                    if valid[x, b, k] and (periodic or x == a + side):
                        source[a, b, k] += scales[0] * _wrap(phase[x, b, k] - here)
                    if valid[a, y, k] and (periodic or y == b + side):
                        source[a, b, k] += scales[1] * _wrap(phase[a, y, k] - here)
                    if valid[a, b, z] and (periodic or z == k + side):
                        source[a, b, k] += scales[2] * _wrap(phase[a, b, z] - here)


@jit()
def _wrap(x: Any) -> Any:
    return x - np.float32(TWO_PI) * np.rint(x / np.float32(TWO_PI))
