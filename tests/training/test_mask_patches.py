"""What a mask network learns from: whole heads as labels, and images of them that no scanner made."""

from pathlib import Path

import numpy as np
import pytest

from qsmprep.nets.channels.magnitude import LARGEST_DEPTH_MM
from qsmprep.phantom.tissues import TISSUES
from qsmprep.training.label_heads import STEP_MM, brain_depth, label_head
from qsmprep.training.mask_patches import GRID_MM, mask_patch
from qsmprep.training.pool import Head

EDGE = 64


@pytest.fixture(scope="module")
def ball():
    """A head made of a brain of 40 mm radius under fluid, bone and skin."""
    place = (np.indices((80, 80, 80)) - 40) * STEP_MM
    radius = np.sqrt((place**2).sum(0))
    names = ("white_matter", "outer_csf", "bone", "skin", "background")
    layers = [radius < edge for edge in (40, 43, 48, 52)]
    labels = np.select(layers, [TISSUES[name].label for name in names[:4]], TISSUES[names[4]].label).astype(np.uint8)
    depth = np.clip(40 - radius, -LARGEST_DEPTH_MM, LARGEST_DEPTH_MM).astype(np.float32)
    return Head(Path(), (0.0, 0.0, 1.0), labels.shape, _open={"labels": labels, "depth": depth})


def patches(head, count=12):
    return [mask_patch([head], EDGE, np.random.default_rng([1, i])) for i in range(count)]


def test_the_depth_is_that_of_the_brain_in_the_picture(ball):
    for image, depth, view in patches(ball):
        assert image.shape == depth.shape == view.shape == (1, EDGE, EDGE, EDGE)
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1.2
        assert np.abs(depth).max() <= LARGEST_DEPTH_MM
        assert not image[view == 0].any() and not depth[view == 0].any()
        if view.all():
            radius = ((depth > 0).sum() * GRID_MM**3 * 3 / (4 * np.pi)) ** (1 / 3)
            assert 25 < radius < 55  # of 40 mm, scaled and perhaps cut by the patch's edge


def test_the_same_key_gives_the_same_image_and_others_another(ball):
    (first, *_), (second, *_) = (mask_patch([ball], EDGE, np.random.default_rng([2, i])) for i in (0, 1))
    again, *_ = mask_patch([ball], EDGE, np.random.default_rng([2, 0]))
    assert np.array_equal(first, again)
    assert not np.allclose(first, second, atol=0.05)


def test_the_depth_of_a_ball_is_its_distance_to_the_surface():
    radius = np.sqrt((((np.indices((41, 41, 41)) - 20) * 1.5) ** 2).sum(0))
    share = np.clip(0.5 + (20 - radius) / 1.5, 0, 1)
    found = brain_depth(share.astype(np.float32), 1.5)
    near = np.abs(20 - radius) < 8
    assert np.abs(found - (20 - radius))[near].max() < 1.2
    assert np.abs(found - (20 - radius))[np.abs(20 - radius) < 0.7].max() < 0.1


def test_a_whole_head_has_neck_and_one_brain():
    volumes, facts = label_head(0, 3, anatomy="ellipsoids", step_mm=4.0)
    labels, depth = volumes["labels"], volumes["depth"]
    assert facts == {"generator": "ellipsoids"}
    inside = depth > 2
    assert np.isin(labels[inside], [tissue.label for tissue in TISSUES.values() if tissue.place == "brain"]).all()
    assert 0.7 < (depth > 0).sum() * 0.064 / 1000 < 2.2  # litres
    assert (labels[:, :, 2] == TISSUES["muscle"].label).any() and not (depth[:, :, 2] > 0).any()
    again, _ = label_head(0, 3, anatomy="ellipsoids", step_mm=4.0)
    assert np.array_equal(again["labels"], labels)
