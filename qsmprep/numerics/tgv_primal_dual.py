"""Primal-dual iteration of single-step inversion with total generalised variation, with stencils alone.

min over phi, chi, w of 1/2 |phi|^2 + alpha1 |grad chi - w| + alpha0 |E w|
subject to laplacian(phi) = d chi - source wherever there is data.

d = 1/3 laplacian - (b . grad)^2 makes the Laplacian of its field of a susceptibility, E is the symmetric gradient, and
phi the misfit of the field, whose harmonic part is free. With eta, p and q the multipliers of the three relations, one
iteration is two passes over memory, over the primal and over the dual variables, and over the rows of the domain
only. The domain's edge is free: differences that would leave it do not exist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsmprep.numerics.arrays import Array, DoubleArray, FloatImage, Mask, Scalar
from qsmprep.numerics.fourier import is_tensor, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.symmetric_gradient import PAIRS

MARGIN = 2  # voxels of a grid around its data: the domain, and the neighbours of the domain
RELAXATION = 1.8  # of all variables; the solution stays where it is
DATA, PENALISED = 9, 10  # bits of `TgvGrid.flags` behind the three of p and the six of q
# Magnitudes that the steps suit: phi (ppm), chi (ppm), w times the finest grid's voxel size h (ppm), eta (ppm mm^2),
# p / alpha1 and q / alpha0. They set the pace, not the minimum; chosen on simulated heads of 1 and 2 mm.
SCALES = (0.003, 0.05, 0.02, 0.01, 5.0, 5.0)


@dataclass(frozen=True)
class TgvGrid:
    """What stays during the iteration.

    Attributes
    ----------
    source : (n0, n1, n2) Laplacian of the measured field, ppm / mm^2, 0 where there is no data.
    flags : (n0, n1, n2) uint16: bits 0-2, component of p exists; 3-8, of q; 9, data; 10, phi is penalised. On a torch
        device (11, n0, n1, n2) float32, one image a bit.
    spans : (n0, n1, 2) int32, first and last + 1 voxel of the domain in each row.
    stencil : float32 (12,), from `stencils`.
    steps : float32 (6,), of phi, chi, w, eta, p and q.
    alpha1, alpha0 : bounds of |p| and |q|.
    """

    source: Array
    flags: Array
    spans: NDArray[np.int32]
    stencil: FloatImage
    steps: FloatImage
    alpha1: float
    alpha0: float


@dataclass
class State:
    """Images phi, chi, eta, vectors w, p (3, ...), tensors q (6, ...), and the extrapolated primal variables."""

    phi: Array
    chi: Array
    w: Array
    eta: Array
    p: Array
    q: Array
    phi_bar: Array
    chi_bar: Array
    w_bar: Array


# More than 8 parameters: it makes the `TgvGrid` that groups them.
def make_grid(
    source: FloatImage,
    data: Mask,
    penalised: Mask,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    alpha1: float,
    alpha0: float,
    finest_mm: float | None = None,
    device: str = "cpu",
) -> TgvGrid:
    """A grid for the iteration; its domain is `penalised` and every voxel within one of `data`, diagonals included.

    Parameters
    ----------
    source : (n0, n1, n2) float32, Laplacian of the field, ppm / mm^2.
    data, penalised : (n0, n1, n2) bool, False in the outer MARGIN voxels.
    voxel_size_mm, b0_direction : of the grid; b0_direction of any length.
    alpha1, alpha0 : regularisation parameters, ppm mm and ppm mm^2.
    finest_mm : voxel size of the finest grid; None: this one's.
    device : "cpu", or a torch device.
    """
    from scipy.ndimage import binary_dilation

    domain = binary_dilation(data, np.ones((3, 3, 3), bool)) | penalised
    edges = [domain & np.roll(domain, -1, axis) for axis in range(3)]
    bits = edges + [edge & np.roll(edge, 1, axis) for axis, edge in enumerate(edges)]
    bits += [edges[i] & np.roll(edges[i], 1, j) & edges[j] & np.roll(edges[j], 1, i) for i, j in PAIRS]
    bits += [data, penalised]
    if device == "cpu":
        flags = np.zeros(domain.shape, np.uint16)
        for bit, part in enumerate(bits):
            flags |= part.astype(np.uint16) << np.uint16(bit)
    else:
        flags = to_device(np.stack(bits).astype(np.float32), device)
    rows = domain.any(axis=2)
    first = np.where(rows, domain.argmax(axis=2), 0)
    last = np.where(rows, domain.shape[2] - domain[..., ::-1].argmax(axis=2), 0)
    stencil = stencils(voxel_size_mm, b0_direction)
    size = finest_mm or float(np.prod(voxel_size_mm)) ** (1 / 3)
    units = (1, 1, 1 / size, 1, alpha1, alpha0)
    magnitudes = tuple(scale * unit for scale, unit in zip(SCALES, units, strict=True))
    return TgvGrid(
        source=to_device((source * data).astype(np.float32), device),
        flags=flags,
        spans=np.stack([first, last], axis=-1).astype(np.int32),
        stencil=stencil,
        steps=step_sizes(stencil, magnitudes),
        alpha1=alpha1,
        alpha0=alpha0,
    )


def stencils(voxel_size_mm: tuple[float, float, float], b0_direction: tuple[float, float, float]) -> FloatImage:
    """float32 (12,): 1/h, 1/h^2, (1/3 - b^2)/h^2, and -b_i b_j / (2 h_i h_j) for the mixed differences of d."""
    h, b = np.asarray(voxel_size_mm, float), np.asarray(b0_direction, float)
    b = b / np.linalg.norm(b)
    mixed = [-b[i] * b[j] / (2 * h[i] * h[j]) for i, j in PAIRS]
    return np.concatenate([1 / h, 1 / h**2, (1 / 3 - b**2) / h**2, mixed]).astype(np.float32)


def step_sizes(stencil: FloatImage, scales: tuple[float, ...]) -> FloatImage:
    """Step of each variable, float32 (6,): its scale over the sum of its relations' coefficients, all scaled.

    With these the iteration converges whatever the scales (Pock and Chambolle 2011, lemma 2). Mixed components of q
    count twice in its norm, and enter with the square root of 2.
    """
    s = stencil.astype(float)
    phi, chi, w, eta, p, q = scales
    laplacian, gradient = 4 * s[3:6].sum(), 2 * s[:3].sum()
    dipole = 2 * np.abs(s[6:9]).sum() + 2 * abs(s[6:9].sum()) + 4 * np.abs(s[9:]).sum()
    tensor_of_w = max(2 * s[d] + math.sqrt(2) * (s[:3].sum() - s[d]) for d in range(3))
    tensor_row = max(2 * s[:3].max(), math.sqrt(2) * (s[:3].sum() - s[:3].min()))
    steps = (
        phi / (eta * laplacian),
        chi / (eta * dipole + p * gradient),
        w / (p + q * tensor_of_w),
        eta / (phi * laplacian + chi * dipole),
        p / (2 * chi * s[:3].max() + w),
        q / (w * tensor_row),
    )
    return np.array(steps, np.float32)


def zero_state(shape: tuple[int, ...], device: str = "cpu") -> State:
    """All variables 0."""
    leading = {"w": (3,), "p": (3,), "q": (6,), "w_bar": (3,)}
    return State(
        **{f.name: to_device(np.zeros((*leading.get(f.name, ()), *shape), np.float32), device) for f in fields(State)}
    )


def finer_state(coarse: State, grid: TgvGrid, shape: tuple[int, ...], device: str = "cpu") -> State:
    """All variables on a grid of twice the coarse one's shape, by linear interpolation, within the domain."""
    fine = zero_state(shape)
    for name in ("phi", "chi", "w", "eta", "p", "q"):
        _prolong(
            np.atleast_1d(to_numpy(getattr(coarse, name))).reshape(-1, *coarse.chi.shape),
            grid.spans,
            getattr(fine, name).reshape(-1, *shape),
        )
    flags = to_numpy(grid.flags)

    def exists(bit: int) -> NDArray[Any]:
        return (flags >> np.uint16(bit)) & 1 if flags.ndim == 3 else flags[bit]

    for split, first in ((fine.p, 0), (fine.q, 3)):
        for component in range(len(split)):
            split[component] *= exists(first + component)
    fine.eta *= exists(DATA)
    return State(**{f.name: to_device(getattr(fine, f.name), device) for f in fields(State)})


