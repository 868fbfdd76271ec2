"""Total field inversion: its operator, its optimum, and what it makes of sources outside the brain."""

from dataclasses import replace

import numpy as np
import pytest

from qsmprep.background.pdf import pdf
from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.inversion.medi import MediOptions, medi
from qsmprep.inversion.tfi import TfiOptions, TotalField, interior_gradients, tfi
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.shim import harmonic_shim
from qsmprep.numerics.threads import use_threads
from qsmprep.phantom.forward import DipoleField
from qsmprep.scan import Scan

OPTIONS = TfiOptions(padding_mm=10.0, max_iterations=120)


def outside_field(shape, voxel_size_mm=(1, 1, 1), b0_direction=(0, 0, 1)):
    """Field in ppm of air and bone around the small head, and of a shim."""
    r = np.stack(np.meshgrid(*((np.arange(n) - n // 2) * h for n, h in zip(shape, voxel_size_mm, strict=True)),
                             indexing="ij"), -1)  # fmt: skip
    sources = 8.0 * (((r - (3, 25, -20)) / (4, 3, 3)) ** 2).sum(-1).__lt__(1)
    sources += -2.0 * ((((r / (20, 24.5, 20)) ** 2).sum(-1) > 1) & (((r / (22, 26, 22)) ** 2).sum(-1) < 1))
    x, y, z = np.moveaxis(r, -1, 0)
    shim = 0.1 + 0.01 * x - 0.02 * z + 3e-4 * (x * x - y * y) + 2e-4 * y * z
    return (DipoleField(shape, Scan(voxel_size_mm, b0_direction))(sources) + shim).astype(np.float32)


@pytest.fixture(scope="module")
def total(head):
    return ((head.field + outside_field(head.mask.shape)) * head.mask).astype(np.float32)


def run(head, total, options=OPTIONS, **changes):
    given = dict(total_field_ppm=total, total_mask=head.mask, magnitude_rss=head.magnitude, scan=head.scan)
    return tfi(**given | changes, options=options)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_operator_is_adjoint(kind):
    shape = (12, 9, 10)
    random = np.random.default_rng(1)
    x, y, weight = random.standard_normal((3, *shape)).astype(np.float32)
    mask = random.random(shape) > 0.6
    arrays = [dipole_kernel(shape, (1, 1, 2), (0.3, 0.1, 0.9), kind="discrete"), weight * mask, mask, x, y]
    if kind == "torch":
        torch = pytest.importorskip("torch")
        arrays = [torch.as_tensor(array) for array in arrays]
    *parts, x, y = arrays
    operator = TotalField(*parts, 30.0)
    forward, back = np.asarray(operator.forward(x)), np.asarray(operator.adjoint(y))
    assert forward.dtype == back.dtype == np.float32
    assert np.vdot(forward, np.asarray(y)) == pytest.approx(np.vdot(np.asarray(x), back), rel=1e-4)


def test_shim_is_found_exactly_and_changes_nothing(head, total):
    x, y, z = (h * (np.arange(n) - 5.0) for n, h in zip((14, 12, 9), (1, 2, 1.5), strict=True))
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    field = (0.3 - 0.1 * x + 0.02 * y * z + 0.01 * (2 * z**2 - x**2 - y**2)).astype(np.float32)
    weight = np.random.default_rng(2).random(field.shape) * (x**2 + y**2 + z**2 < 40)
    np.testing.assert_allclose(harmonic_shim(field, weight, (1, 2, 1.5)), field, atol=1e-4)
    assert not harmonic_shim(field, 0 * weight, (1, 2, 1.5)).any()
    x, y, _ = np.meshgrid(*(np.arange(n) - n / 2 for n in head.mask.shape), indexing="ij")
    shimmed = (total + (0.2 + 0.01 * y - 4e-4 * (x * x - y * y)) * head.mask).astype(np.float32)
    first, second = (run(head, field).chi_ppm for field in (total, shimmed))
    assert np.linalg.norm(first - second) < 0.02 * np.linalg.norm(first)


def test_sources_outside_leave_no_susceptibility_inside(head):
    background = outside_field(head.mask.shape) * head.mask
    result = run(head, background)
    assert background[head.mask].std() > 0.1
    assert result.chi_ppm[head.mask].std() < 0.1 * head.chi[head.mask].std()


def test_whole_mask_is_mapped_more_accurately_than_after_background_removal(head, total):
    result = run(head, total)
    tissue = pdf(total, head.mask, scan=head.scan).tissue_field
    two_steps = medi(tissue, head.mask, magnitude_rss=head.magnitude, scan=head.scan,
                     options=MediOptions(smv_radius=0.0))  # fmt: skip
    assert np.array_equal(result.mask, head.mask) and result.convergence.converged
    assert head.error(result.chi_ppm) < 0.8 * head.error(two_steps.chi_ppm)
    assert 0.85 < head.slope(result.chi_ppm) < 1.1


def test_result_is_as_good_as_an_independent_optimum():
    from scipy.optimize import minimize

    shape, box = (8, 8, 8), np.s_[:6, :6, :6]
    random = np.random.default_rng(4)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    mask = sum((x - 2.5) ** 2 for x in axes) < 3.2**2
    truth = np.where(mask, 0.2 * (axes[0] > 2), 1.0 * (axes[1] > 6))
    scan = Scan((1, 1, 1), echo_times_s=(0.005, 0.011, 0.017), centre_frequency_mhz=127.7)
    scale, dipole = radians_per_ppm(scan), dipole_kernel(shape, (1, 1, 1), kind="discrete").astype(float)

    def convolved(x):
        return np.fft.irfftn(np.fft.rfftn(x) * dipole, shape, axes=(0, 1, 2))

    field = convolved(truth) + 1e-3 * random.standard_normal(shape)
    # No constant and no gradient: the shim fit takes nothing off that sources would have to explain.
    field = np.where(mask, field - harmonic_shim(field, mask, (1, 1, 1)), 0)
    lam = 2000.0
    options = TfiOptions(data_weight=lam, padding_mm=2.0, tolerance=1e-4, max_iterations=1500, merit=False,
                         start_tolerance=1e-5, adapt_to_noise=False)  # fmt: skip
    with use_threads(1):
        chi = tfi(field[box], mask[box], scan=scan, options=options)
    found = np.zeros(shape)
    found[box] = chi.chi_ppm * scale
    penalised = interior_gradients(mask)
    epsilon = 1e-5

    def cost(flat, free):
        """Cost and its slope for the voxels `free`; the others hold what was found."""
        x = found.copy()
        x[free] = flat
        miss = np.where(mask, convolved(x) - field * scale, 0)
        steps = np.where(penalised, np.stack([np.roll(x, -1, axis) - x for axis in range(3)]), 0)
        size = np.sqrt(steps**2 + epsilon**2)
        pull = steps / size
        back = sum(np.roll(pull[axis], 1, axis) - pull[axis] for axis in range(3))
        slope = 2 * lam * convolved(np.sin(miss)) + back
        return lam * (2 - 2 * np.cos(miss)).sum() + (size - epsilon).sum(), slope[free]

    def optimum(free, start):
        settings = {"maxiter": 1500, "maxfun": 3000, "ftol": 1e-13, "gtol": 1e-9}
        return minimize(cost, start[free], args=(free,), jac=True, method="L-BFGS-B", options=settings)

    everything, outside = np.ones(shape, bool), ~mask
    independent = optimum(everything, truth * scale)
    ours = optimum(outside, truth * scale)  # the best sources outside for the map that was returned
    assert ours.fun < 1.01 * independent.fun
    other = independent.x.reshape(shape)[mask]
    assert np.corrcoef(found[mask], other)[0, 1] > 0.95


def test_progress_is_counted_and_threads_do_not_matter(head, total):
    calls = []
    options = replace(OPTIONS, max_iterations=12, start_iterations=6, tolerance=0.0)
    result = run(head, total, options, progress=lambda done, cap: calls.append((done, cap)))
    assert calls == [(n, 18) for n in range(1, 19)] and result.convergence.iterations == 18
    assert not result.convergence.converged and len(result.convergence.history) == 12
    with use_threads(1):
        assert np.array_equal(run(head, total, options).chi_ppm, result.chi_ppm)


def test_torch_gives_the_same_map(head, total):
    torch = pytest.importorskip("torch")
    options = replace(OPTIONS, max_iterations=12, start_iterations=6)
    expected = run(head, total, options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = run(head, total, options, device="torch:cpu")
    finally:
        torch.set_num_threads(threads)
    assert np.linalg.norm(result.chi_ppm - expected.chi_ppm) < 1e-3 * np.linalg.norm(expected.chi_ppm)


def test_order_of_the_axes_does_not_matter(head_factory):
    head = head_factory((40, 49, 30), (1.0, 1.0, 1.5), (0.2, -0.3, 0.93))
    total = (head.field + outside_field(head.mask.shape, head.voxel_size_mm, head.b0_direction)) * head.mask
    options = replace(OPTIONS, max_iterations=30, start_iterations=15)
    expected = run(head, total, options).chi_ppm
    order = (2, 0, 1)
    turned = run(head, total.transpose(order), options, total_mask=head.mask.transpose(order),
                 magnitude_rss=head.magnitude.transpose(order), scan=head.turned_scan(order)).chi_ppm  # fmt: skip
    np.testing.assert_allclose(turned.transpose(np.argsort(order)), expected, atol=2e-5)


def test_unreliable_voxels_do_not_count_and_gaps_do_not_spread(head, total):
    residual = np.zeros(total.shape, np.float32)
    residual[15:18, 25:28, 20:23] = 0.9
    spoiled = total + 0.4 * (residual > 0.3)
    options = replace(OPTIONS, merit=False)
    plain, excluded = (run(head, spoiled, options, relative_residual=rho) for rho in (None, residual))
    assert head.error(excluded.chi_ppm) < 0.7 * head.error(plain.chi_ppm)
    spoiled[16, 26, 21] = np.nan
    assert np.all(np.isfinite(run(head, spoiled, replace(options, max_iterations=5)).chi_ppm))


def test_wrong_input_is_refused(head, total):
    with pytest.raises(ValueError, match="20 ppm"):
        run(head, total * 127.7)
    with pytest.raises(ValueError, match="mask is empty"):
        run(head, total, total_mask=head.mask & False)
    with pytest.raises(ValueError, match="not be negative"):
        run(head, total, weights=-head.magnitude)
    with pytest.raises(ValueError, match="data_weight"):
        run(head, total, TfiOptions(data_weight=-1.0))


def test_strong_source_whose_phase_exceeds_pi_is_found(head, total):
    source = np.zeros(head.mask.shape, bool)
    source[20:24, 14:18, 18:22] = True
    strong = total + head.mask * DipoleField(head.mask.shape, head.scan)(-3.0 * source)
    assert np.abs(strong - total).max() * radians_per_ppm(head.scan) > np.pi
    result = run(head, strong.astype(np.float32), replace(OPTIONS, max_iterations=200))
    around = head.mask & ~source
    assert result.convergence.converged
    assert result.chi_ppm[source].mean() - result.chi_ppm[around].mean() == pytest.approx(-3.0, rel=0.15)
