"""The threshold mask finds the head by itself, the brain mask finds the brain in it."""

import numpy as np
import pytest

from qsmprep.masking.robust import RobustMaskOptions, box_mean, brain_from_head, robust_mask, signal_threshold


def head(shape=(60, 66, 54), noise=2.0):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    scalp, brain = (radius < 0.85) & (radius > 0.72), radius < 0.6
    rng = np.random.default_rng(0)
    magnitude = 100.0 * brain + 70 * scalp
    magnitude = np.abs(magnitude + noise * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)))
    return magnitude.astype(np.float32), brain, scalp


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_mask_holds_the_tissue_and_not_the_air():
    magnitude, brain, scalp = head()
    assert dice(robust_mask(magnitude), brain | scalp) > 0.95


def test_mask_does_not_depend_on_the_scale_or_memory_order_of_the_image():
    magnitude, *_ = head()
    mask = robust_mask(magnitude)
    np.testing.assert_array_equal(robust_mask(magnitude * 1024), mask)
    np.testing.assert_array_equal(robust_mask(np.asfortranarray(magnitude)), mask)


def test_signal_void_inside_is_filled():
    magnitude, brain, _ = head()
    magnitude[27:33, 30:36, 24:30] = 1
    assert brain[27:33, 30:36, 24:30].all()
    assert robust_mask(magnitude)[27:33, 30:36, 24:30].all()


def test_image_without_air_is_kept_whole():
    tissue = np.random.default_rng(1).normal(100, 5, (30, 30, 30))
    assert robust_mask(tissue).all()


def test_higher_factor_gives_a_smaller_mask():
    magnitude, *_ = head(noise=10)
    sizes = [robust_mask(magnitude, options=RobustMaskOptions(factor=f)).sum() for f in (0.8, 1.0, 1.6)]
    assert sizes[0] >= sizes[1] > sizes[2]


def test_nan_lies_outside():
    magnitude, *_ = head()
    magnitude[:8] = np.nan
    assert np.isfinite(signal_threshold(magnitude))
    assert not robust_mask(magnitude)[:5].any()


def test_brain_is_found_inside_the_skull():
    magnitude, brain, scalp = head()
    found = brain_from_head(robust_mask(magnitude))
    assert dice(found, brain) > 0.9
    assert np.count_nonzero(found & scalp) < 0.02 * np.count_nonzero(scalp)


@pytest.mark.parametrize("width", [3, 5, 7])
def test_box_mean_of_a_plane_is_the_plane(width):
    x, y, z = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in (12, 11, 13)], indexing="ij")
    plane, reach = x + 2 * y - 3 * z, width // 2
    inner = (slice(reach, -reach),) * 3
    np.testing.assert_allclose(box_mean(plane, width)[inner], plane[inner], atol=1e-4)


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match="no signal"):
        robust_mask(np.zeros((8, 8, 8)))
    with pytest.raises(ValueError, match="3-D"):
        robust_mask(np.ones((2, 8, 8, 8)))
    with pytest.raises(ValueError, match="No brain"):
        brain_from_head(np.zeros((12, 12, 12), bool))