def primal_step(state: State, grid: TgvGrid) -> tuple[float, float]:
    """Update phi, chi, w and their extrapolations from eta, p, q. Returns |change of chi| and |chi before|."""
    if is_tensor(state.chi):
        return _primal_tensors(state, grid)
    norms = np.zeros((2, state.chi.shape[0]))
    _primal(state.phi, state.chi, state.w, state.phi_bar, state.chi_bar, state.w_bar, state.eta, state.p, state.q,
            grid.flags, grid.spans, grid.stencil, grid.steps, np.float32(RELAXATION), norms)  # fmt: skip
    return math.sqrt(math.fsum(norms[0])), math.sqrt(math.fsum(norms[1]))


def dual_step(state: State, grid: TgvGrid) -> None:
    """Update eta, p and q from the extrapolated phi, chi and w."""
    if is_tensor(state.chi):
        _dual_tensors(state, grid)
        return
    _dual(state.phi_bar, state.chi_bar, state.w_bar, state.eta, state.p, state.q, grid.source, grid.flags, grid.spans,
          grid.stencil, grid.steps, np.float32(grid.alpha1), np.float32(grid.alpha0),
          np.float32(RELAXATION))  # fmt: skip


def _second_differences(image: Array, stencil: FloatImage) -> tuple[Array, Array]:
    """Laplacian of a tensor image, and d of it; the image is 0 in its outer voxels."""
    s = [float(value) for value in stencil]
    second = [image.roll(1, axis) + image.roll(-1, axis) - 2 * image for axis in range(3)]
    dipole = sum(s[6 + axis] * second[axis] for axis in range(3))
    for (i, j), mixed in zip(PAIRS, s[9:], strict=True):
        if mixed:
            across = image.roll(-1, i) - image.roll(1, i)
            dipole = dipole + mixed * (across.roll(-1, j) - across.roll(1, j))
    return sum(s[3 + axis] * second[axis] for axis in range(3)), dipole


