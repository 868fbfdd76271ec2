"""The consensus masks on small, drawn brains."""

import numpy as np
import pytest

from qsmprep.masking.consensus import (
    BackgroundMaskOptions,
    ReliableMaskOptions,
    background_mask,
    reliable_mask,
    trim_by_r2star,
)
from qsmprep.masking.morphology import ellipsoid, erode, fill_holes, largest_component, majority
from qsmprep.options import check_options

SHAPE = (41, 44, 39)
X, Y, Z = np.ogrid[-20:21, -22:22, -19:20]


def ball(radius, centre=(0, 0, 0)):
    return (X - centre[0]) ** 2 + (Y - centre[1]) ** 2 + (Z - centre[2]) ** 2 < radius**2


BRAIN = ball(15)


def test_a_dark_vein_inside_is_filled_and_a_loss_at_the_rim_stays_out():
    vein, sinus = ball(3, (4, 2, 0)), ball(6, (0, 15, -6))
    result = background_mask(BRAIN, ~(vein | sinus))
    assert result.mask[vein].all()
    assert not result.mask[sinus].any()
    assert np.array_equal(result.mask, BRAIN & ~sinus)
    assert result.brain_voxels == BRAIN.sum()
    assert result.unreliable_voxels == (BRAIN & (vein | sinus)).sum()
    assert result.filled_voxels == vein.sum()
    assert result.detached_voxels == 0
    assert result.mask_voxels == result.mask.sum()


def test_holes_stay_when_asked():
    vein = ball(3)
    result = background_mask(BRAIN, ~vein, options=BackgroundMaskOptions(fill_holes=False, erosion_voxels=0))
    assert not result.mask[vein].any() and result.filled_voxels == 0


def test_what_hangs_loose_is_dropped_and_counted():
    cut = np.broadcast_to(np.abs(X - 10) < 2, SHAPE)
    result = background_mask(BRAIN, ~cut)
    assert np.array_equal(result.mask, BRAIN & (X <= 8))
    assert result.detached_voxels == (BRAIN & (X >= 12)).sum()


def test_the_mask_is_eroded_for_background_removal_only():
    result = background_mask(BRAIN)
    assert np.array_equal(result.mask, BRAIN)
    assert np.array_equal(result.eroded, erode(BRAIN, 1))
    assert result.eroded_voxels == result.eroded.sum() < result.mask_voxels


def test_inputs_are_not_changed():
    brain, reliable = BRAIN.copy(), ~ball(3)
    before = reliable.copy()
    background_mask(brain, reliable)
    assert np.array_equal(brain, BRAIN) and np.array_equal(reliable, before)


@pytest.mark.parametrize(
    ("brain", "reliable", "options", "message"),
    [
        (np.zeros(SHAPE, bool), None, BackgroundMaskOptions(), "empty"),
        (BRAIN, ~BRAIN, BackgroundMaskOptions(), "reliable"),
        (BRAIN, BRAIN[1:], BackgroundMaskOptions(), "shape"),
        (BRAIN, None, BackgroundMaskOptions(erosion_voxels=16), "erosion"),
    ],
)
def test_masks_that_leave_nothing_are_named(brain, reliable, options, message):
    with pytest.raises(ValueError, match=message):
        background_mask(brain, reliable, options=options)


def test_mostly_unreliable_brains_are_warned_about(caplog):
    background_mask(BRAIN, ball(8))
    assert "reliable" in caplog.text


def test_a_noisy_quality_map_keeps_the_brain_and_rejects_air_and_dropout():
    random = np.random.default_rng(3)
    dropout = ball(6, (0, 13, -6))
    quality = np.where(BRAIN & ~dropout, 0.65, 0.1) + random.normal(0, 0.08, SHAPE)
    reliable = reliable_mask(quality.astype(np.float32))
    assert reliable.dtype == bool
    sure = erode(BRAIN & ~dropout, 1)
    assert reliable[sure].all()
    assert reliable[~BRAIN].mean() < 0.03
    assert reliable[dropout].mean() < 0.1
    assert (background_mask(BRAIN, reliable).mask ^ (BRAIN & ~dropout)).mean() < 0.005


