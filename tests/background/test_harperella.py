"""HARPERELLA removes outer sources without caring for wraps, and its operators are what they say."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from qsmprep.background.harperella import HarperellaOptions, SphericalMeans, harperella
from qsmprep.background.known_laplacian import known_laplacian
from qsmprep.numerics.operators import sphere_kernel
from qsmprep.scan import Scan

OBLIQUE = (0.3, -0.2, 0.933)
GEOMETRIES = [(24.0,), (24.0, (1.0, 1.2, 2.0), OBLIQUE)]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(field, head, **rest):
    return harperella(field, head.mask, scan=head.scan, **rest)


def columns(operator, shape):
    """The dense matrix of a linear operator on a small grid."""
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.stack([operator(unit).ravel() for unit in units], axis=1)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_field_of_outer_sources_is_removed(make_head, geometry):
    head = make_head(*geometry)
    result = run(head.background, head)
    assert result.tissue_field[result.mask].std() < 1e-2 * head.background[result.mask].std()
    assert (result.tissue_field[~result.mask] == 0).all()


def test_field_of_sources_deeper_than_the_sphere_survives_under_a_background_ten_times_stronger(make_head):
    head = make_head(38.0, (1.5, 1.5, 1.5))
    result = run(head.background + head.tissue, head)
    found, truth = result.tissue_field[result.mask], head.tissue[result.mask]
    assert rms(found - found.mean() - truth + truth.mean()) < 0.05 * truth.std()


def test_harmonic_polynomials_vanish(make_head, harmonic_polynomials):
    head = make_head(24.0, (1.0, 1.2, 2.0), OBLIQUE)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    for name in ("1", "z", "2z2-x2-y2", "x3-3xy2"):
        result = run(terms[name], head, options=HarperellaOptions(max_iterations=5))
        assert np.abs(result.tissue_field).max() < 1e-4 * np.abs(terms[name][head.mask]).max(), name


def test_wraps_left_in_the_field_do_no_harm(make_head):
    head, spacing = make_head(24.0), 0.006
    field = 128 * (head.background + head.tissue)  # Hz at 3 T
    wrapped = field + np.random.default_rng(0).integers(-2, 3, field.shape) / spacing
    options = HarperellaOptions(max_iterations=8)
    clean = run(field, head, options=options).tissue_field
    for given in (field, wrapped):
        found = run(given, head, echo_spacing_s=spacing, options=options).tissue_field
        assert np.allclose(found, clean, atol=1e-2 * np.abs(clean).max())


@pytest.mark.parametrize("shape", [(12, 14, 16), (11, 13, 15)])
def test_adjoint_and_normal_operator(shape):
    rng = np.random.default_rng(0)
    exterior = (rng.random(shape) > 0.4).astype(float)
    means = SphericalMeans(sphere_kernel(shape, (1, 1.2, 2), 3.0).astype(float), exterior)
    x, y = rng.standard_normal(shape), rng.standard_normal(shape)
    assert np.vdot(means.forward(x), y) == pytest.approx(np.vdot(x, means.adjoint(y)), rel=1e-10, abs=1e-10)
    assert np.allclose(means.normal(x), means.adjoint(means.forward(x)), atol=1e-12)


def test_laplacian_is_the_seven_point_stencil_where_all_neighbours_are_known():
    rng = np.random.default_rng(0)
    mask = rng.random((9, 10, 11)) > 0.05
    field = rng.standard_normal(mask.shape).astype(np.float32)
    given = {"echo_spacing_s": None, "peel_mm": 0, "padding_mm": 3.0, "device": "cpu"}
    known = known_laplacian(field, mask, (1.0, 1.5, 2.0), **given)
    expected = sum(
        (np.roll(field, 1, axis) + np.roll(field, -1, axis) - 2 * field) / h**2 for axis, h in enumerate((1, 1.5, 2))
    )
    inside = binary_erosion(mask)
    assert np.array_equal(known.frame.restore(known.inside), inside)
    assert np.allclose(known.frame.restore(known.source)[inside], expected[inside], atol=1e-5)
    # Its Poisson solution has that Laplacian, but for the mean over the periodic grid.
    solved = known.field(known.source)
    again = sum((np.roll(solved, 1, a) + np.roll(solved, -1, a) - 2 * solved) / h**2 for a, h in enumerate((1, 1.5, 2)))
    assert np.allclose(again, known.source - known.source.mean(), atol=1e-4)


def test_exterior_laplacian_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    mask = np.zeros((8, 8, 8), bool)
    mask[1:7, 0:6, 1:8] = True
    field = rng.standard_normal(mask.shape).astype(np.float32)
    options = HarperellaOptions(radius=1.0, padding_mm=2.0, peel_mm=0, tolerance=1e-6, max_iterations=2000)
    result = harperella(field, mask, scan=Scan((1, 1, 1)), options=options)
    given = {"echo_spacing_s": None, "peel_mm": 0, "padding_mm": 2.0, "device": "cpu"}
    known = known_laplacian(field, mask, (1, 1, 1), **given)
    shape = known.frame.padded_shape
    means = SphericalMeans(sphere_kernel(shape, (1, 1, 1), 1.0).astype(float), known.exterior.astype(float))
    source = known.source.astype(float)
    measured = means.mean(source)
    core = binary_erosion(known.inside, iterations=3)
    delta = measured[core if core.any() else known.inside].mean()
    outside = known.exterior.ravel() > 0
    solution = np.zeros(source.size)
    matrix = columns(means.forward, shape)[:, outside]
    solution[outside] = np.linalg.lstsq(matrix, (delta - measured).ravel(), rcond=1e-6)[0]
    expected = known.frame.restore(known.field(source + solution.reshape(shape)))
    assert rms((result.tissue_field - expected)[result.mask]) < 1e-2 * rms(expected[result.mask])


def test_a_linear_field_and_an_offset_change_nothing(make_head, harmonic_polynomials):
    head = make_head(24.0)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    field = head.background + head.tissue
    tilt, options = 5 * terms["x"] - 3 * terms["1"] + 2 * terms["xy"], HarperellaOptions(max_iterations=8)
    plain, tilted = run(field, head, options=options), run(field + tilt, head, options=options)
    assert rms(tilted.tissue_field - plain.tissue_field) < 1e-2 * rms(plain.tissue_field)


def test_returned_mask_is_the_interior_of_the_peeled_mask(make_head):
    head = make_head(24.0)
    for peel in (0, 3):
        result = run(head.tissue, head, options=HarperellaOptions(peel_mm=peel, max_iterations=2))
        assert np.array_equal(result.mask, binary_erosion(head.mask, iterations=peel + 1))


def test_history_falls_to_the_tolerance_and_the_cap_is_reported(make_head):
    head, seen = make_head(24.0), []
    ended = run(head.background + head.tissue, head, options=HarperellaOptions(tolerance=0.3)).convergence
    assert ended.converged and ended.history[-1] <= 0.3
    assert len(ended.history) == ended.iterations
    options = HarperellaOptions(max_iterations=3, tolerance=1e-6)
    capped = run(head.background, head, options=options, progress=lambda *step: seen.append(step)).convergence
    assert capped.iterations == 3 and not capped.converged
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    size = {"scan": Scan((1.0, 1.0, 1.0))}
    with pytest.raises(ValueError, match="mask is empty"):
        harperella(field, ~mask, **size)
    with pytest.raises(ValueError, match="too thin"):
        harperella(field, mask, **size, options=HarperellaOptions(peel_mm=4))
    with pytest.raises(ValueError, match="one shape"):
        harperella(field, mask[1:], **size)
    with pytest.raises(ValueError, match="not finite"):
        harperella(np.full((9, 9, 9), np.nan), mask, **size)
    with pytest.raises(ValueError, match="echo spacing"):
        harperella(field, mask, **size, echo_spacing_s=0.0)
    with pytest.raises(ValueError, match="radius"):
        harperella(field, mask, **size, options=HarperellaOptions(radius=-1))
