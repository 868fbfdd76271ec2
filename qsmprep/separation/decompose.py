"""DECOMPOSE-QSM: three pools in a voxel, fitted to the complex decay that magnitude and echo-wise QSM make."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Fact
from qsmprep.numerics.arrays import ComplexImage, DoubleArray, Mask, RealArray, Scalar
from qsmprep.numerics.elementary import cosine_sine, exponential, logarithm
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan
from qsmprep.separation import Separation

LEAST_ECHOES = 5
CHUNK = 1 << 15  # voxels fitted between two calls of progress
STATIC = 2 * math.pi / (9 * math.sqrt(3))  # dephasing by spheres in the static regime, over their angular frequency


@dataclass(frozen=True)
class DecomposeOptions:
    """Options of DECOMPOSE-QSM."""

    largest: float = option(0.5, "largest susceptibility of either pool", unit="ppm", low=0.01, high=10)
    max_iterations: int = option(40, "cap on iterations in a voxel", low=1, high=1000)
    tolerance: float = option(1e-4, "relative fall of the misfit at which a voxel is done", low=1e-10, high=0.1)


def decompose(
    magnitude: RealArray,
    echo_chi_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    options: DecomposeOptions = DecomposeOptions(),
    progress: Progress | None = None,
) -> Separation:
    """Fractions and susceptibilities of a paramagnetic, a diamagnetic and a neutral pool in every voxel.

    S(t) = C+ exp(-(a x+ + R) t + i w+ t) + C- exp(-(a |x-| + R) t + i w- t) + C0 exp(-R t), with w = 2/3 of the angular
    frequency of the pool's susceptibility x and a |x| its static dephasing, is fitted to the magnitude with the phase
    2/3 chi(t) 2 pi f0 t. For given x+, x- and R the fractions are the best of all that are >= 0; those three follow by
    Levenberg-Marquardt.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), five echoes or more.
    echo_chi_ppm : (n_echo, n0, n1, n2) susceptibility of each echo in ppm.
    mask : (n0, n1, n2).
    scan : echo times and centre frequency.
    options : parameters.
    progress : called as progress(voxels done, voxels).

    Returns
    -------
    Separation with C+ x+ and C- |x-| in ppm. Voxels without signal are left out of its mask.

    Raises
    ------
    ValueError : fewer than five echoes, or shapes that differ.

    References
    ----------
    Chen 2021.

    Examples
    --------
    A voxel whose phase turns as paramagnetic sources make it, and whose magnitude decays with them:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> times = np.arange(1, 7) * 0.005
    >>> magnitude = np.exp(-30 * times).reshape(-1, 1, 1, 1)
    >>> scan = Scan((1, 1, 1), echo_times_s=times, centre_frequency_mhz=123.2)
    >>> found = decompose(magnitude, np.full(magnitude.shape, 0.05), np.ones((1, 1, 1), bool), scan=scan)
    >>> bool(found.chi_para.item() > 2 * found.chi_dia.item()), bool(found.mask.item())
    (True, True)
    """
    check_options(options)
    times = scan.known_echo_times_s
    if len(times) < LEAST_ECHOES:
        raise ValueError(f"DECOMPOSE-QSM needs {LEAST_ECHOES} echoes or more; there are {len(times)}.")
    magnitude, chi, inside = np.asarray(magnitude), np.asarray(echo_chi_ppm), np.asarray(mask) > 0
    if magnitude.shape != (len(times), *inside.shape) or chi.shape != magnitude.shape:
        raise ValueError(
            f"Magnitude {magnitude.shape}, susceptibility {chi.shape} and mask {inside.shape} do not belong to "
            f"{len(times)} echoes of one scan."
        )
    angular = 2 * math.pi * scan.frequency_mhz * 2 / 3  # rad/s per ppm
    static = STATIC * 2 * math.pi * scan.frequency_mhz  # 1/s per ppm
    chosen = np.flatnonzero(inside & np.isfinite(magnitude).all(axis=0) & (magnitude[0] > 0))
    para, dia = np.zeros((2, inside.size), np.float32)
    done = np.zeros(inside.size, bool)
    flat_magnitude, flat_chi = (image.reshape(len(times), -1) for image in (magnitude, chi))
    for start in range(0, chosen.size, CHUNK):
        part = chosen[start : start + CHUNK]
        signal = flat_magnitude[:, part].T.astype(np.float64)
        scale = signal[:, :1].copy()
        phase = np.nan_to_num(flat_chi[:, part].T.astype(np.float64)) * angular * times
        found = np.zeros((part.size, 3))
        turned = np.empty(signal.shape, np.complex128)
        _turn(signal / scale, phase, turned)
        _fit(turned, times, angular, static, options.largest, 3.0 / times[0],
             options.max_iterations, options.tolerance, found)  # fmt: skip
        para[part], dia[part], done[part] = found[:, 0], found[:, 1], found[:, 2] > 0
        if progress is not None:
            progress(min(start + CHUNK, chosen.size), chosen.size)
    if not chosen.size:
        raise ValueError("No voxel of the mask has signal in every echo.")
    settled = float(done[chosen].mean())
    kept = np.zeros(inside.size, bool)
    kept[chosen] = True
    return Separation(
        para.reshape(inside.shape), dia.reshape(inside.shape), kept.reshape(inside.shape),
        facts=(Fact("settled_share", "voxels whose fit settled", "%", 100 * settled),),
    )  # fmt: skip


@jit(parallel=True)
def _turn(size: DoubleArray, phase: DoubleArray, turned: ComplexImage) -> None:
    """Complex numbers of these sizes and phases, all (voxels, echoes)."""
    for i in prange(size.shape[0]):
        for e in range(size.shape[1]):
            cosine, sine = cosine_sine(phase[i, e])
            turned[i, e] = complex(size[i, e] * cosine, size[i, e] * sine)


@jit()
def _pools(
    times: DoubleArray, para: Scalar, dia: Scalar, rate: Scalar, angular: Scalar, static: Scalar, out: ComplexImage
) -> None:
    """The three pools' signals, (3, n_echo) complex, each with fraction 1."""
    for e in range(times.size):
        t = times[e]
        decay = exponential(-rate * t)
        size = decay * exponential(-static * para * t)
        cosine, sine = cosine_sine(angular * para * t)
        out[0, e] = complex(size * cosine, size * sine)
        size = decay * exponential(-static * dia * t)
        cosine, sine = cosine_sine(-angular * dia * t)
        out[1, e] = complex(size * cosine, size * sine)
        out[2, e] = complex(decay, 0.0)


