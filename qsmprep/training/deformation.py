"""Elastic deformation: anatomy that no ellipsoid has."""

from __future__ import annotations

import numpy as np
import torch

CONTROL_SPACING = 20  # voxels between the points whose displacement is drawn


def deformed(images: dict[str, np.ndarray], largest: float, random: np.random.Generator) -> dict[str, np.ndarray]:
    """The images under one smooth random displacement, trilinearly interpolated.

    Parameters
    ----------
    images : (n0, n1, n2) float32 each.
    largest : s.d. of the displacement of a control point, in voxels.
    random : draws the displacements.

    Returns
    -------
    The same names; beyond the edge the outermost voxels are repeated.
    """
    shape = next(iter(images.values())).shape
    points = tuple(max(4, n // CONTROL_SPACING) for n in shape)
    drawn = torch.from_numpy(largest * random.standard_normal((1, 3, *points)).astype(np.float32))
    shift = torch.nn.functional.interpolate(drawn, size=shape, mode="trilinear", align_corners=True)[0]
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    where = torch.stack(torch.meshgrid(*axes, indexing="ij")) + shift
    scale = torch.tensor([2 / (n - 1) for n in shape]).view(3, 1, 1, 1)
    grid = (where * scale - 1).flip(0).permute(1, 2, 3, 0)[None]  # torch wants the last axis first
    stacked = torch.from_numpy(np.stack(list(images.values())))[None]
    moved = torch.nn.functional.grid_sample(stacked, grid, padding_mode="border", align_corners=True)[0].numpy()
    return dict(zip(images, moved, strict=True))
