"""NDI: its iteration against the cost's gradient; what wraps, weights and the number of iterations do to it."""

import numpy as np
import pytest

from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.inversion.ndi import NdiOptions, descend, ndi
from qsmprep.inversion.tkd import tkd
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn

OBLIQUE = (0.3, -0.2, 0.933)
VOXEL = (1.0, 1.2, 2.0)


def small_problem(shape, seed=0):
    rng = np.random.default_rng(seed)
    dipole = dipole_kernel(shape, VOXEL, OBLIQUE)
    phase = (6 * rng.standard_normal(shape)).astype(np.float32)  # wraps many times
    return phase, rng.random(shape).astype(np.float32), dipole


@pytest.mark.parametrize("shape", [(10, 9, 8), (8, 9, 11)])
@pytest.mark.parametrize(("tikhonov", "confined"), [(0.0, False), (0.01, True)])
def test_iteration_descends_the_gradient_of_the_cost(shape, tikhonov, confined):
    """Against the formula in image space and double precision, its gradient checked by finite differences."""
    phase, weights, dipole = small_problem(shape)

    def convolve(x):
        return irfftn(rfftn(x) * dipole.astype(float), shape)

    def cost(x):
        misfit = np.exp(1j * convolve(x)) - np.exp(1j * phase.astype(float))
        return np.sum(weights * np.abs(misfit) ** 2) + tikhonov * np.sum(x**2)

    def slope(x):
        return 2 * convolve(weights * np.sin(convolve(x) - phase)) + 2 * tikhonov * x

    rng = np.random.default_rng(1)
    x, step = rng.standard_normal((2, *shape))
    assert (cost(x + 1e-5 * step) - cost(x - 1e-5 * step)) / 2e-5 == pytest.approx(np.vdot(slope(x), step), rel=1e-6)
    support = (rng.random(shape) > 0.3 * confined).astype(np.float32)
    expected, changes = np.zeros(shape), []
    for _ in range(8):
        move = 0.7 * slope(expected) * support
        expected = expected - move
        changes.append(np.linalg.norm(move) / np.linalg.norm(expected))
    options = NdiOptions(max_iterations=8, step=0.7, tikhonov=tikhonov, tolerance=1e-9, linear_iterations=0)
    found, history, converged = descend(phase, weights, support, dipole, options)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(history, changes, rtol=1e-4)
    assert not converged


def test_linear_iterations_see_the_plain_difference():
    phase, weights, dipole = small_problem((8, 7, 6))
    phase = phase * np.float32(20)  # several turns
    options = NdiOptions(max_iterations=1, step=0.7, linear_iterations=1)
    found, _, _ = descend(phase, weights, np.ones_like(phase), dipole, options)
    expected = 1.4 * irfftn(rfftn(weights * phase) * dipole, phase.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_many_iterations_reach_the_least_squares_solution():
    """A small phase makes the cost quadratic; Tikhonov's weight makes its minimiser unique."""
    shape = (8, 7, 6)
    phase, weights, dipole = small_problem(shape)
    phase = phase * np.float32(1e-3)
    columns = np.stack([irfftn(rfftn(e) * dipole, shape).ravel() for e in np.eye(phase.size).reshape(-1, *shape)], 1)
    w = weights.ravel()[:, None]
    normal = columns.T @ (w * columns) + 0.02 * np.eye(phase.size)
    expected = np.linalg.solve(normal, columns.T @ (w[:, 0] * phase.ravel())).reshape(shape)
    options = NdiOptions(max_iterations=2000, tikhonov=0.02, tolerance=1e-6)
    found, history, converged = descend(phase, weights, np.ones_like(phase), dipole, options)
    assert converged and len(history) < 2000
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


def test_wraps_of_the_phase_change_nothing(head):
    turn = 2 * np.pi / radians_per_ppm(head.scan)
    wrapped = head.field.copy()
    wrapped[18:26, 28:34, 20:24] += turn
    wrapped[10:14] -= turn * head.mask[10:14]
    options = NdiOptions(max_iterations=20, linear_iterations=0)
    expected, found = (ndi(f, head.mask, scan=head.scan, options=options) for f in (head.field, wrapped))
    assert np.linalg.norm(found.chi_ppm - expected.chi_ppm) < 1e-3 * np.linalg.norm(expected.chi_ppm)


def test_more_iterations_bring_more_of_the_source_and_of_the_noise(head):
    few, some, many = (
        ndi(head.field, head.mask, scan=head.scan, options=NdiOptions(max_iterations=n)).chi_ppm for n in (5, 30, 120)
    )
    assert head.slope(few) < head.slope(some) < head.slope(many)
    noise = (1e-3 * np.random.default_rng(0).standard_normal(head.field.shape)).astype(np.float32)
    spread = [
        ndi(noise, head.mask, scan=head.scan, options=NdiOptions(max_iterations=n)).chi_ppm.std() for n in (5, 30)
    ]
    assert spread[0] < 0.8 * spread[1]


def test_beats_division_where_sources_are_confined_to_the_mask(head):
    confined, anywhere = (
        ndi(head.field, head.mask, magnitude_rss=head.magnitude, scan=head.scan,
            options=NdiOptions(inside_only=inside_only))
        for inside_only in (True, False)
    )  # fmt: skip
    assert confined.convergence.iterations == 100 and confined.convergence.converged
    assert 0.85 < head.slope(confined.chi_ppm) < 1.05
    assert head.error(confined.chi_ppm) < head.error(tkd(head.field, head.mask, scan=head.scan).chi_ppm)
    assert head.error(confined.chi_ppm) < 0.8 * head.error(anywhere.chi_ppm)


def test_tolerance_stops_earlier(head):
    options = NdiOptions(tolerance=0.01, max_iterations=50)
    result = ndi(head.field, head.mask, scan=head.scan, options=options)
    assert result.convergence.converged and result.convergence.iterations < 50
    assert result.convergence.history[-1] < 0.01 <= result.convergence.history[-2]
    capped = ndi(head.field, head.mask, scan=head.scan, options=NdiOptions(tolerance=1e-9, max_iterations=5))
    assert not capped.convergence.converged


def test_unreliable_voxels_do_not_count(head):
    residual = np.zeros(head.field.shape, np.float32)
    residual[15:18, 25:28, 20:23] = 0.9
    spoiled = head.field.copy()
    spoiled[residual > 0.3] += 0.1
    plain, excluded = (
        ndi(spoiled, head.mask, relative_residual=rho, scan=head.scan, options=NdiOptions(max_iterations=30))
        for rho in (None, residual)
    )
    assert np.array_equal(excluded.mask, head.mask)
    assert head.error(excluded.chi_ppm) < 0.8 * head.error(plain.chi_ppm)
    two = ndi(
        spoiled, head.mask, relative_residual=residual, scan=head.scan,
        options=NdiOptions(max_iterations=30, two_pass=True),
    )  # fmt: skip
    assert two.convergence.iterations == plain.convergence.iterations + excluded.convergence.iterations
    trusted = head.mask & (residual <= 0.3)
    np.testing.assert_array_equal(two.chi_ppm[trusted], excluded.chi_ppm[trusted])


def test_what_cannot_work_is_refused(head):
    with pytest.raises(ValueError, match="step"):
        ndi(head.field, head.mask, scan=head.scan, options=NdiOptions(step=3))
    with pytest.raises(ValueError, match="tikhonov"):
        ndi(head.field, head.mask, scan=head.scan, options=NdiOptions(tikhonov=-1))
    with pytest.raises(ValueError, match="not be negative"):
        ndi(head.field, head.mask, scan=head.scan, weights=-head.magnitude)
