"""Steps of the alternating direction method of multipliers, each one pass over memory.

A split of y = A x with the soft threshold keeps one array, a = A x + s (s: scaled dual). The split variable is
z = soft(a, t), the new dual s = a - z = clip(a, -t, t), and what the next solve wants is z - s = a - 2 clip(a, -t, t).

The solves' results enter over-relaxed, RELAXATION A x + (1 - RELAXATION) z instead of A x, which leaves the minimiser
as it is and saves a third of the iterations (Boyd 2011, section 3.4.3).

Numpy arrays go through compiled loops, torch tensors through torch; norms are summed in double precision by plane, in
a fixed order.
"""

from __future__ import annotations

import math

import numpy as np

from qsmprep.numerics.arrays import Array, DoubleArray, FloatImage, Labels, Scalar
from qsmprep.numerics.fourier import is_tensor
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.operators import gradient, gradient_adjoint, inverse_sizes

NEWTON_STEPS = 4  # from the linear solution, float32 precision for any phase error below 2 rad
SLOPE = 0.05  # least slope that Newton's iteration of the L1 data term divides by
RELAXATION = 1.8
BLOCK = 16  # planes that one thread sweeps in a row


def threshold_rows(threshold: float, weights: Array, shape: tuple[int, ...], like: Array) -> Array:
    """Threshold of each gradient component as `shrink_gradient` reads it: (3, n0, n1, n2), or one row for all voxels.

    Parameters
    ----------
    threshold : regularisation parameter over penalty parameter.
    weights : (3, n0, n1, n2) factor of each component, or None.
    shape : (n0, n1, n2).
    like : array or tensor whose kind and device the result shall have.
    """
    if weights is None:
        rows = np.full((3, 1, 1, shape[2]), threshold, np.float32)
    else:
        rows = np.ascontiguousarray(weights * np.float32(threshold), dtype=np.float32)
    if is_tensor(like):
        import torch

        return torch.as_tensor(rows, device=like.device)
    return rows


def shrink_gradient(
    x: Array, before: Array, split: Array, thresholds: Array, voxel_size_mm: tuple[float, float, float]
) -> tuple[Array, float, float]:
    """Soft threshold and dual update of the split z = grad x.

    Parameters
    ----------
    x : (n0, n1, n2) the new image.
    before : (n0, n1, n2) the image before; overwritten by the result.
    split : (3, n0, n1, n2) the array a; updated in place. Start with zeros.
    thresholds : from `threshold_rows`.
    voxel_size_mm : edge lengths in mm.

    Returns
    -------
    adjoint gradient of z - s (in the memory of `before`); |x - before|; |x|.
    """
    if is_tensor(x):
        change, size = _tensor_norm(x - before), _tensor_norm(x)
        kept = (1 - RELAXATION) * split + RELAXATION * _clip(split, thresholds)
        split.copy_(RELAXATION * gradient(x, voxel_size_mm) + kept)
        return gradient_adjoint(split - 2 * _clip(split, thresholds), voxel_size_mm), change, size
    inverse = inverse_sizes(voxel_size_mm, np.dtype(np.float32))
    relaxation = np.float32(RELAXATION)
    starts = np.arange(0, x.shape[0], BLOCK)
    halo = np.empty((starts.size, *x.shape[1:]), np.float32)
    norms = np.empty((2, x.shape[0]))
    _halo(x, split, thresholds, *inverse, relaxation, starts, halo)
    _shrink_gradient(x, before, split, thresholds, *inverse, relaxation, starts, halo, norms)
    return before, math.sqrt(math.fsum(norms[0])), math.sqrt(math.fsum(norms[1]))


def zero_split(image: Array) -> Array:
    """The split array of `shrink_gradient` at the start: zeros of shape (3, n0, n1, n2), like `image`."""
    if is_tensor(image):
        return image.new_zeros((3, *image.shape))
    return np.zeros((3, *image.shape), image.dtype)


def relative_change(change: float, size: float) -> float:
    """|x - before| / |x|, 0 when both are 0."""
    return change / size if size > 0 else 0.0


