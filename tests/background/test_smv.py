"""The spherical mean filter: zero for harmonic fields, (1 - S) times the field of sources inside."""

import numpy as np
import pytest

from qsmprep.background.smv import SmvOptions, smv
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import sphere_kernel
from qsmprep.scan import Scan

ANISOTROPIC = {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.3, -0.2, 0.933)}


def run(field, head, **rest):
    return smv(field, head.mask, scan=head.scan, **rest)


def test_background_of_air_leaves_less_than_half_a_percent(make_head):
    head = make_head(38.0)
    result = run(head.background, head)
    assert result.tissue_field[result.mask].std() < 5e-3 * head.background[result.mask].std()


@pytest.mark.parametrize("voxel_size_mm", [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0)])
def test_harmonic_polynomials_equal_their_means(make_head, harmonic_polynomials, voxel_size_mm):
    head = make_head(24.0, voxel_size_mm, ANISOTROPIC["b0_direction"] if voxel_size_mm[2] == 2 else (0.0, 0.0, 1.0))
    for name, field in harmonic_polynomials(head.mask.shape, voxel_size_mm).items():
        assert np.abs(run(field, head).tissue_field).max() < 1e-5 * np.abs(field[head.mask]).max(), name


@pytest.mark.parametrize("radius", [3.0, 5.0, 9.0])  # summed voxel by voxel, and in Fourier space
def test_field_of_inner_sources_is_filtered_by_one_minus_the_spherical_mean(make_head, radius):
    head = make_head(24.0)
    expected = head.tissue - irfftn(
        rfftn(head.tissue) * sphere_kernel(head.mask.shape, (1, 1, 1), radius), head.mask.shape
    )
    result = run(head.tissue + head.background, head, options=SmvOptions(radius=radius))
    left = run(head.background, head, options=SmvOptions(radius=radius)).tissue_field
    assert np.allclose((result.tissue_field - left)[result.mask], expected[result.mask], atol=1e-6)


def test_values_outside_the_mask_do_not_matter_and_one_step_is_told(make_head):
    head, seen = make_head(24.0), []
    clean = run(head.background, head, progress=lambda *step: seen.append(step))
    same = run(np.where(head.mask, head.background, np.nan), head)
    assert np.array_equal(clean.tissue_field, same.tissue_field) and (same.tissue_field[~same.mask] == 0).all()
    assert seen == [(1, 1)] and clean.convergence.iterations == 1


def test_odd_sizes_and_a_mask_that_fills_the_volume():
    field = np.random.default_rng(0).standard_normal((11, 13, 17)).astype(np.float32)
    result = smv(field, np.ones(field.shape, bool), scan=Scan((1, 1, 1)))
    assert result.mask.sum() == 1 * 3 * 7 and np.isfinite(result.tissue_field).all()


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    with pytest.raises(ValueError, match="mask is empty"):
        smv(field, ~mask, scan=Scan((1, 1, 1)))
    with pytest.raises(ValueError, match=r"SMV: no ball of radius 5 mm .* largest radius that fits is 4\.99 mm"):
        smv(field, mask, scan=Scan((1, 1, 1)))
    with pytest.raises(ValueError, match="is flat"):
        smv(field, mask, scan=Scan((1, 1, 6)))
    with pytest.raises(ValueError, match="radius"):
        smv(field, mask, scan=Scan((1, 1, 1)), options=SmvOptions(radius=-5))
