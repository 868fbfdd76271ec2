"""Iterative SMV: harmonic fields stay what they are; what comes out is what differs from its mean inside."""

import numpy as np
import pytest

from qsmprep.background.ismv import IsmvOptions, ismv
from qsmprep.background.spheres import Ball, largest_sphere
from qsmprep.scan import Scan

ANISOTROPIC = {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.3, -0.2, 0.933)}
NARROW = IsmvOptions(radius=2.0)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(field, head, **rest):
    return ismv(field, head.mask, scan=head.scan, **rest)


@pytest.mark.parametrize("options", [IsmvOptions(), NARROW])
def test_background_of_air_leaves_less_than_half_a_percent(make_head, options):
    head = make_head(24.0)
    result = run(head.background, head, options=options)
    assert result.convergence.converged
    assert result.tissue_field[result.mask].std() < 5e-3 * head.background[result.mask].std()


def test_field_of_inner_sources_is_kept_as_far_as_it_is_zero_in_the_rim(make_head):
    head = make_head(38.0)
    result = run(head.tissue, head, options=IsmvOptions(radius=4.0, tolerance=1e-4))
    valid = result.mask
    rim = head.mask & ~valid
    # The harmonic function that continues the rim is what no method of boundary values can tell from background.
    assert np.abs(result.tissue_field - head.tissue)[valid].max() <= np.abs(head.tissue[rim]).max() * 1.2
    assert rms((result.tissue_field - head.tissue)[valid]) < 0.1 * rms(head.tissue[valid])


@pytest.mark.parametrize("voxel_size_mm", [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0)])
def test_harmonic_polynomials_vanish_whatever_the_shape_of_the_voxel(make_head, harmonic_polynomials, voxel_size_mm):
    head = make_head(24.0, voxel_size_mm, ANISOTROPIC["b0_direction"] if voxel_size_mm[2] == 2 else (0.0, 0.0, 1.0))
    for name, field in harmonic_polynomials(head.mask.shape, voxel_size_mm).items():
        assert np.abs(run(field, head).tissue_field).max() < 1e-3 * np.abs(field[head.mask]).max(), name


@pytest.mark.parametrize("voxel", [(1.0, 1.0, 1.0), (1.0, 1.0, 1.5)])
def test_the_limit_is_the_dense_solution_that_continues_the_rim(voxel):
    rng = np.random.default_rng(0)
    shape, radius = (11, 10, 12), 2.0
    mask = np.ones(shape, bool)
    mask[0, :4], mask[7:, 7:, 8:] = False, False
    field = (rng.standard_normal(shape) + 3).astype(np.float32)
    centres = np.argwhere(largest_sphere(mask, np.array([radius]), voxel) == 0)
    weights = Ball(voxel, radius, shape).weights
    matrix, known = np.eye(mask.size), field.ravel().astype(np.float64).copy()
    for centre in centres:
        row = np.ravel_multi_index(tuple(centre), shape)
        known[row] = 0
        for place in np.argwhere(weights > 0):
            column = np.ravel_multi_index(tuple(centre + place - np.array(weights.shape) // 2), shape)
            matrix[row, column] -= weights[tuple(place)]
    expected = field - np.linalg.solve(matrix, known).reshape(shape)
    options = IsmvOptions(radius=radius, tolerance=1e-6)
    result = ismv(field, mask, scan=Scan(voxel), options=options)
    assert result.convergence.converged
    assert np.array_equal(np.argwhere(result.mask), centres)
    assert np.allclose(result.tissue_field[result.mask], expected[result.mask], atol=1e-4)


def test_one_iteration_is_one_spherical_mean(make_head):
    head = make_head(24.0)
    field = head.background + head.tissue
    result = run(field, head, options=IsmvOptions(radius=2, max_iterations=1))
    padded = Ball(head.voxel_size_mm, 2.0, field.shape).subtract_mean(field)
    assert np.allclose(result.tissue_field[result.mask], padded[result.mask], atol=1e-5)
    assert result.convergence.iterations == 1 and not result.convergence.converged


def test_history_falls_to_the_tolerance_and_every_iteration_is_told(make_head):
    head, seen = make_head(24.0), []
    result = run(head.background + head.tissue, head, progress=lambda *step: seen.append(step))
    history = result.convergence.history
    assert result.convergence.converged and history[-1] <= 1e-3
    assert seen == [(n + 1, 500) for n in range(len(history))] and result.convergence.iterations == len(history)


def test_odd_sizes_constant_fields_and_a_mask_that_fills_the_volume():
    mask = np.ones((9, 11, 13), bool)
    result = ismv(np.full(mask.shape, 5, np.float32), mask, scan=Scan((1, 1, 1)), options=NARROW)
    assert result.mask.sum() == 5 * 7 * 9
    assert not result.tissue_field.any() and result.convergence.converged


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    with pytest.raises(ValueError, match="mask is empty"):
        ismv(field, ~mask, scan=Scan((1, 1, 1)))
    with pytest.raises(ValueError, match=r"iSMV: no ball of radius 12 mm .* largest radius that fits is 9\.99 mm"):
        ismv(field, mask, scan=Scan((2, 2, 2)), options=IsmvOptions(radius=12))
    with pytest.raises(ValueError, match="is flat"):
        ismv(field, mask, scan=Scan((1, 1, 3)), options=NARROW)
    with pytest.raises(ValueError, match="tolerance"):
        ismv(field, mask, scan=Scan((1, 1, 1)), options=IsmvOptions(tolerance=-1))
    with pytest.raises(ValueError, match="three positive numbers"):
        ismv(field, mask, scan=Scan((1, 1, -1)))