@jit()
def _fractions(pools: ComplexImage, signal: ComplexImage, fractions: DoubleArray) -> float:
    """Best fractions >= 0 of three pools; returns the sum of squares left. All seven subsets are tried."""
    n = signal.size
    gram, right = np.zeros((3, 3)), np.zeros(3)
    total = 0.0
    for e in range(n):
        total += signal[e].real ** 2 + signal[e].imag ** 2
        for i in range(3):
            p = pools[i, e]
            right[i] += p.real * signal[e].real + p.imag * signal[e].imag
            for j in range(i, 3):
                q = pools[j, e]
                gram[i, j] += p.real * q.real + p.imag * q.imag
    best = total
    fractions[:] = 0.0
    for i in range(3):
        value = right[i] / gram[i, i]
        if value > 0 and total - value * right[i] < best:
            best = total - value * right[i]
            fractions[:] = 0.0
            fractions[i] = value
    for i in range(3):
        for j in range(i + 1, 3):
            bottom = gram[i, i] * gram[j, j] - gram[i, j] ** 2
            if bottom <= 1e-12 * gram[i, i] * gram[j, j]:
                continue
            x = (gram[j, j] * right[i] - gram[i, j] * right[j]) / bottom
            y = (gram[i, i] * right[j] - gram[i, j] * right[i]) / bottom
            left = total - x * right[i] - y * right[j]
            if x > 0 and y > 0 and left < best:
                best = left
                fractions[:] = 0.0
                fractions[i], fractions[j] = x, y
    a, b, c = gram[0, 0], gram[0, 1], gram[0, 2]
    d, e1, f = gram[1, 1], gram[1, 2], gram[2, 2]
    minor0, minor1, minor2 = d * f - e1 * e1, c * e1 - b * f, b * e1 - c * d
    bottom = a * minor0 + b * minor1 + c * minor2
    if bottom > 1e-12 * a * d * f:
        x = (minor0 * right[0] + minor1 * right[1] + minor2 * right[2]) / bottom
        y = (minor1 * right[0] + (a * f - c * c) * right[1] + (b * c - a * e1) * right[2]) / bottom
        z = (minor2 * right[0] + (b * c - a * e1) * right[1] + (a * d - b * b) * right[2]) / bottom
        left = total - x * right[0] - y * right[1] - z * right[2]
        if x > 0 and y > 0 and z > 0 and left < best:
            best = left
            fractions[0], fractions[1], fractions[2] = x, y, z
    return max(best, 0.0)


