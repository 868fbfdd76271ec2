"""Interpolation between voxels, held against scipy's."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from qsmprep.numerics.sampling import sample

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(9, 7, 8), (5, 1, 6), (1, 1, 1)])
@pytest.mark.parametrize(("nearest", "mode"), [(False, "constant"), (True, "nearest")])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_it_is_that_of_scipy_inside_on_the_edge_and_beyond(shape, nearest, mode, kind):
    images = RANDOM.normal(size=(2, *shape)).astype(np.float32)
    places = RANDOM.uniform(-2, 10, (3, 6, 5, 4)).astype(kind)
    places[:, 0, 0, 0], places[:, 0, 0, 1] = 0, np.subtract(shape, 1)  # the first and the last voxel
    found = sample(images, places, nearest=nearest)
    expected = [map_coordinates(image, places, order=1, mode=mode, output=np.float32) for image in images]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.array_equal(found[:, 0, 0, 0], images[:, 0, 0, 0])


def test_places_that_are_not_finite_lie_beyond_the_edge():
    images = np.ones((1, 3, 3, 3), np.float32)
    places = np.array([np.nan, np.inf, 1.0]).reshape(3, 1, 1, 1) * np.ones((3, 1, 1, 1))
    assert sample(images, places) == 0 and sample(images, places, nearest=True) == 1


def test_images_that_are_not_contiguous_are_taken_as_they_are():
    images = np.asfortranarray(RANDOM.normal(size=(1, 4, 5, 6)))
    places = np.stack(np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij"))
    np.testing.assert_array_equal(sample(images, places)[0], images[0].astype(np.float32))