def _primal_tensors(state: State, grid: TgvGrid) -> tuple[float, float]:
    import torch

    i = [float(value) for value in grid.stencil[:3]]
    t_phi, t_chi, t_w = (float(value) for value in grid.steps[:3])
    laplacian, dipole = _second_differences(state.eta, grid.stencil)
    divergence = sum((state.p[d] - state.p[d].roll(1, d)) * i[d] for d in range(3))
    rows = ((0, 3, 4), (3, 1, 5), (4, 5, 2))
    pulled = [state.p[d] + sum((state.q[c].roll(-1, j) - state.q[c]) * i[j] for j, c in enumerate(rows[d]))
              for d in range(3)]  # fmt: skip
    steps = (
        (state.phi + t_phi * laplacian) / (1 + t_phi * grid.flags[PENALISED]) - state.phi,
        t_chi * (divergence - dipole),
        t_w * torch.stack(pulled),
    )
    size, change = (math.sqrt(float((a * a).sum(dtype=torch.float64))) for a in (state.chi, steps[1]))
    for name, step in zip(("phi", "chi", "w"), steps, strict=True):
        value = getattr(state, name)
        setattr(state, f"{name}_bar", value + 2 * step)
        value.add_(step, alpha=RELAXATION)
    return change, size


def _dual_tensors(state: State, grid: TgvGrid) -> None:
    import torch

    i = [float(value) for value in grid.stencil[:3]]
    s_eta, s_p, s_q = (float(value) for value in grid.steps[3:])
    laplacian, _ = _second_differences(state.phi_bar, grid.stencil)
    _, dipole = _second_differences(state.chi_bar, grid.stencil)
    state.eta.add_(RELAXATION * s_eta * grid.flags[DATA] * (dipole - laplacian - grid.source))
    slope = torch.stack([(state.chi_bar.roll(-1, d) - state.chi_bar) * i[d] for d in range(3)]) - state.w_bar
    p = (state.p + s_p * slope) * grid.flags[:3]
    p = p * (grid.alpha1 / (p * p).sum(0).sqrt().clamp(min=grid.alpha1))
    state.p.add_(p - state.p, alpha=RELAXATION)

    def back(component: int, axis: int) -> Array:
        return (state.w_bar[component] - state.w_bar[component].roll(1, axis)) * i[axis]

    bends = [back(d, d) for d in range(3)] + [(back(a, b) + back(b, a)) / 2 for a, b in PAIRS]
    q = (state.q + s_q * torch.stack(bends)) * grid.flags[3:9]
    length = ((q[:3] ** 2).sum(0) + 2 * (q[3:] ** 2).sum(0)).sqrt()
    q = q * (grid.alpha0 / length.clamp(min=grid.alpha0))
    state.q.add_(q - state.q, alpha=RELAXATION)


