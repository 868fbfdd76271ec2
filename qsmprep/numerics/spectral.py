"""Per-frequency solves of the inversion methods, each one pass over the half spectra.

The gradient's spectrum is separable, sum_d |E_d|^2 = e0[i] + e1[j] + e2[k], and only those three rows are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Array, ComplexImage, FloatImage, Mask, Scalar
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import indices, is_tensor, to_device
from qsmprep.numerics.jit import jit, prange


@dataclass(frozen=True)
class Spectra:
    """Half spectra of a grid: dipole kernel and minus the 7-point Laplacian, the latter as three rows.

    Attributes
    ----------
    dipole : (n0, n1, n2 // 2 + 1) float32, numpy or torch.
    rows : three float32 arrays of n0, n1 and n2 // 2 + 1 values, per mm^2.
    """

    dipole: Array
    rows: tuple[Array, Array, Array]

    @property
    def laplacian(self) -> Array:
        """The whole spectrum of minus the Laplacian, by broadcasting."""
        return self.rows[0][:, None, None] + self.rows[1][None, :, None] + self.rows[2][None, None, :]


def spectra(
    shape: tuple[int, ...],
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    *,
    kernel: str,
    device: str = "cpu",
) -> Spectra:
    """Spectra of a padded grid on the device where the solver runs."""
    dipole = dipole_kernel(shape, voxel_size_mm, b0_direction, kind=kernel)
    return Spectra(to_device(dipole, device), laplacian_rows(shape, voxel_size_mm, device))


def laplacian_rows(
    shape: tuple[int, ...], voxel_size_mm: tuple[float, float, float], device: str
) -> tuple[Array, Array, Array]:
    """The rows of `Spectra`."""
    rows = [
        ((2 - 2 * np.cos(2 * np.pi * n / size)) / h**2).ravel().astype(np.float32)
        for n, size, h in zip(indices(shape), shape, voxel_size_mm, strict=True)
    ]
    first, second, third = (to_device(row, device) for row in rows)
    return first, second, third


def solve_field_and_gradient(
    divergence: Array, data: Array, spectra: Spectra, mu_gradient: float, mu_data: float
) -> tuple[Array, Array]:
    """Minimise mu_gradient/2 |grad x - z|^2 + mu_data/2 |D x - d|^2 for x.

    Parameters
    ----------
    divergence : half spectrum of grad' z; overwritten.
    data : half spectrum of d; overwritten.
    spectra : of the grid.
    mu_gradient, mu_data : penalty parameters.

    Returns
    -------
    Half spectra of x and of D x, both 0 at zero frequency.
    """
    if is_tensor(divergence):
        dipole = spectra.dipole
        bottom = mu_data * dipole**2 + mu_gradient * spectra.laplacian
        bottom[0, 0, 0] = 1
        x = (mu_gradient * divergence + mu_data * dipole * data) / bottom
        x[0, 0, 0] = 0
        return x, dipole * x
    _solve_pair(divergence, data, spectra.dipole, *spectra.rows, np.float32(mu_gradient), np.float32(mu_data))
    return divergence, data


def solve_with_harmonic(
    divergence: Array,
    data: Array,
    source: Array,
    spectra: Spectra,
    mu_gradient: float,
    mu_data: float,
    mu_harmonic: float,
) -> tuple[Array, Array, Array]:
    """Minimise mu_gradient/2 |grad x - z|^2 + mu_data/2 |D x + p - d|^2 + mu_harmonic/2 |L p - q|^2 for x and p.

    Parameters
    ----------
    divergence, data, source : half spectra of grad' z, d and q; overwritten.
    spectra : of the grid; L is minus the Laplacian.
    mu_gradient, mu_data, mu_harmonic : penalty parameters.

    Returns
    -------
    Half spectra of x, of D x + p, and of L p.
    """
    if is_tensor(divergence):
        dipole, laplacian = spectra.dipole, spectra.laplacian
        stiff = mu_data + mu_harmonic * laplacian**2
        bent = mu_harmonic * laplacian * dipole
        bottom = mu_gradient * laplacian * stiff + mu_data * mu_harmonic * (laplacian * dipole) ** 2
        bottom[0, 0, 0] = 1
        x = mu_gradient * stiff * divergence + mu_data * bent * (laplacian * data - source)
        p = mu_gradient * mu_data * (laplacian * data - dipole * divergence)
        p = p + mu_harmonic * laplacian * (mu_gradient * laplacian + mu_data * dipole**2) * source
        x, p = x / bottom, p / bottom
        p[0, 0, 0] = data[0, 0, 0]
        return x, dipole * x + p, laplacian * p
    mu = (np.float32(mu_gradient), np.float32(mu_data), np.float32(mu_harmonic))
    _solve_triple(divergence, data, source, spectra.dipole, *spectra.rows, *mu)
    return divergence, data, source


def solve_gradient_and_known(
    divergence: Array, known: Array, trusted: Array, spectra: Spectra, mu: float, rho: float
) -> Array:
    """Minimise mu/2 sum T |x - x0|^2 + rho/2 |grad x - z|^2 for x, where T tells how far each frequency is trusted.

    `divergence` (half spectrum of grad' z) is overwritten by x; `known` is the half spectrum T x0; `trusted` is T >= 0,
    boolean or float32: D^2, with known = D f, gives the data term |D x - f|^2 of an evenly weighted field.
    """
    if is_tensor(divergence):
        bottom = mu * trusted + rho * spectra.laplacian
        bottom[0, 0, 0] = 1
        x = (mu * known + rho * divergence) / bottom
        x[0, 0, 0] = 0
        return x
    _solve_known(divergence, known, trusted, *spectra.rows, np.float32(mu), np.float32(rho))
    return divergence


@jit(parallel=True)
def _solve_pair(
    divergence: ComplexImage, data: ComplexImage, dipole: FloatImage, e0: FloatImage, e1: FloatImage, e2: FloatImage,
    mu1: Scalar, mu2: Scalar,
) -> None:  # fmt: skip
    n0, n1, n2 = data.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                d, e = dipole[i, j, k], e0[i] + e1[j] + e2[k]
                # the mean is 0, also with a kernel whose own mean is not: nothing else would hold it
                scale = np.float32(1) / (mu2 * d * d + mu1 * e) if e > 0 else np.float32(0)
                g, b = scale * mu1, scale * mu2 * d
                u, v = divergence[i, j, k], data[i, j, k]
                real, imag = g * u.real + b * v.real, g * u.imag + b * v.imag
                divergence[i, j, k] = complex(real, imag)
                data[i, j, k] = complex(d * real, d * imag)


@jit(parallel=True)
def _solve_triple(
    divergence: ComplexImage, data: ComplexImage, source: ComplexImage, dipole: FloatImage, e0: FloatImage,
    e1: FloatImage, e2: FloatImage, mu1: Scalar, mu2: Scalar, mu3: Scalar,
) -> None:  # fmt: skip
    n0, n1, n2 = data.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                d, e = dipole[i, j, k], e0[i] + e1[j] + e2[k]
                # determinant and numerators without the terms that cancel: exact also at low frequencies
                bottom = mu1 * e * (mu2 + mu3 * e * e) + mu2 * mu3 * (d * e) * (d * e)
                scale = np.float32(1) / bottom if bottom > 0 else np.float32(0)
                u, v, q = divergence[i, j, k], data[i, j, k], source[i, j, k]
                if e == 0:
                    divergence[i, j, k] = 0
                    source[i, j, k] = 0
                    continue
                xu = scale * mu1 * (mu2 + mu3 * e * e)
                xv = scale * mu2 * mu3 * e * e * d
                xq = -scale * mu2 * mu3 * d * e
                pu = -scale * mu1 * mu2 * d
                pv = scale * mu1 * mu2 * e
                pq = scale * mu3 * e * (mu1 * e + mu2 * d * d)
                x_real = xu * u.real + xv * v.real + xq * q.real
                x_imag = xu * u.imag + xv * v.imag + xq * q.imag
                p_real = pu * u.real + pv * v.real + pq * q.real
                p_imag = pu * u.imag + pv * v.imag + pq * q.imag
                divergence[i, j, k] = complex(x_real, x_imag)
                data[i, j, k] = complex(d * x_real + p_real, d * x_imag + p_imag)
                source[i, j, k] = complex(e * p_real, e * p_imag)


@jit(parallel=True)
def _solve_known(
    divergence: ComplexImage, known: ComplexImage, trusted: FloatImage | Mask, e0: FloatImage, e1: FloatImage,
    e2: FloatImage, mu: Scalar, rho: Scalar,
) -> None:  # fmt: skip
    n0, n1, n2 = known.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                sure = mu * np.float32(trusted[i, j, k])
                e = e0[i] + e1[j] + e2[k]
                scale = np.float32(1) / (sure + rho * e) if e > 0 else np.float32(0)
                u, v = divergence[i, j, k], known[i, j, k]
                divergence[i, j, k] = complex(
                    scale * (rho * u.real + mu * v.real), scale * (rho * u.imag + mu * v.imag)
                )
