"""Krylov solvers against dense solutions; alternating directions against their own conditions."""

import numpy as np
import pytest

from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_over_spectrum, minimise_total_variation
from qsmprep.numerics.fourier import rfftn
from qsmprep.numerics.krylov import conjugate_gradient, inner_product, lsmr
from qsmprep.numerics.proximal import threshold_rows, zero_split
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.threads import use_threads


def dense_system(size=60, seed=0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    return (basis * np.geomspace(1, 100, size)) @ basis.T, rng.standard_normal(size)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_conjugate_gradient_solves_a_dense_system(kind):
    matrix, rhs = dense_system()
    expected = np.linalg.solve(matrix, rhs)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        matrix, rhs = torch.as_tensor(matrix), torch.as_tensor(rhs)
    x, iterations, history, converged = conjugate_gradient(
        lambda v: matrix @ v, rhs, tolerance=1e-10, max_iterations=200
    )
    assert converged and iterations == len(history) and history[-1] <= 1e-10
    np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-7, atol=1e-9)


def test_start_and_preconditioner_keep_the_solution_and_save_iterations():
    matrix, rhs = dense_system()
    matrix = matrix + np.diag(np.geomspace(1, 1e4, rhs.size))
    expected = np.linalg.solve(matrix, rhs)
    plain = conjugate_gradient(lambda v: matrix @ v, rhs, tolerance=1e-9, max_iterations=500)
    jacobi = conjugate_gradient(
        lambda v: matrix @ v, rhs, tolerance=1e-9, max_iterations=500, precondition=lambda r: r / np.diag(matrix)
    )
    warm = conjugate_gradient(lambda v: matrix @ v, rhs, x0=expected, tolerance=1e-9, max_iterations=500)
    np.testing.assert_allclose(jacobi.x, expected, rtol=1e-6, atol=1e-10)
    assert jacobi.iterations < plain.iterations
    assert warm.iterations <= 1 and warm.converged


def test_start_is_left_unchanged_and_zero_right_hand_side_gives_zero():
    matrix, rhs = dense_system()
    start = np.ones_like(rhs)
    conjugate_gradient(lambda v: matrix @ v, rhs, x0=start, tolerance=1e-6, max_iterations=3)
    assert np.all(start == 1)
    solution = conjugate_gradient(lambda v: matrix @ v, 0 * rhs, tolerance=1e-6, max_iterations=3)
    assert np.all(solution.x == 0) and solution.converged


def test_same_bits_whatever_the_number_of_threads():
    rhs = np.random.default_rng(1).standard_normal((70, 60, 50)).astype(np.float32)
    diagonal = np.linspace(0.5, 3, rhs.size, dtype=np.float32).reshape(rhs.shape)
    results = []
    for threads in (1, 2):
        with use_threads(threads):
            results.append(conjugate_gradient(lambda v: diagonal * v, rhs, tolerance=1e-6, max_iterations=50))
    assert np.array_equal(results[0].x, results[1].x) and results[0].history == results[1].history
    assert inner_product(rhs, rhs) == pytest.approx(np.vdot(rhs.astype(float), rhs), rel=1e-12)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_lsmr_equals_scipy(kind):
    from scipy.sparse.linalg import lsmr as scipy_lsmr

    rng = np.random.default_rng(2)
    matrix, rhs = rng.standard_normal((80, 40)), rng.standard_normal(80)
    expected = [scipy_lsmr(matrix, rhs, atol=0, btol=0, conlim=0, maxiter=n)[0] for n in (4, 40)]
    if kind == "torch":
        torch = pytest.importorskip("torch")
        matrix, rhs = torch.as_tensor(matrix), torch.as_tensor(rhs)
    for iterations, x in zip((4, 40), expected, strict=True):
        solution = lsmr(lambda v: matrix @ v, lambda u: matrix.T @ u, rhs, max_iterations=iterations)
        assert solution.iterations == iterations
        np.testing.assert_allclose(np.asarray(solution.x), x, rtol=1e-8, atol=1e-10)
        gradient = np.linalg.norm(np.asarray(matrix).T @ (np.asarray(rhs) - np.asarray(matrix) @ x))
        start = np.linalg.norm(np.asarray(matrix).T @ np.asarray(rhs))
        assert solution.history[-1] == pytest.approx(gradient / start, rel=1e-5, abs=1e-12)


@pytest.fixture(scope="module")
def noisy_box():
    shape, h = (16, 15, 12), (1.0, 1.0, 1.5)
    field = 0.02 * np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    field[4:9, 5:10, 3:8] += 0.1
    return field, spectra(shape, h, (0.3, 0.1, 0.9), kernel="integrated"), h


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_even_weights_give_one_minimum_by_either_iteration(kind, noisy_box):
    """With weights of 1 the data term is diagonal in the spectrum, and the split of D x is not needed."""
    field, grid, h = noisy_box
    if kind == "torch":
        torch = pytest.importorskip("torch")
        field = torch.as_tensor(field)
        grid = type(grid)(torch.as_tensor(grid.dipole), tuple(torch.as_tensor(row) for row in grid.rows))
    alpha, step = 2e-3, 5e-3
    thresholds = threshold_rows(step, None, tuple(field.shape), field)
    (x, _), history, converged = minimise_over_spectrum(
        grid.dipole * rfftn(field), grid.dipole**2, thresholds, grid, h,
        mu_gradient=alpha / step, tolerance_percent=1e-3, max_iterations=2000,
    )  # fmt: skip
    assert converged and history[-1] < 1e-3
    problem = PhaseProblem(field, field * 0 + 1, thresholds, None, grid, h)
    y, _, converged = minimise_total_variation(
        problem, Penalties(alpha / step, 0.3, nonlinear=False), tolerance_percent=1e-3, max_iterations=2000
    )
    assert converged
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), atol=1e-3 * float(abs(y).max()))


@pytest.mark.parametrize("robust", [True, False])
def test_mean_is_zero_and_a_start_does_not_move_the_minimum(robust, noisy_box):
    field, grid, h = noisy_box
    assert abs(grid.dipole[0, 0, 0]) > 1e-4  # the box is no cube, so this kernel has a mean
    alpha, step = 0.05 if robust else 2e-3, 5e-3
    problem = PhaseProblem(field, field * 0 + 1, threshold_rows(step, None, field.shape, field), None, grid, h)
    penalties = Penalties(alpha / step, 20.0 if robust else 0.3, nonlinear=False, robust=robust)
    run = {"tolerance_percent": 1e-3, "max_iterations": 800}
    cold, _, _ = minimise_total_variation(problem, penalties, **run)
    warm, _, _ = minimise_total_variation(problem, penalties, start=(field.copy(), zero_split(field)), **run)
    assert abs(float(cold.mean())) < 1e-6
    np.testing.assert_allclose(warm, cold, atol=(2e-2 if robust else 5e-3) * np.abs(cold).max())
