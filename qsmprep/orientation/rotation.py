"""Turning with the head: directions of B0 and laboratory axes in the voxel axes of a reference grid."""

from __future__ import annotations

import numpy as np


def world_axes(affine: np.ndarray) -> np.ndarray:
    """(3, 3) matrix whose rows are the world's x, y, z as unit vectors in voxel axes.

    >>> world_axes(np.diag([2.0, 2.0, 3.0, 1.0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    axes = np.asarray(affine, float)[:3, :3]
    return np.asarray(axes / np.linalg.norm(axes, axis=0))


def rotated_b0(
    b0_direction: np.ndarray, affine: np.ndarray, reference_affine: np.ndarray, reference_to_run: np.ndarray
) -> np.ndarray:
    """Direction of B0 of a run in the voxel axes of the reference image.

    Parameters
    ----------
    b0_direction : (3,) in voxel axes of the run.
    affine, reference_affine : (4, 4) voxel-to-world matrices of the run and of the reference.
    reference_to_run : (4, 4) rigid matrix that takes a point of the head in the reference's world to the run's.

    Returns
    -------
    (3,) unit vector.
    """
    turn = np.asarray(reference_to_run, float)[:3, :3]
    world = world_axes(affine) @ np.asarray(b0_direction, float)
    vector = world_axes(reference_affine).T @ (turn.T @ world)
    return np.asarray(vector / np.linalg.norm(vector))


def rotation_angle_deg(matrix: np.ndarray) -> float:
    """Angle of the rotation of a rigid matrix, in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(np.asarray(matrix)[:3, :3]) - 1) / 2, -1, 1))))


def axes_about(b0_direction: np.ndarray) -> np.ndarray:
    """(3, 3) rotation whose third row is B0: the smallest one that takes B0 to the third voxel axis."""
    b = np.asarray(b0_direction, float) / np.linalg.norm(b0_direction)
    if b[2] < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, 0, -b[0]], [0, 0, -b[1]], [b[0], b[1], 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + b[2]))