@jit(parallel=True)
def _prolong(coarse: FloatImage, spans: NDArray[np.int32], fine: FloatImage) -> None:
    """Linear interpolation to half the voxel size: weights 3/4 and 1/4 along each axis."""
    near, far = np.float32(0.75), np.float32(0.25)
    for a in prange(1, fine.shape[1] - 1):
        u = a // 2
        v = u - 1 + 2 * (a % 2)
        for b in range(1, fine.shape[2] - 1):
            g = b // 2
            h = g - 1 + 2 * (b % 2)
            for part in range(fine.shape[0]):
                image = coarse[part]
                for c in range(spans[a, b, 0], spans[a, b, 1]):
                    k = c // 2
                    m = k - 1 + 2 * (c % 2)
                    fine[part, a, b, c] = near * (
                        near * (near * image[u, g, k] + far * image[u, g, m])
                        + far * (near * image[u, h, k] + far * image[u, h, m])
                    ) + far * (
                        near * (near * image[v, g, k] + far * image[v, g, m])
                        + far * (near * image[v, h, k] + far * image[v, h, m])
                    )


@jit()
def _mixed(
    image: FloatImage, a: int, b: int, lo: int, hi: int, m01: Scalar, m02: Scalar, m12: Scalar, out: FloatImage
) -> None:
    """Add the mixed second differences of a row to `out`."""
    pp, pm = image[a + 1, b + 1, lo:hi], image[a + 1, b - 1, lo:hi]
    mp, mm = image[a - 1, b + 1, lo:hi], image[a - 1, b - 1, lo:hi]
    ap, am = image[a + 1, b, lo - 1 : hi + 1], image[a - 1, b, lo - 1 : hi + 1]
    bp, bm = image[a, b + 1, lo - 1 : hi + 1], image[a, b - 1, lo - 1 : hi + 1]
    for c in range(hi - lo):
        out[c] += (
            m01 * (pp[c] - pm[c] - mp[c] + mm[c])
            + m02 * (ap[c + 2] - ap[c] - am[c + 2] + am[c])
            + m12 * (bp[c + 2] - bp[c] - bm[c + 2] + bm[c])
        )


