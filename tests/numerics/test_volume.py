"""Cropping, padding and putting back."""

import numpy as np
import pytest

from qsmprep.numerics.volume import bounding_box, frame_around


def lump(shape=(9, 10, 11)):
    mask = np.zeros(shape, bool)
    mask[2:5, 3:9, 10] = True
    return mask


def test_box_is_the_smallest_and_its_margin_stays_in_the_volume():
    assert bounding_box(lump()) == (slice(2, 5), slice(3, 9), slice(10, 11))
    assert bounding_box(lump(), 2) == (slice(0, 7), slice(1, 10), slice(8, 11))
    assert bounding_box(lump(), (0, 1, 0)) == (slice(2, 5), slice(2, 10), slice(10, 11))


def test_crop_then_restore_keeps_the_box_and_fills_the_rest():
    mask = lump()
    volume = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    frame = frame_around(mask, margin=1, padding=(3, 0, 2))
    padded = frame.crop(volume, fill=-1)
    assert padded.dtype == np.float32 and padded.shape == frame.padded_shape
    assert all(p >= s.stop - s.start + extra for p, s, extra in zip(padded.shape, frame.box, (3, 0, 2), strict=True))
    assert (padded[-1] == -1).all()
    restored = frame.restore(padded, fill=7)
    assert np.array_equal(restored[frame.box], volume[frame.box])
    outside = np.ones(mask.shape, bool)
    outside[frame.box] = False
    assert (restored[outside] == 7).all()


def test_empty_mask_is_an_error():
    with pytest.raises(ValueError, match="mask is empty"):
        frame_around(np.zeros((4, 4, 4), bool))
