"""Whether directions of B0 differ enough: condition numbers of the two multi-orientation problems."""

from __future__ import annotations

import numpy as np

SAMPLES = 20000  # directions of k that stand for the sphere
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # the order of a symmetric tensor's components


def unit_directions(b0_directions: np.ndarray, least: int, what: str) -> np.ndarray:
    """The directions as unit vectors (n, 3), float64.

    Raises
    ------
    ValueError : fewer than `least`, not (n, 3), not finite, or a null vector; `what` names the method.
    """
    directions = np.asarray(b0_directions, float)
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"Directions of B0 must be of shape (n, 3); got {directions.shape}.")
    if len(directions) < least:
        raise ValueError(f"{what} needs {least} or more orientations; there are {len(directions)}.")
    lengths = np.linalg.norm(directions, axis=1)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise ValueError("Directions of B0 must be finite and not the null vector.")
    return np.asarray(directions / lengths[:, None])


def cosmos_condition(directions: np.ndarray) -> float:
    """Largest over smallest root of sum_i D_i(k)^2, D_i = 1/3 - (k.b_i)^2, over all directions of k.

    1 would be a noise the same at every frequency; it is infinite where all cones of zeros meet.

    References
    ----------
    Liu 2009 (condition number of the rotations).
    """
    k = _sphere()
    response = np.sqrt((np.square(1 / 3 - np.square(k @ directions.T))).sum(axis=1))
    lowest = float(response.min())
    return float(response.max()) / lowest if lowest > 0 else float("inf")


def tensor_condition(directions: np.ndarray) -> float:
    """Condition number of the map from a symmetric tensor S to b_i' S b_i, off-diagonal entries scaled by sqrt 2.

    The field of a susceptibility tensor is b' S b with S a bijection of the tensor at every k (see `sti`), so this is
    what the choice of directions does to the noise; six directions on a cone about one axis make it infinite.
    """
    values = np.linalg.svd(quadratic_forms(directions, np.sqrt(2.0)), compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 1e-12 * values[0] else float("inf")


def quadratic_forms(directions: np.ndarray, off_diagonal: float = 2.0) -> np.ndarray:
    """(n, 6) matrix that takes the components of S (order of PAIRS) to b' S b."""
    return np.stack([b[:, m] * b[:, n] * (1 if m == n else off_diagonal) for m, n in PAIRS for b in (directions,)], 1)


def check_condition(condition: float, largest: float, directions: np.ndarray, what: str) -> None:
    """Refuse directions that are too close to each other.

    Raises
    ------
    ValueError : the condition number exceeds `largest`; the message tells it and the angles between the directions.
    """
    if condition <= largest:
        return
    cosines = np.abs(directions @ directions.T)[np.triu_indices(len(directions), 1)]
    angles = np.degrees(np.arccos(np.clip(cosines, 0, 1)))
    raise ValueError(
        f"The orientations are too much alike for {what}: condition number {condition:.3g}, allowed is {largest:g}; "
        f"B0 turns by {angles.min():.1f} to {angles.max():.1f} degrees between them. Scan the head at larger angles, "
        "about more than one axis."
    )


def _sphere() -> np.ndarray:
    """Points spread evenly over half a sphere (Fibonacci lattice); D does not tell k from -k."""
    i = np.arange(SAMPLES) + 0.5
    z = i / SAMPLES
    angle = np.pi * (1 + np.sqrt(5)) * i
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)
