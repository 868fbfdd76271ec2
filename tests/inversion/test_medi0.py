"""MEDI+0: its term, that it minimises its cost, and what it does without fluid."""

import sys

import numpy as np
import pytest

from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.inversion.medi import MediOptions, medi
from qsmprep.inversion.medi0 import Medi0Options, UniformRegion, medi0
from qsmprep.masking.ventricles import csf_mask
from qsmprep.numerics.admm import Penalties, PhaseProblem
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient, laplacian_spectrum
from qsmprep.numerics.spectral import solve_field_and_gradient, spectra

EXACT = dict(smv_radius=0.0, merit=False)


@pytest.fixture(scope="module")
def r2star(head):
    """R2* with fluid in a ball of 3.5 mm near the centre."""
    axes = np.ogrid[tuple(slice(n) for n in head.mask.shape)]
    ball = sum((x - n // 2 - c) ** 2 for x, n, c in zip(axes, head.mask.shape, (0, -2, -3), strict=True)) < 3.5**2
    return np.where(head.mask, np.where(ball, 2, 18), 0).astype(np.float32)


@pytest.fixture(scope="module")
def shaded(head):
    """The field with a remnant that no susceptibility makes, which shades the map."""
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in head.field.shape), indexing="ij")
    return (head.field + 0.02 * np.cos(x / 3 + y / 4) * np.cos(z / 3) * head.mask).astype(np.float32)


def test_fluid_comes_out_uniform(head, r2star, shaded):
    inputs = dict(field_ppm=shaded, mask=head.mask, magnitude_rss=head.magnitude, scan=head.scan)
    plain = medi(**inputs, options=MediOptions(**EXACT))
    held = medi0(**inputs, r2star=r2star, options=Medi0Options(**EXACT))
    fluid = csf_mask(r2star, head.mask, voxel_size_mm=head.voxel_size_mm)
    assert held.warnings == () and held.chi_ppm[fluid].std() < 0.5 * plain.chi_ppm[fluid].std()
    assert held.convergence.converged
    assert head.error(held.chi_ppm) < 1.05 * head.error(plain.chi_ppm)


def test_without_fluid_it_is_medi_with_a_warning(head, r2star):
    inputs = dict(field_ppm=head.field, mask=head.mask, magnitude_rss=head.magnitude, scan=head.scan)
    options = dict(smv_radius=2.0, max_iterations=25)
    plain = medi(**inputs, options=MediOptions(**options)).chi_ppm
    for rates, words in ((None, "had no R2"), (0 * r2star + 18, "only 0 voxels")):
        result = medi0(**inputs, r2star=rates, options=Medi0Options(**options))
        assert np.array_equal(result.chi_ppm, plain)
        assert len(result.warnings) == 1 and words in result.warnings[0].text
    weightless = medi0(**inputs, r2star=r2star, options=Medi0Options(**options, csf_weight=0.0))
    assert np.array_equal(weightless.chi_ppm, plain) and weightless.warnings == ()


def test_corrected_solve_equals_the_dense_one(monkeypatch):
    monkeypatch.setattr(sys.modules["qsmprep.inversion.medi0"], "PULL_TOLERANCE", 1e-6)
    shape, h, stiffness, mu_gradient, mu_data = (6, 5, 4), (1.0, 1.2, 2.0), 0.7, 0.4, 0.3
    random = np.random.default_rng(3)
    divergence, data = random.standard_normal((2, *shape)).astype(np.float32)
    divergence -= divergence.mean()
    region = np.zeros(shape, bool)
    region[1:4, 1:4, 1:3] = True
    grid = spectra(shape, h, (0.2, 0.1, 0.97), kernel="continuous")
    problem = PhaseProblem(data, data, None, None, grid, h)
    uniform = UniformRegion(region, stiffness, problem, Penalties(mu_gradient=mu_gradient, mu_data=mu_data))
    for _ in range(12):  # each call goes on from the pull of the last
        known = solve_field_and_gradient(rfftn(divergence), rfftn(data), grid, mu_gradient, mu_data)
        x, forward = (irfftn(spectrum, shape) for spectrum in uniform(*known))

    def matrix(filtered):
        return np.stack([irfftn(rfftn(e.reshape(shape)) * filtered, shape).ravel() for e in np.eye(120)], axis=1)

    dipole = matrix(dipole_kernel(shape, h, (0.2, 0.1, 0.97)))
    deviation = np.diag(region.ravel().astype(float)) - np.outer(region, region) / region.sum()
    normal = mu_gradient * matrix(laplacian_spectrum(shape, h)) + mu_data * dipole.T @ dipole + stiffness * deviation
    right = mu_gradient * divergence.ravel() + mu_data * dipole.T @ data.ravel()
    expected = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
    np.testing.assert_allclose(x.ravel(), expected - expected.mean(), atol=2e-4)
    np.testing.assert_allclose(forward.ravel(), dipole @ expected, atol=2e-4)


def test_result_minimises_the_published_cost(head, r2star, shaded):
    options = Medi0Options(**EXACT, tolerance=5e-3, max_iterations=600, padding=0, csf_weight=1000.0)
    box = np.s_[6:38, 8:44, 6:38]
    full = np.ones_like(head.mask[box])
    field, magnitude, rates = shaded[box], head.magnitude[box], r2star[box]
    scale = radians_per_ppm(head.scan)
    found = medi0(field, full, magnitude_rss=magnitude, weights=full, r2star=rates, options=options, scan=head.scan)
    x = found.chi_ppm * scale
    fluid = csf_mask(rates, full, voxel_size_mm=head.voxel_size_mm)
    dipole = dipole_kernel(full.shape, (1, 1, 1), kind=options.kernel)
    penalised = edge_mask(magnitude, full, (1, 1, 1), 0.9)

    def cost(image):
        misfit = 2 - 2 * np.cos((irfftn(rfftn(image) * dipole, full.shape) - field * scale).astype(float))
        variation = np.abs(penalised * gradient(image, (1, 1, 1))).sum(dtype=float)
        return 2000 * misfit.sum() + variation + 1000 * fluid.sum() * image[fluid].astype(float).var()

    assert fluid.sum() > 100 and found.warnings == ()
    random = np.random.default_rng(6)
    bump = np.where(fluid, random.standard_normal(x.shape), 0).astype(np.float32)
    for direction in (x, fluid.astype(np.float32), bump, random.standard_normal(x.shape).astype(np.float32)):
        for step in (-0.01, 0.01):
            assert cost(x) < cost(x + np.float32(step) * direction) * (1 + 1e-5)


def test_torch_gives_the_same_map(head, r2star):
    torch = pytest.importorskip("torch")
    inputs = dict(field_ppm=head.field, mask=head.mask, magnitude_rss=head.magnitude, scan=head.scan,
                  r2star=r2star, options=Medi0Options(smv_radius=2.0, max_iterations=25))  # fmt: skip
    expected = medi0(**inputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = medi0(**inputs, device="torch:cpu")
    finally:
        torch.set_num_threads(threads)
    assert expected.warnings == ()
    assert np.linalg.norm(result.chi_ppm - expected.chi_ppm) < 1e-4 * np.linalg.norm(expected.chi_ppm)


def test_wrong_options_and_shapes_are_refused(head, r2star):
    inputs = dict(field_ppm=head.field, mask=head.mask, scan=head.scan)
    with pytest.raises(ValueError, match="csf_weight"):
        medi0(**inputs, r2star=r2star, options=Medi0Options(csf_weight=-1.0))
    with pytest.raises(ValueError, match="one shape"):
        medi0(**inputs, r2star=r2star[1:], options=Medi0Options(smv_radius=0.0))
