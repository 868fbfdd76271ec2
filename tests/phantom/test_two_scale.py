"""The field of a sphere, with its surroundings on a coarser grid, is that of the formula, whatever the tilt."""

from __future__ import annotations

import numpy as np
import pytest

from qsmprep.phantom.scanner import block_mean
from qsmprep.phantom.two_scale import margin_mm, two_scale_field
from qsmprep.scan import Scan

SHAPE, START, INNER, FACTOR = np.array([72, 70, 76]), np.array([8, 8, 10]), np.array([52, 52, 54]), 2


def ball(first, step, shape, centre, radius):
    """Share of each voxel inside a ball, and the voxels' positions relative to its centre."""
    axes = [f + step * np.arange(n) - c for f, n, c in zip(first, shape, centre, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.clip(0.5 - (np.sqrt(x**2 + y**2 + z**2) - radius) / step, 0, 1).astype(np.float32), (x, y, z)


@pytest.mark.parametrize(("centre", "radius"), [((34, 34, 37), 6), ((4, 30, 36), 4)], ids=["inside", "beyond"])
def test_a_ball_has_the_field_of_the_formula(centre, radius):
    b = np.array([0.0, np.sin(0.43), np.cos(0.43)])
    coarse, _ = ball((0, 0, 0), 1.0, SHAPE, centre, radius)
    fine, (x, y, z) = ball(START - 0.25, 0.5, FACTOR * INNER, centre, radius)
    coarse[tuple(slice(s, s + n) for s, n in zip(START, INNER, strict=True))] = block_mean(fine, FACTOR)
    field = two_scale_field(fine, coarse, FACTOR, tuple(START), scan=Scan((1, 1, 1), tuple(b)))
    r = np.sqrt(x**2 + y**2 + z**2)
    cosine = (x * b[0] + y * b[1] + z * b[2]) / np.maximum(r, 1e-6)
    truth = np.where(r > radius, (radius / np.maximum(r, radius)) ** 3 / 3 * (3 * cosine**2 - 1), 0)
    inner = (slice(FACTOR * int(margin_mm((1, 1, 1))), -FACTOR * int(margin_mm((1, 1, 1)))),) * 3
    away = np.abs(r - radius)[inner] > 1.5
    assert np.abs(field - truth)[inner][away].max() < 2e-3
