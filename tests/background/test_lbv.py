"""LBV removes every harmonic function, solves Laplace's equation as a direct solver does, and keeps inner sources."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from qsmprep.background.lbv import LbvOptions, lbv
from qsmprep.background.multigrid import InteriorLaplacian, interior, peeled, with_border, without_border
from qsmprep.background.polynomial import subtract_polynomial
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

OBLIQUE = (0.3, -0.2, 0.933)
VOXELS = [(1.0, 1.0, 1.0), (1.0, 1.2, 2.0), (3.0, 1.0, 1.0)]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(field, head, **rest):
    return lbv(field, head.mask, scan=head.scan, **rest)


def ragged_mask(shape, seed=0):
    """Two bodies with holes and a rough surface."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    mask = (x**2 + y**2 + z**2 < 0.95) & (np.abs(x - 0.1) > 0.12)
    return mask & (np.random.default_rng(seed).random(shape) > 0.02)


def solved_directly(field, mask, voxel_size_mm):
    """Field minus its harmonic extension from the border, in float64, by sparse elimination."""
    inside = binary_erosion(mask)
    number = np.cumsum(inside).reshape(mask.shape) - 1
    voxels = np.argwhere(inside)
    rows, columns, values = [], [], []
    right = np.zeros(len(voxels))
    for axis in range(3):
        for side in (-1, 1):
            neighbours = voxels + side * np.eye(3, dtype=int)[axis]
            weight = voxel_size_mm[axis] ** -2
            for row, at in enumerate(map(tuple, neighbours)):
                rows.append(row), columns.append(row), values.append(weight)
                if inside[at]:
                    rows.append(row), columns.append(number[at]), values.append(-weight)
                else:
                    right[row] += weight * field[at]
    background = spsolve(csr_matrix((values, (rows, columns))), right)
    tissue = np.zeros(mask.shape)
    tissue[inside] = field[inside] - background
    return tissue, inside


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_result_equals_a_direct_solution_on_a_ragged_disconnected_mask(voxel_size_mm):
    mask = ragged_mask((17, 15, 14))
    field = np.random.default_rng(1).standard_normal(mask.shape).astype(np.float32)
    expected, inside = solved_directly(field.astype(float), mask, voxel_size_mm)
    result = lbv(field, mask, scan=Scan(voxel_size_mm), options=LbvOptions(peel_mm=0, tolerance=1e-6))
    assert np.array_equal(result.mask, inside)
    assert np.allclose(result.tissue_field, expected, atol=1e-5)


def test_each_part_of_a_disconnected_mask_is_solved_by_itself():
    mask = np.zeros((30, 16, 16), bool)
    mask[2:14, 2:14, 2:14] = mask[17:28, 3:13, 3:15] = True
    field = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    left = mask.copy()
    left[15:] = False
    given = {"scan": Scan((1.0, 1.0, 1.5)), "options": LbvOptions(tolerance=1e-6, peel_mm=1)}
    both, one = lbv(field, mask, **given), lbv(field, left, **given)
    assert np.allclose(both.tissue_field[:15], one.tissue_field[:15], atol=1e-5)
    assert both.mask[15:].any()


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_harmonic_polynomials_vanish(make_head, harmonic_polynomials, voxel_size_mm):
    head = make_head(24.0, voxel_size_mm, OBLIQUE)
    for name, field in harmonic_polynomials(head.mask.shape, voxel_size_mm).items():
        # The 7-point Laplacian is exact for polynomials up to degree 3, so that rounding alone is left.
        result = run(field, head)
        assert np.abs(result.tissue_field).max() < 1e-5 * max(1, np.abs(field[head.mask]).max()), name


@pytest.mark.parametrize("geometry", [(24.0,), (24.0, (1.0, 1.2, 2.0), OBLIQUE)])
def test_field_of_outer_sources_is_removed_and_of_inner_sources_kept(make_head, geometry):
    head = make_head(*geometry)
    background = run(head.background, head)
    assert background.tissue_field[background.mask].std() < 1e-2 * head.background[background.mask].std()
    result = run(head.background + head.tissue, head)
    found, truth = result.tissue_field[result.mask], head.tissue[result.mask]
    # On the border the tissue field counts as background: a share of it is lost inside a sphere as small as this.
    assert rms(found - found.mean() - truth + truth.mean()) < 0.3 * truth.std()
    assert (result.tissue_field[~result.mask] == 0).all()


def test_a_linear_field_and_an_offset_change_nothing(make_head, harmonic_polynomials):
    head = make_head(24.0)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    field = head.background + head.tissue
    plain, tilted = run(field, head), run(field + 500 * terms["1"] + 3 * terms["x"] - 2 * terms["z"], head)
    assert np.allclose(plain.tissue_field, tilted.tissue_field, atol=2e-4)