def fit_phase(
    forward: Array, data: Array, dual: Array, phase: Array, weights: Array, mu: float, *, nonlinear: bool
) -> Array:
    """Data step: split z of the field D x, its dual update, and z - s for the next solve.

    z minimises W (1 - cos(z - phase)) + mu/2 (z - v)^2 with v = D x + s (non-linear), or W/2 (z - phase)^2 + ... .

    Parameters
    ----------
    forward : (n0, n1, n2) D x in rad.
    data : (n0, n1, n2) z - s of the iteration before; overwritten by the result.
    dual : (n0, n1, n2) s; updated in place. Start with zeros.
    phase : (n0, n1, n2) measured phase in rad, wrapped or not.
    weights : (n0, n1, n2) W, squared data weights.
    mu : penalty parameter.
    nonlinear : complex data term, blind to phase wraps, rather than the quadratic one.

    Returns
    -------
    z - s for the next solve.
    """
    if is_tensor(forward):
        v = RELAXATION * forward + (1 - RELAXATION) * data + (2 - RELAXATION) * dual
        miss = v - phase
        if nonlinear:
            miss = miss - (2 * math.pi) * (miss / (2 * math.pi)).round()
            u = miss * mu / (weights + mu)
            for _ in range(NEWTON_STEPS):
                u = u - (weights * u.sin() + mu * (u - miss)) / (weights * u.cos() + mu).clamp(min=0.01 * mu)
            dual.copy_(miss - u)
        else:
            dual.copy_(weights * miss / (weights + mu))
        return v - 2 * dual
    loop = _fit_phase if nonlinear else _fit_phase_linear
    loop(*_flat(forward, data, dual, phase, weights), np.float32(mu), np.float32(RELAXATION))
    return data


def fit_phase_l1(
    forward: Array, data: Array, dual: Array, phase: Array, weights: Array, mu: float, *, nonlinear: bool
) -> Array:
    """Data step of an L1 data term; arguments, what is overwritten and result as in `fit_phase`.

    z minimises w |exp(i z) - exp(i phase)| + mu/2 (z - v)^2 with v = D x + s (non-linear), or w |z - phase| + ... . The
    weights w are not squared. With m the distance of v from the phase, z stays at the phase for m <= w / mu; beyond,
    the distance u that is left solves u = m - w / mu cos(u / 2), which has one root between m - w / mu and m, and
    Newton's iteration climbs to it from the former without overshooting. The linear term has cos = 1.
    """
    if is_tensor(forward):
        v = RELAXATION * forward + (1 - RELAXATION) * data + (2 - RELAXATION) * dual
        miss, limit = v - phase, weights / mu
        if not nonlinear:
            dual.copy_(_clip(miss, limit))
            return v - 2 * dual
        miss = miss - (2 * math.pi) * (miss / (2 * math.pi)).round()
        u = (miss.abs() - limit).clamp(min=0)
        for _ in range(NEWTON_STEPS):
            slope = (1 - limit / 2 * (u / 2).sin()).clamp(min=SLOPE)
            u = (u - (u - miss.abs() + limit * (u / 2).cos()) / slope).minimum(miss.abs())
        dual.copy_(miss.where(miss.abs() <= limit, miss - miss.sign() * u))
        return v - 2 * dual
    loop = _fit_phase_l1 if nonlinear else _fit_phase_l1_linear
    loop(*_flat(forward, data, dual, phase, weights), np.float32(mu), np.float32(RELAXATION))
    return data


def fit_harmonic(laplacian: Array, split: Array, mask: Array, beta: float, mu: float) -> Array:
    """Split of L = laplacian of the harmonic field, penalised by beta/2 |M L|^2.

    `laplacian` (n0, n1, n2) is overwritten by z - s, which is returned; `split` holds the array a and starts with
    zeros; `mask` is float32, 1 inside.
    """
    keep = mu / (mu + beta)
    if is_tensor(laplacian):
        split.copy_(RELAXATION * laplacian + (1 - RELAXATION + RELAXATION * (1 - keep) * mask) * split)
        return split * (1 - (2 - 2 * keep) * mask)
    _fit_harmonic(
        laplacian.reshape(-1), split.reshape(-1), mask.reshape(-1), np.float32(1 - keep), np.float32(RELAXATION)
    )
    return laplacian


def _flat(
    forward: FloatImage, data: FloatImage, dual: FloatImage, phase: FloatImage, weights: FloatImage
) -> tuple[FloatImage, FloatImage, FloatImage, FloatImage, FloatImage]:
    return forward.reshape(-1), data.reshape(-1), dual.reshape(-1), phase.reshape(-1), weights.reshape(-1)


def _clip(a: Array, limit: Array) -> Array:
    return a.minimum(limit).maximum(-limit)


def _tensor_norm(a: Array) -> float:
    import torch

    return math.sqrt(float((a * a).sum(dtype=torch.float64)))