@jit(parallel=True)
def _primal(
    phi: FloatImage, chi: FloatImage, w: FloatImage, phi_bar: FloatImage, chi_bar: FloatImage, w_bar: FloatImage,
    eta: FloatImage, p: FloatImage, q: FloatImage, flags: NDArray[np.uint16], spans: NDArray[np.int32], s: FloatImage,
    steps: FloatImage, relaxation: Scalar, norms: DoubleArray,
) -> None:  # fmt: skip
    n0, n1, n2 = chi.shape
    i0, i1, i2, l0, l1, l2 = s[0], s[1], s[2], s[3], s[4], s[5]
    d0, d1, d2, m01, m02, m12 = s[6], s[7], s[8], s[9], s[10], s[11]
    lc = np.float32(-2) * (l0 + l1 + l2)
    dc = np.float32(-2) * (d0 + d1 + d2)
    slanted = m01 != 0 or m02 != 0 or m12 != 0
    t_phi, t_chi, t_w = steps[0], steps[1], steps[2]
    one, two = np.float32(1), np.float32(2)
    for a in prange(n0):
        change, size = np.zeros(n2), np.zeros(n2)  # sums by column vectorise in a fixed order
        dipole = np.empty(n2, chi.dtype)
        for b in range(n1):
            lo, hi = spans[a, b, 0], spans[a, b, 1]
            if hi <= lo:
                continue
            n = hi - lo
            e, e0p, e0m = eta[a, b, lo - 1 : hi + 1], eta[a + 1, b, lo:hi], eta[a - 1, b, lo:hi]
            e1p, e1m = eta[a, b + 1, lo:hi], eta[a, b - 1, lo:hi]
            flag = flags[a, b, lo:hi]
            f, fb = phi[a, b, lo:hi], phi_bar[a, b, lo:hi]
            for c in range(n):
                g = e[c + 1]
                dipole[c] = dc * g + d0 * (e0p[c] + e0m[c]) + d1 * (e1p[c] + e1m[c]) + d2 * (e[c + 2] + e[c])
                lap = lc * g + l0 * (e0p[c] + e0m[c]) + l1 * (e1p[c] + e1m[c]) + l2 * (e[c + 2] + e[c])
                inside = np.float32((flag[c] >> 10) & 1)
                old = f[c]
                new = (old + t_phi * lap) / (one + t_phi * inside)
                fb[c] = two * new - old
                f[c] = old + relaxation * (new - old)
            if slanted:
                _mixed(eta, a, b, lo, hi, m01, m02, m12, dipole)
            x, xb = chi[a, b, lo:hi], chi_bar[a, b, lo:hi]
            p0, p0m, p1, p1m = p[0, a, b, lo:hi], p[0, a - 1, b, lo:hi], p[1, a, b, lo:hi], p[1, a, b - 1, lo:hi]
            p2 = p[2, a, b, lo - 1 : hi]
            for c in range(n):
                divergence = (p0[c] - p0m[c]) * i0 + (p1[c] - p1m[c]) * i1 + (p2[c + 1] - p2[c]) * i2
                old = x[c]
                step = t_chi * (divergence - dipole[c])
                xb[c] = old + two * step
                x[c] = old + relaxation * step
                change[c] += np.float64(step) ** 2
                size[c] += np.float64(old) ** 2
            q00, q00p = q[0, a, b, lo:hi], q[0, a + 1, b, lo:hi]
            q01, q01p1, q01p0 = q[3, a, b, lo:hi], q[3, a, b + 1, lo:hi], q[3, a + 1, b, lo:hi]
            q02, q02p0 = q[4, a, b, lo : hi + 1], q[4, a + 1, b, lo:hi]
            q11, q11p = q[1, a, b, lo:hi], q[1, a, b + 1, lo:hi]
            q12, q12p1 = q[5, a, b, lo : hi + 1], q[5, a, b + 1, lo:hi]
            q22 = q[2, a, b, lo : hi + 1]
            w0, w0b = w[0, a, b, lo:hi], w_bar[0, a, b, lo:hi]
            w1, w1b = w[1, a, b, lo:hi], w_bar[1, a, b, lo:hi]
            w2, w2b = w[2, a, b, lo:hi], w_bar[2, a, b, lo:hi]
            for c in range(n):
                step = t_w * (p0[c] + (q00p[c] - q00[c]) * i0 + (q01p1[c] - q01[c]) * i1 + (q02[c + 1] - q02[c]) * i2)
                w0b[c] = w0[c] + two * step
                w0[c] += relaxation * step
            for c in range(n):
                step = t_w * (p1[c] + (q01p0[c] - q01[c]) * i0 + (q11p[c] - q11[c]) * i1 + (q12[c + 1] - q12[c]) * i2)
                w1b[c] = w1[c] + two * step
                w1[c] += relaxation * step
            for c in range(n):
                step = t_w * (
                    p2[c + 1] + (q02p0[c] - q02[c]) * i0 + (q12p1[c] - q12[c]) * i1 + (q22[c + 1] - q22[c]) * i2
                )
                w2b[c] = w2[c] + two * step
                w2[c] += relaxation * step
        norms[0, a] = change.sum()
        norms[1, a] = size.sum()


