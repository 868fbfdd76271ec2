"""The simulated field agrees with the fields that are known in closed form."""

import numpy as np
import pytest

from qsmprep.phantom.anatomy import ellipsoid
from qsmprep.phantom.forward import DipoleField
from qsmprep.phantom.rendering import render
from qsmprep.scan import Scan

RADIUS = 10.0


def sphere_and_field(voxel_size, b0_direction):
    """Simulated and exact field (chi = 1) of a sphere in a 64 mm cube, and the distance from its centre."""
    size = np.array(voxel_size, float)
    shape = tuple(int(n) for n in np.round(64 / size))
    first = -(np.array(shape) - 1) / 2 * size
    maps, _ = render((ellipsoid("bleed", (0, 0, 0), [RADIUS] * 3),), shape, tuple(size), tuple(first), 3.0)
    b = np.array(b0_direction, float) / np.linalg.norm(b0_direction)
    field = DipoleField(shape, Scan(tuple(size), tuple(b)))(maps["brain"])
    grids = np.meshgrid(*[f + np.arange(n) * h for f, n, h in zip(first, shape, size, strict=True)], indexing="ij")
    r = np.sqrt(sum(g**2 for g in grids))
    cosine = sum(bd * g for bd, g in zip(b, grids, strict=True)) / np.maximum(r, 1e-6)
    exact = np.where(r > RADIUS, (RADIUS / np.maximum(r, 1e-6)) ** 3 * (3 * cosine**2 - 1) / 3, 0)
    return field, exact, r


@pytest.mark.parametrize("b0_direction", [(0, 0, 1), (0.3, -0.4, 0.85)])
@pytest.mark.parametrize(("voxel_size", "tolerance"), [((1, 1, 1), 0.005), ((1, 1, 2), 0.015), ((1, 1.5, 3), 0.03)])
def test_field_of_a_sphere(voxel_size, tolerance, b0_direction):
    field, exact, r = sphere_and_field(voxel_size, b0_direction)
    outside = (r > RADIUS + 1.5 * max(voxel_size)) & (r < 2.5 * RADIUS)
    inside = r < RADIUS - 1.5 * max(voxel_size)
    assert np.sqrt(np.mean((field - exact)[outside] ** 2)) < tolerance * np.sqrt(np.mean(exact[outside] ** 2))
    assert abs(field[inside].mean()) < 2e-3
    assert field[inside].std() < 2e-3


def test_surroundings_of_the_same_material_make_no_field():
    field = DipoleField((12, 13, 14), Scan((1, 1, 1)))(np.full((12, 13, 14), 9.2), 9.2)
    np.testing.assert_allclose(field, 0, atol=1e-6)