@jit()
def _push(
    here: FloatImage, there: FloatImage, split: FloatImage, limit: FloatImage, inverse: Scalar, relaxation: Scalar,
    out: FloatImage,
) -> None:  # fmt: skip
    """Update one row of `split`; out <- split - 2 clip(split)."""
    for c in range(out.size):
        kept = split[c] + relaxation * (min(max(split[c], -limit[c]), limit[c]) - split[c])
        a = relaxation * (there[c] - here[c]) * inverse + kept
        split[c] = a
        out[c] = a - 2 * min(max(a, -limit[c]), limit[c])


@jit()
def _peek(
    here: FloatImage, there: FloatImage, split: FloatImage, limit: FloatImage, inverse: Scalar, relaxation: Scalar,
    out: FloatImage,
) -> None:  # fmt: skip
    """`out` of `_push` without touching `split`."""
    for c in range(out.size):
        kept = split[c] + relaxation * (min(max(split[c], -limit[c]), limit[c]) - split[c])
        a = relaxation * (there[c] - here[c]) * inverse + kept
        out[c] = a - 2 * min(max(a, -limit[c]), limit[c])


@jit(parallel=True)
def _halo(
    x: FloatImage, split: FloatImage, limit: FloatImage, inverse0: Scalar, inverse1: Scalar, inverse2: Scalar,
    relaxation: Scalar, starts: Labels, halo: FloatImage,
) -> None:  # fmt: skip
    """First component of z - s on the plane in front of each block, before its owner overwrites `split`."""
    n0, n1, _ = x.shape
    step0, step1 = min(limit.shape[1] - 1, 1), min(limit.shape[2] - 1, 1)
    for block in prange(starts.size):
        p = starts[block] - 1 if starts[block] > 0 else n0 - 1
        for b in range(n1):
            row, bound = split[0, p, b], limit[0, p * step0, b * step1]
            _peek(x[p, b], x[starts[block], b], row, bound, inverse0, relaxation, halo[block, b])


@jit(parallel=True)
def _shrink_gradient(
    x: FloatImage, before: FloatImage, split: FloatImage, limit: FloatImage, inverse0: Scalar, inverse1: Scalar,
    inverse2: Scalar, relaxation: Scalar, starts: Labels, halo: FloatImage, norms: DoubleArray,
) -> None:  # fmt: skip
    n0, n1, n2 = x.shape
    step0, step1 = min(limit.shape[1] - 1, 1), min(limit.shape[2] - 1, 1)
    for block in prange(starts.size):
        stop = starts[block + 1] if block + 1 < starts.size else n0
        front = halo[block]
        u0, u1, u2, left = np.empty(n2, x.dtype), np.empty(n2, x.dtype), np.empty(n2, x.dtype), np.empty(n2, x.dtype)
        for p in range(starts[block], stop):
            q = p + 1 if p + 1 < n0 else 0
            last = n1 - 1
            bound = limit[1, p * step0, last * step1]
            _peek(x[p, last], x[p, 0], split[1, p, last], bound, inverse1, relaxation, left)
            change, size = np.zeros(n2), np.zeros(n2)  # sums by column vectorise in a fixed order
            for b in range(n1):
                row, old = x[p, b], before[p, b]
                for c in range(n2):
                    size[c] += np.float64(row[c]) ** 2
                    change[c] += np.float64(row[c] - old[c]) ** 2
                bounds = limit[:, p * step0, b * step1]
                along = split[2, p, b]
                _push(row, x[q, b], split[0, p, b], bounds[0], inverse0, relaxation, u0)
                _push(row, x[p, b + 1 if b < last else 0], split[1, p, b], bounds[1], inverse1, relaxation, u1)
                _push(row[:-1], row[1:], along[:-1], bounds[2, :-1], inverse2, relaxation, u2[:-1])
                _push(row[-1:], row[:1], along[-1:], bounds[2, -1:], inverse2, relaxation, u2[-1:])
                old[0] = (u2[n2 - 1] - u2[0]) * inverse2
                for c in range(1, n2):
                    old[c] = (u2[c - 1] - u2[c]) * inverse2
                behind = front[b]
                for c in range(n2):
                    old[c] += (behind[c] - u0[c]) * inverse0 + (left[c] - u1[c]) * inverse1
                for c in range(n2):
                    behind[c] = u0[c]
                    left[c] = u1[c]
            norms[0, p] = change.sum()
            norms[1, p] = size.sum()


