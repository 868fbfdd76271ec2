"""COSMOS: the truth comes back where orientations differ, and alike ones are refused."""

import numpy as np
import pytest

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.orientation.cosmos import CosmosOptions, cosmos
from qsmprep.orientation.directions import cosmos_condition
from qsmprep.orientation.inputs import Orientations

SHAPE, VOXEL = (15, 16, 18), (1.0, 1.2, 0.9)
DIRECTIONS = np.array([(0, 0, 1), (0, 0.5, 0.87), (-0.6, 0, 0.8), (0.3, -0.5, 0.8)])
DIRECTIONS = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1)[:, None]
EVERYWHERE = np.ones(SHAPE, bool)
TIGHT = CosmosOptions(padding=0, tolerance=1e-6, max_iterations=300)


def fields_of(chi, directions=DIRECTIONS):
    kernels = [dipole_kernel(SHAPE, VOXEL, tuple(b)) for b in directions]
    return np.stack([irfftn(rfftn(chi) * kernel, SHAPE) for kernel in kernels])


@pytest.fixture
def chi():
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32) * 0.05
    return image - image.mean()


def solve(fields, mask=EVERYWHERE, directions=DIRECTIONS, weights=None, **keywords):
    return cosmos(Orientations(fields, mask, VOXEL, directions, weights), **keywords)


def test_the_truth_comes_back_without_a_regulariser(chi):
    result = solve(fields_of(chi), options=TIGHT)
    assert np.abs(result.chi_ppm - chi).max() < 1e-5
    assert result.convergence.monitored == "closed form"


def test_even_weights_give_the_closed_form(chi):
    random = np.random.default_rng(1)
    fields = fields_of(chi) + 0.01 * random.standard_normal((4, *SHAPE)).astype(np.float32)
    closed = solve(fields, options=TIGHT).chi_ppm
    weighted = solve(fields, weights=np.ones(fields.shape), options=TIGHT)
    assert weighted.convergence.converged
    difference = weighted.chi_ppm - closed
    assert np.abs(difference - difference.mean()).max() < 1e-4


def test_weighted_solution_is_the_dense_least_squares():
    shape, voxel = (6, 6, 6), (1.0, 1.0, 1.0)
    random = np.random.default_rng(2)
    kernels = [dipole_kernel(shape, voxel, tuple(b)).astype(float) for b in DIRECTIONS]
    weights = random.uniform(0.3, 1, (4, *shape))
    fields = random.standard_normal((4, *shape)) * 0.01
    columns = []
    for unit in np.eye(216).reshape(216, *shape):
        spectrum = np.fft.rfftn(unit)
        fields_of_unit = [np.fft.irfftn(spectrum * k, shape, axes=(0, 1, 2)) for k in kernels]
        columns.append((np.stack(fields_of_unit) * weights / weights.max()).ravel())
    dense = np.linalg.lstsq(np.array(columns).T, (fields * weights / weights.max()).ravel(), rcond=None)[0]
    result = cosmos(Orientations(fields, np.ones(shape, bool), voxel, DIRECTIONS, weights),
                    options=CosmosOptions(padding=0, tolerance=1e-7, max_iterations=500))  # fmt: skip
    found, dense = result.chi_ppm.ravel() - result.chi_ppm.mean(), dense - dense.mean()
    assert np.linalg.norm(found - dense) < 2e-3 * np.linalg.norm(dense)


def test_a_field_that_weighs_nothing_is_not_looked_at(chi):
    fields = fields_of(chi)
    weights = np.ones(fields.shape)
    weights[:, :3] = 0
    spoilt = np.where(weights > 0, fields, np.nan)
    clean = solve(fields, weights=weights, options=TIGHT).chi_ppm
    assert np.array_equal(solve(spoilt, weights=weights, options=TIGHT).chi_ppm, clean)


def test_progress_is_called_once_an_iteration(chi):
    calls = []
    weights = np.ones((4, *SHAPE))
    result = solve(fields_of(chi), weights=weights, progress=lambda done, total: calls.append(done))
    assert len(calls) == result.convergence.iterations


def test_torch_gives_the_same(chi):
    pytest.importorskip("torch")
    fields, weights = fields_of(chi), np.ones((4, *SHAPE))
    for extra in ({}, {"weights": weights}):
        assert np.abs(solve(fields, **extra).chi_ppm - solve(fields, device="torch:cpu", **extra).chi_ppm).max() < 1e-5


def test_orientations_too_much_alike_are_refused_with_their_condition_number(chi):
    alike = np.array([(0, 0, 1), (0, 0.01, 1), (0.01, 0, 1)])
    with pytest.raises(ValueError, match=r"too much alike for COSMOS: condition number .* degrees"):
        solve(fields_of(chi, alike), directions=alike)


def test_two_orientations_are_too_few(chi):
    with pytest.raises(ValueError, match="needs 3 or more orientations; there are 2"):
        solve(fields_of(chi)[:2], directions=DIRECTIONS[:2])


def test_the_condition_falls_as_the_head_turns_further():
    def turned(degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        return cosmos_condition(np.array([(0, 0, 1), (0, s, c), (s, 0, c)]))

    assert turned(5) > turned(10) > turned(20) > turned(40)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f, m: (f[:, :-1], m), "must be"),
        (lambda f, m: (f, m & False), "empty"),
        (lambda f, m: (f * 1e4, m), "20 ppm"),
        (lambda f, m: (f[:3], m), "3 fields, but 4 directions"),
    ],
)
def test_wrong_input_is_refused(chi, change, words):
    fields, mask = change(fields_of(chi), EVERYWHERE)
    with pytest.raises(ValueError, match=words):
        solve(fields, mask)
