"""RESHARP solves the published least-squares problem, removes harmonic fields and keeps those of sources inside."""

import numpy as np
import pytest

from qsmprep.background.resharp import FilteredTissue, ResharpOptions, resharp
from qsmprep.background.spheres import Ball, largest_sphere
from qsmprep.scan import Scan

ANISOTROPIC = {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.3, -0.2, 0.933)}
ACCURATE = ResharpOptions(tolerance=1e-4, max_iterations=200)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(field, head, **rest):
    return resharp(field, head.mask, scan=head.scan, **rest)


def test_background_of_air_leaves_less_than_half_a_percent(make_head):
    head = make_head(38.0)
    result = run(head.background, head)
    assert result.convergence.converged
    assert result.tissue_field[result.mask].std() < 5e-3 * head.background[result.mask].std()


def test_field_of_inner_sources_is_kept_the_better_the_weaker_the_regularisation(make_head):
    head = make_head(38.0)
    lost = []
    for regularisation in (1e-2, 1e-3, 1e-4):
        result = run(head.tissue, head, options=ResharpOptions(regularisation=regularisation, tolerance=1e-3))
        lost.append(rms((result.tissue_field - head.tissue)[result.mask]) / rms(head.tissue[result.mask]))
    assert lost[0] > lost[1] > lost[2]
    assert lost[1] < 0.05


def test_field_of_inner_sources_survives_under_a_background_ten_times_stronger(make_head):
    head = make_head(38.0)
    result = run(head.background + head.tissue, head)
    difference = (result.tissue_field - head.tissue)[result.mask]
    assert rms(difference) < 0.15 * rms(head.tissue[result.mask])


@pytest.mark.parametrize("voxel_size_mm", [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0)])
def test_harmonic_polynomials_vanish_whatever_the_shape_of_the_voxel(make_head, harmonic_polynomials, voxel_size_mm):
    head = make_head(24.0, voxel_size_mm, ANISOTROPIC["b0_direction"] if voxel_size_mm[2] == 2 else (0.0, 0.0, 1.0))
    for name, field in harmonic_polynomials(head.mask.shape, voxel_size_mm).items():
        assert np.abs(run(field, head).tissue_field).max() < 1e-3 * np.abs(field[head.mask]).max(), name


@pytest.mark.parametrize("shape", [(12, 14, 16), (11, 13, 15)])
def test_adjoint_and_normal_matrix_of_the_filter(shape):
    rng = np.random.default_rng(0)
    w = Ball((1, 1.2, 2), 2.5, shape).filter.astype(np.float64)
    w /= np.sqrt(w**2 + 0.01)
    fit = FilteredTissue(w, (rng.random(shape) > 0.4).astype(np.float64))
    x, y = rng.standard_normal(shape), rng.standard_normal(shape)
    assert np.vdot(fit.forward(x), y) == pytest.approx(np.vdot(x, fit.adjoint(y)), rel=1e-10, abs=1e-10)
    assert np.vdot(fit.normal_matrix(x), y) == pytest.approx(np.vdot(x, fit.normal_matrix(y)), rel=1e-10, abs=1e-10)
    assert np.vdot(fit.normal_matrix(x), x) > 0


@pytest.mark.parametrize(("voxel", "regularisation"), [((1.0, 1.0, 1.0), 0.01), ((1.0, 1.0, 1.5), 1e-3)])
def test_result_is_the_dense_least_squares_solution(voxel, regularisation):
    """With every ball as a row of a matrix: no periodic grid, no padding, unknowns in the mask only."""
    rng = np.random.default_rng(0)
    shape, radius = (10, 9, 11), 2.0
    mask = np.ones(shape, bool)
    mask[0, :4], mask[:3, -1], mask[7:, 7:, 8:] = False, False, False
    field = (rng.standard_normal(shape) + 3).astype(np.float32)
    centres = np.argwhere(largest_sphere(mask, np.array([radius]), voxel) == 0)
    weights = Ball(voxel, radius, shape).weights
    ball = np.argwhere(weights > 0)
    matrix = np.zeros((len(centres), mask.size))
    for row, centre in zip(matrix, centres, strict=True):
        row[np.ravel_multi_index(tuple(centre), shape)] = 1
        for place in ball:
            row[np.ravel_multi_index(tuple(centre + place - np.array(weights.shape) // 2), shape)] -= weights[
                tuple(place)
            ]
    assert not matrix[:, ~mask.ravel()].any()
    normal = matrix.T @ matrix + regularisation * np.eye(mask.size)
    expected = np.linalg.solve(normal, matrix.T @ (matrix @ field.ravel().astype(np.float64))).reshape(shape)
    options = ResharpOptions(radius=radius, regularisation=regularisation, tolerance=1e-6, max_iterations=500)
    result = resharp(field, mask, scan=Scan(voxel), options=options)
    assert result.convergence.converged
    assert np.array_equal(np.argwhere(result.mask), centres)
    assert np.allclose(result.tissue_field[result.mask], expected[result.mask], atol=2e-4 * np.abs(expected).max())


def test_history_falls_to_the_tolerance_and_the_cap_is_reported(make_head):
    head, seen = make_head(24.0), []
    field = head.background + head.tissue
    result = run(field, head)
    assert result.convergence.converged and result.convergence.history[-1] <= ResharpOptions().tolerance
    assert len(result.convergence.history) == result.convergence.iterations
    options = ResharpOptions(max_iterations=3, tolerance=1e-6)
    capped = run(field, head, options=options, progress=lambda *step: seen.append(step))
    assert capped.convergence.iterations == 3 and not capped.convergence.converged
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_stopping_at_the_default_tolerance_costs_little(make_head):
    head = make_head(24.0)
    field = head.background + head.tissue
    loose, tight = run(field, head), run(field, head, options=ACCURATE)
    assert loose.convergence.iterations <= 15
    assert rms(loose.tissue_field - tight.tissue_field) < 0.1 * rms(head.tissue)


def test_unit_of_the_input_is_the_unit_of_the_output(make_head):
    head = make_head(24.0)
    field = head.background + head.tissue
    ppm, hz = run(field, head).tissue_field, run(128 * field, head).tissue_field
    assert np.allclose(hz, 128 * ppm, atol=1e-3 * np.abs(hz).max())


def test_zero_and_constant_fields_give_zero():
    mask = np.ones((13, 14, 15), bool)
    for value in (0, 7):
        result = resharp(np.full(mask.shape, value, np.float32), mask, scan=Scan((1, 1, 1)))
        assert not result.tissue_field.any() and result.convergence.converged


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((13, 13, 13), np.float32), np.ones((13, 13, 13), bool)
    size = {"scan": Scan((1.0, 1.0, 1.0))}
    with pytest.raises(ValueError, match="mask is empty"):
        resharp(field, ~mask, **size)
    with pytest.raises(ValueError, match=r"RESHARP: no ball of radius 9 mm .* largest radius that fits is 6\.99 mm"):
        resharp(field, mask, **size, options=ResharpOptions(radius=9))
    with pytest.raises(ValueError, match="is flat"):
        resharp(field, mask, scan=Scan((1, 1, 7)))
    with pytest.raises(ValueError, match="regularisation"):
        resharp(field, mask, **size, options=ResharpOptions(regularisation=-1e-3))
    with pytest.raises(ValueError, match="one shape"):
        resharp(field, mask[1:], **size)
