"""Referencing to a region."""

import numpy as np
import pytest

from qsmprep.inversion.reference import in_whole_brain_map, reference_to


def test_whole_brain_mean_becomes_zero(head):
    result = reference_to(head.chi + 0.5, head.mask)
    assert result.chi_ppm[head.mask].mean() == pytest.approx(0, abs=1e-6)
    assert np.all(result.chi_ppm[~head.mask] == 0)
    assert result.mean_ppm == pytest.approx(0.5 + head.chi[head.mask].mean(), abs=1e-6)
    assert result.sd_ppm == pytest.approx(head.chi[head.mask].std(), rel=1e-4)


def test_region_mean_becomes_zero_and_its_value_is_that_of_the_given_map(head):
    region = head.labels == 2
    for shift in (0, 0.3):
        result = reference_to(head.chi + shift, head.mask, region=region)
        assert result.chi_ppm[region].mean() == pytest.approx(0, abs=1e-6)
        assert result.mean_ppm == pytest.approx(head.chi[region].mean() + shift, abs=1e-6)


def test_numbers_in_the_whole_brain_referenced_map_do_not_depend_on_the_maps_constant(head):
    region = head.labels == 2
    expected = head.chi[region].mean() - head.chi[head.mask].mean()
    for shift in (0, 0.3):
        found = in_whole_brain_map(head.chi + shift, head.mask, region=region)
        assert found.mean_ppm == pytest.approx(expected, abs=1e-6)
        assert found.sd_ppm == pytest.approx(head.chi[region].std(), abs=1e-6)
        assert found.voxels == np.count_nonzero(region & head.mask)
        assert in_whole_brain_map(head.chi + shift, head.mask).mean_ppm == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no voxel inside the mask"):
        in_whole_brain_map(head.chi, head.mask, region=~head.mask)


def test_region_outside_the_mask_is_refused(head):
    with pytest.raises(ValueError, match="no voxel inside the mask"):
        reference_to(head.chi, head.mask, region=~head.mask)
    with pytest.raises(ValueError, match="mask is empty"):
        reference_to(head.chi, np.zeros_like(head.mask))
    with pytest.raises(ValueError, match="one shape"):
        reference_to(head.chi, head.mask[1:])
