"""iLSQR: its operators, its two solves against dense ones, its weights, and what the streak removal brings."""

import numpy as np
import pytest

from qsmprep.inversion.ilsqr import (
    ConeGradient,
    IlsqrOptions,
    WeightedField,
    flatness,
    ilsqr,
    image_of,
    initial_map,
    laplacian_weights,
    streak_map,
    unit_scale,
    unknown_of,
)
from qsmprep.inversion.tkd import tkd
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.krylov import lsmr
from qsmprep.numerics.operators import gradient

OBLIQUE = (0.3, -0.2, 0.933)
VOXEL = (1.0, 1.2, 2.0)
SHAPES = [(10, 9, 8), (9, 8, 7)]


def spectrum_unknown(shape, rng):
    image = rng.standard_normal(shape)
    return unknown_of(image, np.ones((*shape[:2], 1)) * unit_scale(image))


def problem(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng, dipole_kernel(shape, VOXEL, OBLIQUE).astype(float), rng.random(shape), rng.random((3, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_spectra_as_unknowns_keep_lengths_and_angles(shape):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, *shape))
    row = np.ones((*shape[:2], 1)) * unit_scale(x)
    assert np.vdot(unknown_of(x, row), unknown_of(y, row)) == pytest.approx(np.vdot(x, y), rel=1e-12)
    np.testing.assert_allclose(image_of(unknown_of(x, row), 1 / row, shape), x, atol=1e-12)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_adjoints(shape, kind):
    rng, dipole, weights, component_weights = problem(shape)
    x, y, g = spectrum_unknown(shape, rng), spectrum_unknown(shape, rng), rng.standard_normal((3, *shape))
    cone = (np.abs(dipole) < 0.1).astype(float)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        dipole, weights, component_weights, cone, x, y, g = map(
            torch.as_tensor, (dipole, weights, component_weights, cone, x, y, g)
        )
    field, gradients = WeightedField(dipole, weights), ConeGradient(cone, component_weights, VOXEL)
    for forward, adjoint, right in ((field.apply, field.apply, y), (gradients.forward, gradients.adjoint, g)):
        there, back = float((forward(x) * right).sum()), float((x * adjoint(right)).sum())
        assert there == pytest.approx(back, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_solves_equal_the_image_space_formulation(shape):
    """The same LSMR on images, with the operators written out, takes the same steps."""
    rng, dipole, weights, component_weights = problem(shape, 1)
    field, mask = rng.standard_normal(shape), np.ones(shape)

    def convolve(x, spectrum):
        return irfftn(rfftn(x) * spectrum, shape)

    def normal(x):
        return convolve(weights * convolve(x, dipole), dipole)

    six = {"tolerance": 0, "max_iterations": 6}
    found, solution = initial_map(field, weights, mask, dipole, **six)
    expected = lsmr(normal, normal, convolve(weights * field, dipole), max_iterations=6)
    np.testing.assert_allclose(found, expected.x, atol=1e-6)
    np.testing.assert_allclose(solution.history, expected.history, rtol=1e-6)

    cone = (np.abs(dipole) < 0.1).astype(float)
    found, _ = streak_map(field, component_weights, cone, VOXEL, **six)
    columns = np.stack(
        [
            (component_weights * gradient(convolve(point, cone), VOXEL)).ravel()
            for point in np.eye(field.size).reshape(-1, *shape)
        ],
        axis=1,
    )
    rhs = (component_weights * gradient(field, VOXEL)).ravel()
    expected = lsmr(lambda v: columns @ v, lambda u: columns.T @ u, rhs, max_iterations=6).x.reshape(shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    many, _ = streak_map(field, component_weights, cone, VOXEL, tolerance=1e-9, max_iterations=300)
    dense = np.linalg.lstsq(columns, rhs, rcond=1e-10)[0].reshape(shape)
    np.testing.assert_allclose(many, dense, atol=1e-5)


@pytest.mark.parametrize("absolute", [False, True])
def test_weights_fall_where_field_bends_and_map_has_edges(head, absolute):
    weights = laplacian_weights(head.field, head.mask, head.voxel_size_mm, absolute=absolute)
    assert weights.min() >= 0 and weights.max() == 1 and np.all(weights[~head.mask] == 1)
    inside = weights[head.mask]
    assert np.mean(inside == 1) == pytest.approx(0.6, abs=0.01) and np.mean(inside == 0) < 0.002
    flat = flatness(head.chi, head.mask, head.voxel_size_mm, absolute=absolute)
    steps = np.abs(gradient(head.chi, head.voxel_size_mm))
    between = np.stack([head.mask & np.roll(head.mask, -1, axis) for axis in range(3)])
    assert np.all(flat[~between] == 0)
    edges = flat[between & (steps > 0.05)]
    assert edges.max() == 0 if absolute else 0.3 < edges.mean() < 0.7  # signed: half the edges look flat


def test_uniform_field_weighs_all_voxels_alike():
    mask = np.zeros((9, 10, 11), bool)
    mask[2:7, 2:8, 2:9] = True
    field = 0.1 * mask.astype(np.float32)
    assert np.all(laplacian_weights(field, mask, (1, 1, 1), absolute=False) == 1)


def test_removing_the_streaks_lowers_the_error(head):
    with_streaks, signed, result = (
        ilsqr(head.field, head.mask, scan=head.scan, options=IlsqrOptions(**options))
        for options in ({"streak_tolerance": 1}, {"absolute_gradient": False}, {})
    )
    assert result.convergence.converged and "initial map" in result.convergence.monitored
    assert head.error(result.chi_ppm) < 0.9 * head.error(with_streaks.chi_ppm)
    assert head.error(result.chi_ppm) < head.error(tkd(head.field, head.mask, scan=head.scan).chi_ppm)
    assert head.error(signed.chi_ppm) > head.error(result.chi_ppm)


def test_unreliable_voxels_do_not_count(head):
    residual = np.zeros(head.field.shape, np.float32)
    residual[15:18, 25:28, 20:23] = 0.9
    spoiled = head.field.copy()
    spoiled[residual > 0.3] += 0.4
    plain, excluded = (
        ilsqr(spoiled, head.mask, relative_residual=rho, scan=head.scan, options=IlsqrOptions(tolerance=1e-3))
        for rho in (None, residual)
    )
    assert np.array_equal(excluded.mask, head.mask)
    assert head.error(excluded.chi_ppm) < 0.7 * head.error(plain.chi_ppm)


def test_options_out_of_range_are_refused(head):
    with pytest.raises(ValueError, match="cone"):
        ilsqr(head.field, head.mask, scan=head.scan, options=IlsqrOptions(cone=-0.1))