@pytest.mark.parametrize("peel", [0, 1, 3])
def test_returned_mask_is_the_interior_of_the_peeled_mask(peel):
    mask = ragged_mask((26, 24, 22))
    field = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    mask[:, 12, :] = mask[0:3] = True
    result = lbv(field, mask, scan=Scan((1, 1, 1)), options=LbvOptions(peel_mm=peel))
    assert np.array_equal(result.mask, binary_erosion(mask, iterations=peel + 1))


def test_peeling_counts_millimetres_along_every_axis():
    mask = np.zeros((22, 22, 12), bool)
    mask[1:21, 1:21, 1:11] = True
    left = peeled(mask, 4.0, (1.0, 1.0, 2.0))
    assert np.array_equal(left, np.pad(np.ones((12, 12, 6), bool), ((5, 5), (5, 5), (3, 3))))


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_operator_and_preconditioner_are_symmetric_and_positive(voxel_size_mm):
    rng = np.random.default_rng(0)
    inside = interior(ragged_mask((19, 22, 24)))
    laplacian = InteriorLaplacian(inside, voxel_size_mm)
    assert len(laplacian.grids) > 1
    x, y = (with_border(rng.standard_normal(inside.shape).astype(np.float32) * inside) for _ in range(2))
    for operator in (laplacian.apply, laplacian.precondition):
        image_x, image_y = operator(x).copy(), operator(y).copy()
        size = np.linalg.norm(image_x) * np.linalg.norm(y)
        assert abs(np.vdot(image_x, y) - np.vdot(x, image_y)) < 1e-5 * size
        assert np.vdot(x, image_x) > 0
        assert (without_border(image_x)[~inside] == 0).all()


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_a_finer_grid_needs_no_more_iterations(voxel_size_mm):
    for size in (16, 48):
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, size),) * 3, indexing="ij")
        mask = x**2 + y**2 + z**2 < 1
        field = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
        result = lbv(field, mask, scan=Scan(voxel_size_mm), options=LbvOptions(tolerance=1e-5))
        assert result.convergence.converged and result.convergence.iterations <= 8


def test_history_falls_to_the_tolerance_and_the_cap_is_reported(make_head):
    head, seen = make_head(24.0), []
    result = run(head.tissue, head, progress=lambda *step: seen.append(step))
    ended = result.convergence
    assert ended.converged and ended.history[-1] <= LbvOptions().tolerance
    assert len(seen) == len(ended.history) == ended.iterations
    capped = run(head.tissue, head, options=LbvOptions(max_iterations=1)).convergence
    assert capped.iterations == 1 and not capped.converged


def test_number_of_threads_changes_no_bit_and_another_device_is_accepted(make_head):
    head = make_head(24.0, (1.0, 1.2, 2.0), OBLIQUE)
    field, results = head.background + head.tissue, []
    for threads in (1, 2):
        with use_threads(threads):
            results.append(run(field, head).tissue_field)
    results.append(run(field, head, device="torch:cpu").tissue_field)
    assert np.array_equal(*results[:2]) and np.array_equal(*results[1:])


def test_unit_of_the_input_is_the_unit_of_the_output(make_head):
    head = make_head(24.0)
    ppm, hz = (run(scale * head.tissue, head).tissue_field for scale in (1, 128))
    assert np.allclose(hz, 128 * ppm, atol=1e-4 * np.abs(hz).max())


def test_polynomial_of_the_order_asked_for_is_taken_out(make_head):
    mask = ragged_mask((20, 22, 24))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in mask.shape), indexing="ij")
    field = 3 + x - 2 * y * z + x**2 * y + z**4 - x * y * z**2
    assert np.abs(subtract_polynomial(field, mask, 4)).max() < 1e-5
    assert subtract_polynomial(field, mask, 3)[mask].std() > 0.01
    head = make_head(24.0)
    result = run(head.tissue, head, options=LbvOptions(polynomial_order=2))
    left = result.tissue_field
    assert np.allclose(subtract_polynomial(left, result.mask, 2), left, atol=1e-6)


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    size = {"scan": Scan((1.0, 1.0, 1.0))}
    with pytest.raises(ValueError, match="mask is empty"):
        lbv(field, ~mask, **size)
    with pytest.raises(ValueError, match="too thin"):
        lbv(field, mask, **size, options=LbvOptions(peel_mm=4))
    with pytest.raises(ValueError, match="one shape"):
        lbv(field, mask[1:], **size)
    with pytest.raises(ValueError, match="not finite"):
        lbv(np.full((9, 9, 9), np.nan), mask, **size)
    with pytest.raises(ValueError, match="peel_mm"):
        lbv(field, mask, **size, options=LbvOptions(peel_mm=-1))