@jit()
def _sine_cosine(h: Scalar) -> tuple[Scalar, Scalar]:
    """Series that reach float32 precision for |h| <= pi/2, all an angle's half needs, and that compile to vectors."""
    one, q = np.float32(1), h * h
    s3, s5, s7, s9, s11 = (
        np.float32(-1 / 6),
        np.float32(1 / 120),
        np.float32(-1 / 5040),
        np.float32(1 / 362880),
        np.float32(-1 / 39916800),
    )
    c2, c4, c6, c8, c10, c12 = (
        np.float32(-1 / 2),
        np.float32(1 / 24),
        np.float32(-1 / 720),
        np.float32(1 / 40320),
        np.float32(-1 / 3628800),
        np.float32(1 / 479001600),
    )
    sine = h * (one + q * (s3 + q * (s5 + q * (s7 + q * (s9 + q * s11)))))
    cosine = one + q * (c2 + q * (c4 + q * (c6 + q * (c8 + q * (c10 + q * c12)))))
    return sine, cosine


@jit(parallel=True)
def _fit_phase(
    forward: FloatImage, data: FloatImage, dual: FloatImage, phase: FloatImage, weights: FloatImage, mu: Scalar,
    relaxation: Scalar,
) -> None:  # fmt: skip
    half, two, one = np.float32(0.5), np.float32(2), np.float32(1)
    turn, per_turn = np.float32(2 * np.pi), np.float32(0.5 / np.pi)
    for i in prange(forward.size):
        w = weights[i]
        v = relaxation * (forward[i] - data[i]) + data[i] + (two - relaxation) * dual[i]
        miss = v - phase[i]
        miss -= turn * np.floor(miss * per_turn + half)
        u = miss * mu / (w + mu)
        for _ in range(NEWTON_STEPS):
            sine, cosine = _sine_cosine(half * u)
            slope = w * (one - two * sine * sine) + mu
            u -= (w * two * sine * cosine + mu * (u - miss)) / max(slope, np.float32(0.01) * mu)
        dual[i] = miss - u
        data[i] = v - two * (miss - u)


@jit(parallel=True)
def _fit_phase_linear(
    forward: FloatImage, data: FloatImage, dual: FloatImage, phase: FloatImage, weights: FloatImage, mu: Scalar,
    relaxation: Scalar,
) -> None:  # fmt: skip
    for i in prange(forward.size):
        v = relaxation * (forward[i] - data[i]) + data[i] + (2 - relaxation) * dual[i]
        s = weights[i] * (v - phase[i]) / (weights[i] + mu)
        dual[i] = s
        data[i] = v - 2 * s


@jit(parallel=True)
def _fit_phase_l1(
    forward: FloatImage, data: FloatImage, dual: FloatImage, phase: FloatImage, weights: FloatImage, mu: Scalar,
    relaxation: Scalar,
) -> None:  # fmt: skip
    half, two, one, zero = np.float32(0.5), np.float32(2), np.float32(1), np.float32(0)
    turn, per_turn = np.float32(2 * np.pi), np.float32(0.5 / np.pi)
    for i in prange(forward.size):
        limit = weights[i] / mu
        v = relaxation * (forward[i] - data[i]) + data[i] + (two - relaxation) * dual[i]
        miss = v - phase[i]
        miss -= turn * np.floor(miss * per_turn + half)
        m = abs(miss)
        u = max(m - limit, zero)
        for _ in range(NEWTON_STEPS):
            sine, cosine = _sine_cosine(half * u)
            slope = max(one - half * limit * sine, np.float32(SLOPE))
            u = min(u - (u - m + limit * cosine) / slope, m)
        s = m if m <= limit else m - u
        s = s if miss >= zero else -s
        dual[i] = s
        data[i] = v - two * s


@jit(parallel=True)
def _fit_phase_l1_linear(
    forward: FloatImage, data: FloatImage, dual: FloatImage, phase: FloatImage, weights: FloatImage, mu: Scalar,
    relaxation: Scalar,
) -> None:  # fmt: skip
    for i in prange(forward.size):
        limit = weights[i] / mu
        v = relaxation * (forward[i] - data[i]) + data[i] + (2 - relaxation) * dual[i]
        s = min(max(v - phase[i], -limit), limit)
        dual[i] = s
        data[i] = v - 2 * s


@jit(parallel=True)
def _fit_harmonic(laplacian: FloatImage, split: FloatImage, mask: FloatImage, damp: Scalar, relaxation: Scalar) -> None:
    for i in prange(laplacian.size):
        part = damp * mask[i]
        t = relaxation * (laplacian[i] + part * split[i]) + (1 - relaxation) * split[i]
        split[i] = t
        laplacian[i] = t * (1 - 2 * part)
