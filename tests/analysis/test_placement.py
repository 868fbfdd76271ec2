"""How far a regional mean moves with its region."""

import numpy as np
import pytest

from qsmprep.analysis.placement import placement_errors
from qsmprep.analysis.regions import ValueMap, label_values

LABELS = np.zeros((16, 16, 16), np.uint8)
LABELS[4:10, 4:10, 4:10] = 3
NAMES = {3: "cube", 5: "nowhere"}


def errors(values, mask=None, **more):
    value_map = ValueMap("chi", "ppm", values, np.ones(LABELS.shape, bool) if mask is None else mask)
    options = {"voxel_size_mm": (1.0, 1.0, 1.0), "shift_mm": 1.0} | more
    return placement_errors(LABELS, value_map, label_values(LABELS, NAMES, value_map), **options)


def test_a_uniform_map_has_no_error_and_a_region_without_voxels_none_that_is_known():
    found = errors(np.full(LABELS.shape, 0.2))
    assert found[3] == pytest.approx(0, abs=1e-9)
    assert np.isnan(found[5])


def test_along_a_slope_the_mean_moves_by_slope_times_shift():
    slope = np.broadcast_to(0.1 * np.arange(16.0)[:, None, None], LABELS.shape)
    # Of six shifts, one grown and one shrunk region two move along the slope.
    assert errors(slope)[3] == pytest.approx(0.1 * np.sqrt(2 / 8), rel=1e-6)
    assert errors(slope, voxel_size_mm=(2.0, 2.0, 2.0))[3] == pytest.approx(0.05 * np.sqrt(2 / 8), rel=1e-6)


def test_what_is_not_valid_does_not_count():
    values = np.where(LABELS == 3, 0.1, np.nan)
    assert errors(values)[3] == pytest.approx(0, abs=1e-9)
    assert errors(np.where(LABELS == 3, 0.1, 9.0), mask=LABELS == 3)[3] == pytest.approx(0, abs=1e-9)