@jit(parallel=True)
def _dual(
    phi: FloatImage, chi: FloatImage, w: FloatImage, eta: FloatImage, p: FloatImage, q: FloatImage, source: FloatImage,
    flags: NDArray[np.uint16], spans: NDArray[np.int32], s: FloatImage, steps: FloatImage, alpha1: Scalar,
    alpha0: Scalar, relaxation: Scalar,
) -> None:  # fmt: skip
    n0, n1, n2 = chi.shape
    i0, i1, i2, l0, l1, l2 = s[0], s[1], s[2], s[3], s[4], s[5]
    d0, d1, d2, m01, m02, m12 = s[6], s[7], s[8], s[9], s[10], s[11]
    lc = np.float32(-2) * (l0 + l1 + l2)
    dc = np.float32(-2) * (d0 + d1 + d2)
    slanted = m01 != 0 or m02 != 0 or m12 != 0
    s_eta, s_p, s_q = steps[3], steps[4], steps[5]
    two, half = np.float32(2), np.float32(0.5)
    for a in prange(n0):
        dipole = np.empty(n2, chi.dtype)
        for b in range(n1):
            lo, hi = spans[a, b, 0], spans[a, b, 1]
            if hi <= lo:
                continue
            n = hi - lo
            x, x0p, x0m = chi[a, b, lo - 1 : hi + 1], chi[a + 1, b, lo:hi], chi[a - 1, b, lo:hi]
            x1p, x1m = chi[a, b + 1, lo:hi], chi[a, b - 1, lo:hi]
            f, f0p, f0m = phi[a, b, lo - 1 : hi + 1], phi[a + 1, b, lo:hi], phi[a - 1, b, lo:hi]
            f1p, f1m = phi[a, b + 1, lo:hi], phi[a, b - 1, lo:hi]
            flag, wanted, e = flags[a, b, lo:hi], source[a, b, lo:hi], eta[a, b, lo:hi]
            for c in range(n):
                g = x[c + 1]
                dipole[c] = dc * g + d0 * (x0p[c] + x0m[c]) + d1 * (x1p[c] + x1m[c]) + d2 * (x[c + 2] + x[c])
            if slanted:
                _mixed(chi, a, b, lo, hi, m01, m02, m12, dipole)
            for c in range(n):
                lap = lc * f[c + 1] + l0 * (f0p[c] + f0m[c]) + l1 * (f1p[c] + f1m[c]) + l2 * (f[c + 2] + f[c])
                e[c] += relaxation * s_eta * np.float32((flag[c] >> 9) & 1) * (dipole[c] - lap - wanted[c])
            w0, w1, w2 = w[0, a, b, lo - 1 : hi], w[1, a, b, lo - 1 : hi], w[2, a, b, lo - 1 : hi]
            p0, p1, p2 = p[0, a, b, lo:hi], p[1, a, b, lo:hi], p[2, a, b, lo:hi]
            for c in range(n):
                g, bits = x[c + 1], flag[c]
                y0 = (p0[c] + s_p * ((x0p[c] - g) * i0 - w0[c + 1])) * np.float32(bits & 1)
                y1 = (p1[c] + s_p * ((x1p[c] - g) * i1 - w1[c + 1])) * np.float32((bits >> 1) & 1)
                y2 = (p2[c] + s_p * ((x[c + 2] - g) * i2 - w2[c + 1])) * np.float32((bits >> 2) & 1)
                shrink = alpha1 / max(alpha1, np.sqrt(y0 * y0 + y1 * y1 + y2 * y2))
                p0[c] += relaxation * (y0 * shrink - p0[c])
                p1[c] += relaxation * (y1 * shrink - p1[c])
                p2[c] += relaxation * (y2 * shrink - p2[c])
            w0a, w1a, w2a = w[0, a - 1, b, lo:hi], w[1, a - 1, b, lo:hi], w[2, a - 1, b, lo:hi]
            w0b, w1b, w2b = w[0, a, b - 1, lo:hi], w[1, a, b - 1, lo:hi], w[2, a, b - 1, lo:hi]
            q00, q11, q22 = q[0, a, b, lo:hi], q[1, a, b, lo:hi], q[2, a, b, lo:hi]
            q01, q02, q12 = q[3, a, b, lo:hi], q[4, a, b, lo:hi], q[5, a, b, lo:hi]
            for c in range(n):
                bits = flag[c]
                v0, v1, v2 = w0[c + 1], w1[c + 1], w2[c + 1]
                y00 = (q00[c] + s_q * (v0 - w0a[c]) * i0) * np.float32((bits >> 3) & 1)
                y11 = (q11[c] + s_q * (v1 - w1b[c]) * i1) * np.float32((bits >> 4) & 1)
                y22 = (q22[c] + s_q * (v2 - w2[c]) * i2) * np.float32((bits >> 5) & 1)
                y01 = (q01[c] + s_q * half * ((v0 - w0b[c]) * i1 + (v1 - w1a[c]) * i0)) * np.float32((bits >> 6) & 1)
                y02 = (q02[c] + s_q * half * ((v0 - w0[c]) * i2 + (v2 - w2a[c]) * i0)) * np.float32((bits >> 7) & 1)
                y12 = (q12[c] + s_q * half * ((v1 - w1[c]) * i2 + (v2 - w2b[c]) * i1)) * np.float32((bits >> 8) & 1)
                squared = y00 * y00 + y11 * y11 + y22 * y22 + two * (y01 * y01 + y02 * y02 + y12 * y12)
                shrink = alpha0 / max(alpha0, np.sqrt(squared))
                q00[c] += relaxation * (y00 * shrink - q00[c])
                q11[c] += relaxation * (y11 * shrink - q11[c])
                q22[c] += relaxation * (y22 * shrink - q22[c])
                q01[c] += relaxation * (y01 * shrink - q01[c])
                q02[c] += relaxation * (y02 * shrink - q02[c])
                q12[c] += relaxation * (y12 * shrink - q12[c])
