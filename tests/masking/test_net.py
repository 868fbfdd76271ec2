"""The mask network: what it is shown and what becomes of its answer, with a network whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from qsmprep.masking.net import PATCH, NetOptions, brain_depth, net
from qsmprep.nets.channels.magnitude import magnitude_channel
from qsmprep.scan import Scan

VOXEL = (3.0, 2.5, 4.0)
UP, FRONT = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def head(noise=0.0):
    """Brain as bright as 1 in a field of view of 180 x 200 x 160 mm, off its middle, and its depth in mm."""
    x, y, z = (np.indices((60, 80, 40)).T * VOXEL - (85.0, 95.0, 85.0)).T
    depth = 60.0 - np.sqrt(x**2 + (y / 1.2) ** 2 + z**2)
    image = np.where(depth > 0, 1.0, 0.0) + noise * np.random.default_rng(0).random(depth.shape)
    return image.astype(np.float32), depth


@pytest.fixture
def threshold(linear_network):
    """A network that finds 10 mm of depth where the image is bright and -10 mm where it is dark."""
    network = linear_network("mask", {"magnitude": 20.0}, ("brain-depth",), name="masknet", voxel_size_mm=2.0)
    output = dataclasses.replace(network.spec.outputs[0], mean=network.spec.outputs[0].mean)
    with torch.no_grad():
        network.module.shortcut.bias -= 10.0 / output.deviation
    return network


@pytest.fixture
def seen(threshold):
    """Shapes of what the network is given, as they come."""
    shapes = []
    threshold.module.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[0].shape[2:])))
    return shapes


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_the_mask_comes_back_where_the_brain_lies(threshold, seen):
    image, depth = head()
    mask = net(image, network=threshold, scan=Scan(VOXEL))
    assert dice(mask, depth > 0) > 0.98
    assert seen and PATCH % threshold.spec.multiple == 0


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_the_scale_of_the_image_does_not_matter_nor_voxels_that_are_not_finite(threshold, scale):
    image, _ = head()
    expected = net(image, network=threshold, scan=Scan(VOXEL))
    image = scale * image
    image[0, 0, 0] = np.nan
    assert np.array_equal(net(image, network=threshold, scan=Scan(VOXEL)), expected)


def test_the_network_sees_every_orientation_alike(threshold):
    """The same head with its axes in another order, seen from the other side: the same mask, voxel by voxel."""
    image, _ = head(noise=0.2)
    uneven = nn.Conv3d(1, 1, (1, 3, 5), padding=(0, 1, 2))  # tells front from back, and up from down
    torch.manual_seed(0)
    with torch.no_grad():
        uneven.weight += 0.2 * torch.rand_like(uneven.weight)
    threshold.module.shortcut = uneven
    known = {"network": threshold, "precision": "float32"}
    expected = brain_depth(image, scan=Scan(VOXEL), superior_direction=UP, anterior_direction=FRONT, **known)
    order, flips = (2, 0, 1), (0, 2)
    turned = np.flip(image.transpose(order), flips)
    up, front = ([(-1 if i in flips else 1) * way[axis] for i, axis in enumerate(order)] for way in (UP, FRONT))
    voxel = tuple(VOXEL[axis] for axis in order)
    found = brain_depth(turned, scan=Scan(voxel), superior_direction=up, anterior_direction=front, **known)
    back = np.flip(found, flips).transpose(np.argsort(order))
    np.testing.assert_allclose(back, expected, atol=1e-3)


def test_the_mask_is_one_piece_without_holes_and_its_border_can_be_moved(threshold):
    image, depth = head()
    image[28:31, 38:41, 20:22] = 0  # a bleed
    image[2:5, 2:5, 2:5] = 1  # something bright far away
    mask = net(image, network=threshold, scan=Scan(VOXEL))
    assert mask[29, 39, 20] and not mask[3, 3, 3]
    wide, narrow = (net(image, network=threshold, scan=Scan(VOXEL), options=NetOptions(border=b)) for b in (5.0, -5.0))
    assert narrow.sum() < mask.sum() < wide.sum()
    assert dice(mask, depth > 0) > 0.98


def test_what_is_no_human_head_is_refused_with_the_remedy(threshold, linear_network):
    image, _ = head()
    with pytest.raises(ValueError, match="--mask-file"):  # an animal
        net(image, network=threshold, scan=Scan((0.5, 0.5, 0.5)))
    with torch.no_grad():
        threshold.module.shortcut.bias -= 1e6
    with pytest.raises(ValueError, match="--mask-file"):
        net(image, network=threshold, scan=Scan(VOXEL))
    with pytest.raises(ValueError, match="no brain"):
        net(np.zeros_like(image), network=threshold, scan=Scan(VOXEL))
    other = linear_network("r2prime", {"r2star": 1.0}, ("r2prime",))
    with pytest.raises(ValueError, match="--net-weights"):
        net(image, network=other, scan=Scan(VOXEL))


def test_what_lies_further_from_the_brain_than_any_patch_of_the_training_is_no_brain(threshold, seen):
    """A wide field of view, all of it bright: the network is asked around the middle alone, in patches of one size."""
    image = np.ones((100, 100, 24), np.float32)
    depth = brain_depth(image, network=threshold, scan=Scan((4.0, 4.0, 4.0)), superior_direction=UP,
                        anterior_direction=FRONT)  # fmt: skip
    assert depth[50, 50, 12] > 0
    assert depth[:20].max() < 0 and depth[:, -20:].max() < 0  # 120 mm and more from the middle
    assert set(seen) == {(PATCH,) * 3}


def test_the_channel_is_the_same_for_every_scale_and_empty_outside_the_view():
    random = np.random.default_rng(0)
    image = random.random((20, 20, 20)).astype(np.float32)
    view = np.ones(image.shape, bool)
    view[:5] = False
    found = magnitude_channel(image, view)
    np.testing.assert_allclose(magnitude_channel(500 * image, view), found, rtol=1e-5)
    assert not found[:5].any() and found.max() <= 1.2


def test_a_brain_longer_than_the_first_views_is_followed_to_its_end(threshold):
    """210 mm from front to back, 100 along the others: it is not cut where the views around its middle end."""
    halves = (50.0, 105.0, 50.0)
    place = np.indices((40, 70, 40)) * 4.0 - np.reshape((78.0, 138.0, 78.0), (3, 1, 1, 1))
    depth = 1 - np.sqrt(sum((x / half) ** 2 for x, half in zip(place, halves, strict=True)))
    mask = net((depth > 0).astype(np.float32), network=threshold, scan=Scan((4.0, 4.0, 4.0)))
    assert dice(mask, depth > 0) > 0.98
