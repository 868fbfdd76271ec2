"""PDF explains outer sources away, in any geometry, and keeps most of the field of sources inside."""

import numpy as np
import pytest

from qsmprep.background.pdf import ExteriorDipoles, PdfOptions, pdf
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.shim import harmonic_shim
from qsmprep.scan import Scan

OBLIQUE = (0.3, -0.2, 0.933)
GEOMETRIES = [(24.0,), (24.0, (1.0, 1.2, 2.0), OBLIQUE)]


def run(field, head, **rest):
    return pdf(field, head.mask, scan=head.scan, **rest)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_field_of_outer_sources_is_removed(make_head, geometry):
    head = make_head(*geometry)
    result = run(head.background, head)
    assert result.convergence.converged
    assert np.array_equal(result.mask, head.mask)
    assert result.tissue_field[head.mask].std() < 5e-3 * head.background[head.mask].std()
    assert (result.tissue_field[~head.mask] == 0).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_field_of_inner_sources_survives_under_a_background_ten_times_stronger(make_head, geometry):
    head = make_head(*geometry)
    found = run(head.background + head.tissue, head).tissue_field[head.mask]
    truth = head.tissue[head.mask]
    # What is lost of a tissue field is its own part that outer sources could have made: a fifth in a 48 mm sphere.
    assert rms(found - truth) < 0.25 * rms(truth)
    assert np.dot(found, truth) / np.dot(truth, truth) > 0.9


def test_harmonic_polynomials_vanish(make_head, harmonic_polynomials):
    head = make_head(24.0, (1.0, 1.2, 2.0), OBLIQUE)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    for name in ("1", "2z2-x2-y2", "xyz", "x3-3xy2"):
        field = terms[name]
        result = run(field, head)
        assert rms(result.tissue_field[head.mask]) < 1e-2 * rms(field[head.mask]), name


def test_history_falls_to_the_tolerance_and_the_cap_is_reported(make_head):
    head = make_head(24.0)
    loose = run(head.background, head, options=PdfOptions(tolerance=1e-2))
    assert loose.convergence.converged and loose.convergence.history[-1] <= 1e-2
    assert len(loose.convergence.history) == loose.convergence.iterations
    seen = []
    capped = run(head.background, head, options=PdfOptions(max_iterations=3), progress=lambda *step: seen.append(step))
    assert capped.convergence.iterations == 3 and not capped.convergence.converged
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_noisy_voxels_weigh_less(make_head):
    head = make_head(24.0)
    rng = np.random.default_rng(0)
    spoilt = rng.random(head.mask.shape) < 0.05
    error = np.where(spoilt, 0.5 * rng.standard_normal(head.mask.shape), 0).astype(np.float32)
    noise = np.where(spoilt, 0.5, 0.005).astype(np.float32)
    good = head.mask & ~spoilt
    errors = [rms((run(head.background + error, head, **given).tissue_field)[good]) for given in ({}, {"noise": noise})]
    assert errors[1] < 0.25 * errors[0]


def test_voxels_without_a_usable_noise_are_ignored(make_head):
    head = make_head(24.0)
    noise = np.ones(head.mask.shape, np.float32)
    middle = tuple(n // 2 for n in noise.shape)
    for offset, value in enumerate((0, -1, np.nan, np.inf)):
        noise[middle[0] + offset, middle[1], middle[2]] = value
    field = head.background.copy()
    field[middle] += 100
    result = run(field, head, noise=noise)
    field[middle] -= 100
    result.tissue_field[middle] -= 100
    assert np.allclose(result.tissue_field, run(field, head, noise=noise).tissue_field, atol=1e-5)


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("shape", [(12, 14, 16), (11, 13, 15)])
def test_adjoint_of_the_fit(kind, shape):
    rng = np.random.default_rng(0)
    inside = np.zeros(shape)
    inside[3:8, 4:9, 3:9] = 1
    kernel = dipole_kernel(shape, (1, 1.2, 2), OBLIQUE, kind=kind).astype(np.float64)
    fit = ExteriorDipoles(kernel, inside * rng.random(shape), 1 - inside)
    x, y = rng.standard_normal(shape), rng.standard_normal(shape)
    assert np.vdot(fit.forward(x), y) == pytest.approx(np.vdot(x, fit.adjoint(y)), rel=1e-10, abs=1e-10)


def test_shim_field_finds_harmonic_polynomials(harmonic_polynomials):
    shape, voxel = (15, 18, 21), (1.0, 1.5, 2.0)
    weight = (np.random.default_rng(0).random(shape) > 0.5).astype(np.float32)
    for name, field in harmonic_polynomials(shape, voxel).items():
        if name not in ("xyz", "x3-3xy2"):
            assert np.allclose(harmonic_shim(field, weight, voxel), field, atol=1e-5), name


def test_shim_terms_change_neither_result_nor_effort(make_head, harmonic_polynomials):
    head = make_head(24.0)
    terms = harmonic_polynomials(head.mask.shape, head.voxel_size_mm)
    field = head.background + head.tissue
    plain, shimmed = run(field, head), run(field + 5 * terms["x"] - 3 * terms["1"] + 2 * terms["xy"], head)
    assert rms(shimmed.tissue_field - plain.tissue_field) < 0.02 * rms(plain.tissue_field)
    assert abs(shimmed.convergence.iterations - plain.convergence.iterations) <= 3


def test_unit_of_the_input_is_the_unit_of_the_output(make_head):
    head = make_head(24.0)
    field = head.background + head.tissue
    ppm, hz = run(field, head).tissue_field, run(128 * field, head).tissue_field
    assert np.allclose(hz, 128 * ppm, atol=1e-3 * np.abs(hz).max())


def test_a_mask_that_fills_the_volume_still_finds_room_for_sources():
    field = np.random.default_rng(0).standard_normal((12, 13, 14)).astype(np.float32)
    result = pdf(field, np.ones(field.shape, bool), scan=Scan((1, 1, 1), (0, 0, 1)))
    assert np.isfinite(result.tissue_field).all()


def test_what_cannot_work_is_said_clearly():
    field, mask = np.zeros((8, 8, 8), np.float32), np.ones((8, 8, 8), bool)
    given = {"scan": Scan((1, 1, 1), (0, 0, 1))}
    with pytest.raises(ValueError, match="mask is empty"):
        pdf(field, ~mask, **given)
    with pytest.raises(ValueError, match="one shape"):
        pdf(field, mask, noise=np.ones((8, 8, 7)), **given)
    with pytest.raises(ValueError, match="no positive, finite"):
        pdf(field, mask, noise=field, **given)
    with pytest.raises(ValueError, match="not finite"):
        pdf(np.full((8, 8, 8), np.inf), mask, **given)
    with pytest.raises(ValueError, match="direction"):
        pdf(field, mask, scan=Scan((1, 1, 1), (0, 0, 0)))