@jit()
def _solve3(matrix: DoubleArray, right: DoubleArray, out: DoubleArray) -> None:
    """Symmetric positive definite 3 x 3 system by elimination; `matrix` is overwritten."""
    for j in range(3):
        out[j] = right[j]
    for j in range(3):
        for k in range(j + 1, 3):
            factor = matrix[k, j] / matrix[j, j]
            for m in range(j, 3):
                matrix[k, m] -= factor * matrix[j, m]
            out[k] -= factor * out[j]
    for j in range(2, -1, -1):
        for k in range(j + 1, 3):
            out[j] -= matrix[j, k] * out[k]
        out[j] /= matrix[j, j]


@jit()
def _inner(u: ComplexImage, v: ComplexImage) -> float:
    total = 0.0
    for e in range(u.size):
        total += u[e].real * v[e].real + u[e].imag * v[e].imag
    return total


@jit()
def _project_out(pools: ComplexImage, fractions: DoubleArray, slopes: ComplexImage, basis: ComplexImage) -> None:
    """Take from the slopes what the fractions would make up for (variable projection, Kaufman 1975)."""
    n, used = pools.shape[1], 0
    for i in range(3):
        if fractions[i] <= 0:
            continue
        size = np.sqrt(_inner(pools[i], pools[i]))
        basis[used] = pools[i]
        for k in range(used):
            shadow = _inner(basis[k], basis[used])
            for e in range(n):
                basis[used, e] -= shadow * basis[k, e]
        left = np.sqrt(_inner(basis[used], basis[used]))
        if left > 1e-6 * size:
            for e in range(n):
                basis[used, e] /= left
            used += 1
    for j in range(3):
        for k in range(used):
            shadow = _inner(basis[k], slopes[j])
            for e in range(n):
                slopes[j, e] -= shadow * basis[k, e]


@jit(parallel=True)
def _fit(
    signals: ComplexImage,
    times: DoubleArray,
    angular: float,
    static: float,
    largest: float,
    fastest: Scalar,
    max_iterations: int,
    tolerance: float,
    found: DoubleArray,
) -> None:
    n = times.size
    for i in prange(signals.shape[0]):
        signal = signals[i]
        pools, fractions = np.empty((3, n), np.complex128), np.zeros(3)
        shifted, moved = np.empty((3, n), np.complex128), np.zeros(3)
        basis = np.empty((3, n), np.complex128)
        slopes, residual, step = np.empty((3, n), np.complex128), np.empty(n, np.complex128), np.zeros(3)
        last = math.sqrt(signal[n - 1].real ** 2 + signal[n - 1].imag ** 2)
        rate = logarithm(1.0 / max(last, 1e-3)) / (times[n - 1] - times[0])
        x = np.array([0.1, 0.1, min(max(0.7 * rate, 0.1), fastest)])
        high = np.array([largest, largest, fastest])
        trial = x.copy()
        _pools(times, x[0], x[1], x[2], angular, static, pools)
        cost = _fractions(pools, signal, fractions)
        damping, settled = 1e-2, False
        for _ in range(max_iterations):
            for e in range(n):
                residual[e] = signal[e] - (
                    fractions[0] * pools[0, e] + fractions[1] * pools[1, e] + fractions[2] * pools[2, e]
                )
                t = times[e]
                slopes[0, e] = fractions[0] * pools[0, e] * t * complex(-static, angular)
                slopes[1, e] = fractions[1] * pools[1, e] * t * complex(-static, -angular)
                slopes[2, e] = -t * (signal[e] - residual[e])
            _project_out(pools, fractions, slopes, basis)
            normal, right = np.zeros((3, 3)), np.zeros(3)
            for e in range(n):
                for j in range(3):
                    s = slopes[j, e]
                    right[j] += s.real * residual[e].real + s.imag * residual[e].imag
                    for k in range(3):
                        u = slopes[k, e]
                        normal[j, k] += s.real * u.real + s.imag * u.imag
            better = False
            while damping < 1e8:
                matrix = normal.copy()
                for j in range(3):
                    matrix[j, j] += damping * normal[j, j] + 1e-12
                _solve3(matrix, right, step)
                for j in range(3):
                    trial[j] = min(max(x[j] + step[j], 0.0), high[j])
                _pools(times, trial[0], trial[1], trial[2], angular, static, shifted)
                new = _fractions(shifted, signal, moved)
                if new < cost:
                    settled = cost - new <= tolerance * cost
                    x[:], pools[:], fractions[:], cost = trial, shifted, moved, new
                    damping = max(damping / 10, 1e-9)
                    better = True
                    break
                damping *= 10
            if settled or not better:
                settled = True
                break
        whole = fractions[0] + fractions[1] + fractions[2]
        if whole > 0:
            found[i, 0] = fractions[0] / whole * x[0]
            found[i, 1] = fractions[1] / whole * x[1]
        found[i, 2] = 1.0 if settled else 0.0
