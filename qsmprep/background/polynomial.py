"""Removal of a polynomial from a field inside a mask."""

from __future__ import annotations

import itertools

import numpy as np


def subtract_polynomial(field: np.ndarray, mask: np.ndarray, order: int) -> np.ndarray:
    """The field without the polynomial of a total degree that is closest to it inside the mask.

    Parameters
    ----------
    field : (n0, n1, n2), any unit.
    mask : (n0, n1, n2) bool, with at least one voxel.
    order : largest sum of the three exponents, >= 0. Order 0 subtracts the mean.

    Returns
    -------
    (n0, n1, n2) float32, 0 outside the mask.

    Examples
    --------
    >>> ramp = np.arange(5.0).reshape(5, 1, 1) + np.zeros((5, 4, 3))
    >>> bool(np.allclose(subtract_polynomial(ramp, np.ones((5, 4, 3), bool), 1), 0, atol=1e-6))
    True
    """
    # Coordinates within [-1, 1] keep the powers of one size; plain sums over the axes do not depend on threads.
    axes = [2 * np.arange(n) / max(n - 1, 1) - 1 for n in field.shape]
    powers = [np.stack([axis**p for p in range(2 * order + 1)]) for axis in axes]
    exponents = np.array([e for e in itertools.product(range(order + 1), repeat=3) if sum(e) <= order])
    moments = _moments(mask.astype(np.float64), powers)
    both = exponents[:, None] + exponents[None]
    normal = moments[both[..., 0], both[..., 1], both[..., 2]]
    low = [p[: order + 1] for p in powers]
    right = _moments(np.where(mask, field, 0).astype(np.float64), low)[tuple(exponents.T)]
    cube = np.zeros((order + 1,) * 3)
    cube[tuple(exponents.T)] = np.linalg.lstsq(normal, right, rcond=1e-12)[0]
    rows = np.einsum("pqr,rk->pqk", cube, low[2])
    planes = np.einsum("pqk,qj->pjk", rows, low[1])
    fitted = np.zeros(field.shape)
    for p, power in enumerate(low[0]):
        fitted += power[:, None, None] * planes[p]
    return np.where(mask, field - fitted, 0).astype(np.float32)


def _moments(values: np.ndarray, powers: list[np.ndarray]) -> np.ndarray:
    """Sums of values times x^p y^q z^r over the volume, for all powers given."""
    lines = np.einsum("ijk,rk->ijr", values, powers[2])
    planes = np.einsum("ijr,qj->iqr", lines, powers[1])
    return np.asarray(np.einsum("iqr,pi->pqr", planes, powers[0]))
