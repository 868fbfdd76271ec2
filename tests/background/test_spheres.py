"""Where balls of voxels fit, whatever the rounding of the voxel edges that an affine gives."""

import numpy as np
import pytest

from qsmprep.background import sharp, vsharp
from qsmprep.background.sharp import SharpOptions
from qsmprep.background.spheres import largest_sphere
from qsmprep.scan import Scan

CUBES = (3.0, 3.0, 3.0)
TILTED = (3.0, 3.00000007469238, 3.00000007469238)  # what the affine of a slab tilted by 15 degrees gives


@pytest.fixture(scope="module")
def ball():
    axes = np.ogrid[:31, :31, :31]
    return sum((axis - 15) ** 2 for axis in axes) <= 14**2


@pytest.mark.parametrize("radius_mm", [3.0, 6.0, 9.0, 12.0])
def test_rounded_edges_leave_as_many_voxels_as_exact_ones(ball, radius_mm):
    exact, rounded = (largest_sphere(ball, np.array([radius_mm]), size) == 0 for size in (CUBES, TILTED))
    assert exact.any()
    np.testing.assert_array_equal(rounded, exact)


def test_sharp_and_vsharp_keep_the_same_mask(ball):
    field = np.where(ball, np.random.default_rng(0).standard_normal(ball.shape), 0).astype(np.float32)
    for method, options in ((sharp, {"options": SharpOptions(radius=6.0)}), (vsharp, {})):
        exact, rounded = (method(field, ball, scan=Scan(size), **options) for size in (CUBES, TILTED))
        np.testing.assert_array_equal(rounded.mask, exact.mask)
        np.testing.assert_allclose(rounded.tissue_field, exact.tissue_field, atol=1e-4)
