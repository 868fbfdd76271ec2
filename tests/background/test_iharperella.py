"""iHARPERELLA leaves the part of a field that no harmonic function can explain."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from qsmprep.background.iharperella import IharperellaOptions, InnerField, iharperella
from qsmprep.background.known_laplacian import known_laplacian
from qsmprep.scan import Scan

OBLIQUE = (0.3, -0.2, 0.933)
GEOMETRIES = [(24.0,), (24.0, (1.0, 1.2, 2.0), OBLIQUE)]


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run(field, head, **rest):
    return iharperella(field, head.mask, scan=head.scan, **rest)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_field_of_outer_sources_is_removed(make_head, geometry):
    head = make_head(*geometry)
    result = run(head.background, head)
    assert result.convergence.converged
    assert result.tissue_field[result.mask].std() < 5e-3 * head.background[result.mask].std()
    assert (result.tissue_field[~result.mask] == 0).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_field_of_inner_sources_survives_under_a_background_ten_times_stronger(make_head, geometry):
    head = make_head(*geometry)
    result = run(head.background + head.tissue, head)
    found, truth = result.tissue_field[result.mask], head.tissue[result.mask]
    # What is lost of a tissue field is its own harmonic part: a quarter in a sphere as small as this.
    assert rms(found - truth) < 0.3 * rms(truth)
    assert np.dot(found, truth) / np.dot(truth, truth) > 0.9


def test_harmonic_polynomials_vanish(make_head, harmonic_polynomials):
    head = make_head(24.0, (1.0, 1.2, 2.0), OBLIQUE)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    for name in ("1", "z", "2z2-x2-y2", "x3-3xy2"):
        result = run(terms[name], head, options=IharperellaOptions(max_iterations=5))
        assert np.abs(result.tissue_field).max() < 1e-4 * np.abs(terms[name][head.mask]).max(), name


def test_result_is_the_field_without_its_projection_onto_harmonic_functions():
    """The dense comparison: harmonic functions from their boundary values, without any Fourier transform."""
    mask, voxel = np.zeros((10, 11, 10), bool), (1.0, 1.3, 1.2)
    mask[1:9, 0:9, 2:10] = True
    mask[4, 3, 5] = False
    field = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    inside = binary_erosion(mask)
    number = np.cumsum(mask).reshape(mask.shape) - 1
    laplacian = np.zeros((inside.sum(), mask.sum()))
    for row, at in enumerate(np.argwhere(inside)):
        for axis, h in enumerate(voxel):
            for side in (-1, 1):
                laplacian[row, number[tuple(at + side * np.eye(3, dtype=int)[axis])]] += h**-2
                laplacian[row, number[tuple(at)]] -= h**-2
    deep = inside[mask]
    from_border = -np.linalg.solve(laplacian[:, deep], laplacian[:, ~deep])
    # The periodic grid leaves the mean of the Laplacian open: the bowl of constant Laplacian counts as harmonic.
    bowl = np.linalg.solve(laplacian[:, deep], np.ones(int(inside.sum())))
    space, sizes, _ = np.linalg.svd(np.column_stack([from_border, bowl]), full_matrices=False)
    space = space[:, sizes > 1e-9 * sizes[0]]
    expected = field[inside] - space @ (space.T @ field[inside])
    given = {"echo_spacing_s": None, "peel_mm": 0, "padding_mm": 3.0, "device": "cpu"}
    known = known_laplacian(field, mask, voxel, **given)
    # Single precision would add faint functions that are not harmonic, which a dense solution makes use of.
    shape = known.inside.shape
    waves = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    with np.errstate(divide="ignore"):
        inverse = -1 / sum((2 - 2 * np.cos(2 * np.pi * w)) / h**2 for w, h in zip(waves, voxel, strict=True))
    inverse[0, 0, 0] = 0
    inverse = inverse[..., : shape[2] // 2 + 1]
    assert np.allclose(known.poisson, inverse, rtol=1e-5)
    double = replace(known, source=known.source.astype(float), poisson=inverse)
    fit = InnerField(double.poisson, known.exterior.astype(float), known.inside.astype(float))
    units = np.eye(fit.inside.size).reshape(-1, *fit.inside.shape)[known.exterior.ravel() > 0]
    matrix = np.stack([fit.forward(unit)[known.inside] for unit in units], axis=1)
    start = double.field(double.source)[known.inside]
    dense = start + matrix @ np.linalg.lstsq(matrix, -start, rcond=1e-12)[0]
    assert rms(dense - expected) < 1e-3 * rms(expected)
    # The iteration comes close from above, ever slower, as it meets ever fainter functions.
    found = [iharperella(field, mask, scan=Scan(voxel), options=IharperellaOptions(tolerance=0, max_iterations=n,
        padding_mm=3.0)).tissue_field[inside] for n in (5, 50, 300)]  # fmt: skip
    assert rms(expected) * 0.999 < rms(found[2]) < rms(found[1]) < rms(found[0])
    assert rms(found[2]) < 1.1 * rms(expected)


@pytest.mark.parametrize("shape", [(12, 14, 16), (11, 13, 15)])
def test_adjoint_of_the_fit(shape):
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, bool)
    mask[2:9, 3:10, 2:11] = True
    given = {"echo_spacing_s": None, "peel_mm": 0, "padding_mm": 5.0, "device": "cpu"}
    known = known_laplacian(np.zeros(shape), mask, (1, 1.2, 2), **given)
    fit = InnerField(*(a.astype(float) for a in (known.poisson, known.exterior, known.inside)))
    x, y = (rng.standard_normal(known.inside.shape) for _ in range(2))
    assert np.vdot(fit.forward(x), y) == pytest.approx(np.vdot(x, fit.adjoint(y)), rel=1e-10, abs=1e-10)


def test_wraps_left_in_the_field_do_no_harm(make_head):
    head, spacing = make_head(24.0), 0.006
    field = 128 * (head.background + head.tissue)  # Hz at 3 T
    wrapped = field + np.random.default_rng(0).integers(-2, 3, field.shape) / spacing
    options = IharperellaOptions(max_iterations=8)
    clean = run(field, head, options=options).tissue_field
    found = run(wrapped, head, echo_spacing_s=spacing, options=options).tissue_field
    assert np.allclose(found, clean, atol=1e-2 * np.abs(clean).max())


def test_history_falls_to_the_tolerance_and_the_cap_is_reported(make_head):
    head, seen = make_head(24.0), []
    ended = run(head.background + head.tissue, head).convergence
    assert ended.converged and ended.history[-1] <= IharperellaOptions().tolerance
    assert all(later <= earlier for earlier, later in zip(ended.history, ended.history[1:], strict=False))
    options = IharperellaOptions(max_iterations=3)
    capped = run(head.background, head, options=options, progress=lambda *step: seen.append(step)).convergence
    assert capped.iterations == 3 and not capped.converged
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((9, 9, 9), np.float32), np.ones((9, 9, 9), bool)
    size = {"scan": Scan((1.0, 1.0, 1.0))}
    with pytest.raises(ValueError, match="mask is empty"):
        iharperella(field, ~mask, **size)
    with pytest.raises(ValueError, match="too thin"):
        iharperella(field, mask, **size, options=IharperellaOptions(peel_mm=4))
    with pytest.raises(ValueError, match="not finite"):
        iharperella(np.full((9, 9, 9), np.nan), mask, **size)
    with pytest.raises(ValueError, match="echo spacing"):
        iharperella(field, mask, **size, echo_spacing_s=-1.0)
    with pytest.raises(ValueError, match="tolerance"):
        iharperella(field, mask, **size, options=IharperellaOptions(tolerance=-1))
