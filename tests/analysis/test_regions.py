"""Regional values: numbers that can be worked out by hand, and label images on other grids."""

import numpy as np
import pytest

from qsmprep.analysis.regions import (
    NUMBERS,
    ValueMap,
    erode_labels,
    label_values,
    lay_labels,
    reference_indices,
    region_value,
    statistics,
)
from qsmprep.bids.freesurfer import LABEL_NAMES
from qsmprep.bids.roi_table import COLUMNS, table_text

RNG = np.random.default_rng(0)


def some_map(shape=(9, 8, 7)):
    values = RNG.normal(0.05, 0.03, shape).astype(np.float32)
    return ValueMap("chi", "ppm", values, RNG.random(shape) < 0.7)


def test_every_region_has_the_numbers_of_its_own_voxels():
    chi = some_map()
    labels = RNG.integers(0, 5, chi.values.shape).astype(np.int32)
    rows = label_values(labels, {3: "c", 1: "a", 4: "d"}, chi)
    assert [row.index for row in rows] == [3, 1, 4]
    for row in rows:
        own = [float(v) for v, k, m in zip(chi.values.flat, labels.flat, chi.mask.flat, strict=True)
               if m and k == row.index]  # fmt: skip
        mean = sum(own) / len(own)
        assert row.n == len(own)
        assert row.n_region == (labels == row.index).sum()
        assert row.excluded_share == pytest.approx(1 - row.n / row.n_region)
        assert row.mean == pytest.approx(mean, rel=1e-12)
        assert row.sd == pytest.approx((sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5, rel=1e-12)
        assert row.median == pytest.approx(np.median(own), rel=1e-12)
        assert row.p5 < row.p25 < row.median < row.p75 < row.p95
        assert row == region_value(labels == row.index, chi, index=row.index, name=row.name)


def test_sums_are_kept_in_double_precision():
    values = np.full((300, 300, 10), 1 / 3, np.float32)
    row = region_value(np.ones(values.shape, bool), ValueMap("chi", "ppm", values, values > 0), index=1, name="all")
    assert row.mean == pytest.approx(float(np.float32(1 / 3)), rel=1e-12)
    assert row.sd == pytest.approx(0, abs=1e-12)


def test_a_region_outside_the_mask_and_one_that_is_not_there_give_no_number_instead_of_zero():
    chi = some_map()
    chi.mask[0] = False
    labels = np.zeros(chi.values.shape, np.int32)
    labels[0, :3, :4] = 7
    outside, absent = label_values(labels, {7: "outside", 8: "absent"}, chi)
    assert (outside.n, outside.n_region, outside.excluded_share) == (0, 12, 1.0)
    assert (absent.n, absent.n_region) == (0, 0)
    assert np.isnan(absent.excluded_share)
    for row in (outside, absent):
        assert all(np.isnan(getattr(row, number)) for number in NUMBERS)
    lines = [line.split("\t") for line in table_text([("seg", outside), ("seg", absent)]).splitlines()]
    assert lines[0] == list(COLUMNS)
    assert lines[1] == ["seg", "7", "outside", "chi", "ppm", "0", "12", "1", *["n/a"] * 8]
    assert lines[2] == ["seg", "8", "absent", "chi", "ppm", "0", "0", *["n/a"] * 9]


def test_values_that_are_not_finite_are_not_used():
    chi = some_map()
    chi.mask[:] = True
    chi.values[0, 0, 0] = np.nan
    chi.values[1, 1, 1] = np.inf
    row = region_value(np.ones(chi.values.shape, bool), chi, index=1, name="all")
    assert row.n == row.n_region - 2
    assert np.isfinite(row.mean)


def test_one_voxel_has_no_spread():
    assert statistics(np.array([2.0])) == {"mean": 2, "sd": 0, "median": 2, "p5": 2, "p25": 2, "p75": 2, "p95": 2}


def test_shapes_must_agree():
    chi = some_map()
    with pytest.raises(ValueError, match="one shape"):
        label_values(np.zeros((3, 3, 3), int), {1: "a"}, chi)


def test_erosion_takes_one_layer_off_each_region_even_where_regions_touch():
    labels = np.zeros((10, 7, 7), np.int32)
    labels[0:5, 1:6, 1:6], labels[5:10, 1:6, 1:6] = 1, 2
    eroded = erode_labels(labels, 1)
    assert (eroded == 1).sum() == (eroded == 2).sum() == 27
    assert (eroded[1:4, 2:5, 2:5] == 1).all()
    assert (erode_labels(labels, 0) == labels).all()
    assert not erode_labels(labels, 3).any()


def affine(size=(2.0, 2.0, 2.0), origin=(-9.0, 4.0, 3.0), turn_deg=0.0):
    c, s = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag(size)
    matrix[:3, 3] = origin
    return matrix


def test_labels_lie_where_they_lay():
    labels = RNG.integers(0, 2**24, (6, 5, 4)).astype(np.int32)
    grid = affine(turn_deg=20)
    assert (lay_labels(labels, grid, np.eye(4), grid, labels.shape) == labels).all()
    flipped = grid.copy()
    flipped[:3, 0], flipped[:3, 3] = -grid[:3, 0], grid[:3, 3] + 5 * grid[:3, 0]
    assert (lay_labels(labels, flipped, np.eye(4), grid, labels.shape) == labels[::-1]).all()


def test_a_voxel_takes_the_label_at_its_centre_and_nothing_beyond_the_image():
    fine, coarse = affine((1, 1, 1), (0, 0, 0)), affine((3, 3, 3), (1, 1, 1))
    labels = np.arange(1, 9 * 6 * 6 + 1, dtype=np.int32).reshape(9, 6, 6)
    laid = lay_labels(labels, fine, np.eye(4), coarse, (4, 2, 2))
    assert (laid[:3] == labels[1::3, 1::3, 1::3]).all()
    assert not laid[3].any()


def test_the_motion_of_the_head_is_followed():
    grid = affine((1, 1, 1), (0, 0, 0))
    labels = np.zeros((8, 8, 8), np.int32)
    labels[5, 3, 2] = 9
    motion = np.eye(4)
    motion[:3, 3] = (2, 0, -1)  # the head lay 2 mm more to the right and 1 mm lower in the labels' image
    laid = lay_labels(labels, grid, motion, grid, labels.shape)
    assert np.argwhere(laid == 9).tolist() == [[3, 3, 3]]


@pytest.mark.parametrize(
    ("names", "reference", "indices"),
    [
        (LABEL_NAMES, "csf", (4, 43)),
        (LABEL_NAMES, "white_matter", (2, 41)),
        (LABEL_NAMES, "internal_capsule", ()),
        ({0: "csf", 10: "ventricle", 12: "outer_csf"}, "csf", (10,)),
        ({3: "CSF"}, "csf", (3,)),
        ({8: "white_matter", 7: "Left-Cerebellum-White-Matter", 77: "WM-hypointensities"}, "white_matter", (8,)),
        ({17: "Anterior limb of internal capsule R", 19: "PLIC_L", 5: "Fornix"}, "internal_capsule", (17, 19)),
        ({19: "PLIC_L", 20: "policy"}, "internal_capsule", (19,)),
    ],
)
def test_reference_regions_are_known_by_their_names(names, reference, indices):
    assert reference_indices(names, reference) == indices