def test_the_noise_threshold_is_the_mean_over_the_field_of_view():
    noise = np.array([1.0, 2.0, 4.0, 8.0]).reshape(4, 1, 1)
    plain = ReliableMaskOptions(source="noise", majority=False)
    assert reliable_mask(noise=noise, options=plain).ravel().tolist() == [True, True, False, False]
    strict = ReliableMaskOptions(source="noise", majority=False, noise_factor=1.2)
    assert reliable_mask(noise=noise, options=strict).ravel().tolist() == [True, False, False, False]


def test_noise_that_is_not_a_positive_number_is_not_trusted():
    noise = np.full(SHAPE, 1.0, np.float32)
    noise[~BRAIN] = 10
    noise[0, 0, :6] = (np.nan, np.inf, 0, -1, -np.inf, 1e-45)
    reliable = reliable_mask(noise=noise, options=ReliableMaskOptions(source="noise", majority=False))
    assert np.array_equal(reliable, BRAIN)


def test_quality_that_is_nan_is_not_trusted():
    quality = np.full((3, 3, 3), 0.9)
    quality[1, 1, 1] = np.nan
    assert reliable_mask(quality, options=ReliableMaskOptions(majority=False)).sum() == 26


@pytest.mark.parametrize("source", ["quality", "noise"])
def test_a_missing_map_is_named(source):
    with pytest.raises(ValueError, match=source):
        reliable_mask(options=ReliableMaskOptions(source=source))


def test_the_consensus_bounds_the_noise_factor():
    with pytest.raises(ValueError, match="noise_factor"):
        check_options(ReliableMaskOptions(noise_factor=1.3))


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_erosion_agrees_with_scipy(layers):
    from scipy.ndimage import binary_erosion

    mask = np.random.default_rng(0).random((20, 17, 9)) < 0.97
    expected = binary_erosion(mask, iterations=layers) if layers else mask
    assert np.array_equal(erode(mask, layers), expected)


def test_holes_open_to_the_border_of_the_volume_are_no_holes():
    mask = np.ones((6, 7, 8), bool)
    mask[2:4, 2:4, 2:4] = False
    assert fill_holes(mask).all()
    mask[3, 3, 4:] = False
    assert np.array_equal(fill_holes(mask), mask)


def test_the_largest_piece_stays():
    mask = ball(5, (-10, 0, 0)) | ball(4, (10, 0, 0))
    assert np.array_equal(largest_component(mask), ball(5, (-10, 0, 0)))


def test_morphology_of_nothing_is_nothing():
    nothing = np.zeros((4, 5, 6), bool)
    for operation in (erode, fill_holes, largest_component, majority):
        assert not operation(nothing).any()


def test_majority_removes_speckle_and_keeps_flat_borders():
    half = np.zeros((10, 10, 10), bool)
    half[:, :, 5:] = True
    speckled = half.copy()
    speckled[4, 4, 1] = True
    speckled[4, 4, 8] = False
    assert np.array_equal(majority(speckled), half)


def test_structuring_elements_are_measured_in_mm():
    assert ellipsoid(2, (1, 1, 2)).shape == (5, 5, 3)
    assert ellipsoid(1, (1, 3, 0.5)).shape == (3, 3, 5)
    assert ellipsoid(1, (1, 1, 1)).sum() == 7


def test_fast_decay_goes_at_the_rim_and_stays_inside():
    random = np.random.default_rng(1)
    r2star = random.normal(20, 2, SHAPE)
    air, bleed = ball(6, (0, 15, -4)), ball(3)
    r2star[air | bleed] = 250
    r2star[0, 0, 0] = np.nan
    trimmed = trim_by_r2star(BRAIN, r2star, voxel_size_mm=(1, 1, 1))
    assert trimmed[bleed].all()
    assert not (trimmed & ~BRAIN).any()
    assert trimmed[air].mean() < 0.1
    assert trimmed[BRAIN & ~air].mean() > 0.98


def test_trimming_a_uniform_brain_keeps_it():
    trimmed = trim_by_r2star(BRAIN, np.full(SHAPE, 20.0), voxel_size_mm=(1, 1, 1))
    assert trimmed[BRAIN].mean() > 0.99
    with pytest.raises(ValueError, match="R2"):
        trim_by_r2star(BRAIN, np.full(SHAPE, np.nan), voxel_size_mm=(1, 1, 1))
