"""FANSI: its cost, its data terms, its harmonic field."""

from dataclasses import replace

import numpy as np
import pytest

from qsmprep.inversion.edges import WEIGHT_KINDS, gradient_weights
from qsmprep.inversion.fansi import FansiOptions, fansi, units_of
from qsmprep.inversion.inputs import Measurement, radians_per_ppm
from qsmprep.inversion.phase_input import phase_input
from qsmprep.inversion.tkd import TkdOptions, tkd
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient, gradient_adjoint
from qsmprep.numerics.spectral import solve_field_and_gradient, solve_gradient_and_known, solve_with_harmonic, spectra
from qsmprep.scan import Scan


def test_phase_scale_is_one_echo_spacing_or_the_echo_time():
    assert radians_per_ppm(Scan((1, 1, 1), (0, 0, 1), (0.004, 0.010, 0.016), 100.0)) == pytest.approx(2 * np.pi * 0.6)
    assert radians_per_ppm(Scan((1, 1, 1), (0, 0, 1), (0.004,), 100.0)) == pytest.approx(2 * np.pi * 0.4)


@pytest.mark.parametrize("b", [(0, 0, 1), (0.3, -0.2, 0.9)])
def test_spectral_solves_are_stationary(b):
    shape, h = (12, 15, 10), (1.0, 1.5, 2.0)
    random = np.random.default_rng(5)
    grid = spectra(shape, h, b, kernel="continuous")
    z, d, q = random.standard_normal((3, *shape)), random.standard_normal(shape), random.standard_normal(shape)
    z, d, q = z.astype(np.float32), d.astype(np.float32), q.astype(np.float32)
    divergence = gradient_adjoint(z, h)

    def dipole(x):
        return irfftn(rfftn(x) * grid.dipole, shape)

    def laplacian(x):
        return gradient_adjoint(gradient(x, h), h)

    x, forward = (irfftn(s, shape) for s in solve_field_and_gradient(rfftn(divergence), rfftn(d), grid, 0.3, 0.7))
    np.testing.assert_allclose(forward, dipole(x), atol=1e-5)
    slope = 0.3 * gradient_adjoint(gradient(x, h) - z, h) + 0.7 * dipole(dipole(x) - d)
    assert np.abs(slope).max() < 1e-5

    solved = solve_with_harmonic(rfftn(divergence), rfftn(d), rfftn(q), grid, 0.3, 0.7, 2.0)
    x, forward, bent = (irfftn(s, shape) for s in solved)
    p = forward - dipole(x)
    np.testing.assert_allclose(bent, laplacian(p), atol=1e-4)
    slopes = (
        0.3 * gradient_adjoint(gradient(x, h) - z, h) + 0.7 * dipole(forward - d),
        0.7 * (forward - d) + 2.0 * laplacian(bent - q),
    )
    assert max(np.abs(s).max() for s in slopes) < 2e-4

    trusted = np.abs(grid.dipole) > 0.2
    known = rfftn(d) * trusted
    x = irfftn(solve_gradient_and_known(rfftn(divergence), known.copy(), trusted, grid, 0.4, 0.6), shape)
    misfit = irfftn(trusted * (rfftn(x) - known), shape)
    assert np.abs(0.4 * misfit + 0.6 * gradient_adjoint(gradient(x, h) - z, h)).max() < 1e-5


def test_linear_and_nonlinear_agree_for_small_phase(head):
    maps = [
        fansi(0.1 * head.field, head.mask, magnitude_rss=head.magnitude, scan=head.scan,
              options=FansiOptions(nonlinear=nonlinear, alpha1=5e-5)).chi_ppm
        for nonlinear in (True, False)
    ]  # fmt: skip
    assert np.linalg.norm(maps[0] - maps[1]) < 0.01 * np.linalg.norm(maps[1])


def test_nonlinear_data_term_is_blind_to_phase_wraps(head):
    turn = 2 * np.pi / radians_per_ppm(head.scan, "last-echo")
    wrapped = head.field.copy()
    wrapped[18:26, 28:34, 20:24] += turn
    inputs = dict(magnitude_rss=head.magnitude, scan=head.scan)
    expected = fansi(head.field, head.mask, **inputs).chi_ppm
    calls = []
    result = fansi(wrapped, head.mask, **inputs, progress=lambda *done: calls.append(done))
    withstood = result.chi_ppm
    assert result.convergence.iterations == len(calls) == calls[-1][0]  # of both starts
    linear = fansi(wrapped, head.mask, **inputs, options=FansiOptions(nonlinear=False)).chi_ppm
    assert np.linalg.norm(withstood - expected) < 0.02 * np.linalg.norm(expected)
    assert np.linalg.norm(linear - expected) > np.linalg.norm(expected)


def test_a_source_of_several_turns_comes_back():
    shape = (48, 44, 40)
    r = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"), -1)
    mask = ((r / (20, 18, 16)) ** 2).sum(-1) < 1
    chi = np.where((r**2).sum(-1) < 16, -3.3, 0.0).astype(np.float32)
    field = irfftn(rfftn(chi) * dipole_kernel(shape, (1, 1, 1)), shape) * mask
    scan = Scan((1, 1, 1), echo_times_s=(0.004, 0.008, 0.012), centre_frequency_mhz=298.0)
    assert np.ptp(field * radians_per_ppm(scan)) > 4 * np.pi
    result = fansi(field, mask, scan=scan, options=FansiOptions(kernel="continuous"))
    found = result.chi_ppm - result.chi_ppm[mask & (chi == 0)].mean()
    assert found[chi < 0].mean() == pytest.approx(-3.3, rel=0.05)


def test_weak_harmonic_absorbs_a_remnant_of_the_background(head):
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in head.field.shape), indexing="ij")
    remnant = (2e-3 * x + 1e-4 * (x * x - y * y) + 5e-5 * (2 * z * z - x * x - y * y)).astype(np.float32)
    field = (head.field + remnant) * head.mask
    inputs = dict(magnitude_rss=head.magnitude, scan=head.scan)
    clean = fansi(head.field, head.mask, **inputs)
    absorbed = fansi(field, head.mask, **inputs)
    spoiled = fansi(field, head.mask, **inputs, options=FansiOptions(weak_harmonic=False))
    assert head.error(absorbed.chi_ppm) < head.error(clean.chi_ppm) + 5
    assert head.error(absorbed.chi_ppm) < 0.5 * head.error(spoiled.chi_ppm)


def test_noise_free_piecewise_constant_sources_come_back():
    shape = (64, 60, 54)
    r = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"), -1)
    mask = ((r / (26, 24, 22)) ** 2).sum(-1) < 1
    chi = np.zeros(shape, np.float32)
    for value, radius, centre in (
        (0.1, 5, (9, 3, 0)),
        (-0.05, 7, (-8, -4, 3)),
        (0.2, 3, (0, 10, -8)),
        (0.15, 4, (0, -9, -9)),
    ):
        chi[((r - centre) ** 2).sum(-1) < radius**2] = value
    field = irfftn(rfftn(chi) * dipole_kernel(shape, (1, 1, 1)), shape) * mask
    scan = Scan((1, 1, 1), echo_times_s=0.02, centre_frequency_mhz=127.7)

    def error(x):
        return 100 * np.linalg.norm((x - chi - (x - chi)[mask].mean())[mask]) / np.linalg.norm(chi)

    for alpha in (1e-5, 1e-3):
        options = FansiOptions(
            alpha1=alpha,
            mu1=100 * alpha,
            weak_harmonic=False,
            regularisation_weights="none",
            padding=0,
            kernel="continuous",
        )
        result = fansi(field, mask, scan=scan, options=options)
        assert error(result.chi_ppm) < 7
    division = tkd(field, mask, scan=scan, options=TkdOptions(correct=False, padding=0))
    assert 18 < error(division.chi_ppm) < 40


@pytest.mark.parametrize("kind", WEIGHT_KINDS[1:])
def test_gradient_weights_are_low_on_edges_and_one_at_the_rim(head, kind):
    weights = gradient_weights(head.magnitude, head.mask, (1, 1, 1), kind)
    assert weights.shape == (3, *head.mask.shape) and weights.dtype == np.float32
    edges = np.abs(gradient(head.chi, (1, 1, 1))) > 0.05
    between = np.stack([head.mask & np.roll(head.mask, -1, axis) for axis in range(3)])
    assert np.median(weights[edges & between]) < 0.5 * np.median(weights[~edges & between])
    assert np.all(weights[~between] == 1)
    assert np.mean(1 / weights[between]) == pytest.approx(1, abs=1e-3)


def test_image_without_contrast_gives_even_weights():
    mask = np.ones((5, 6, 7), bool)
    np.testing.assert_array_equal(gradient_weights(np.ones(mask.shape), mask, (1, 1, 1), "vector-field"), 1)


def test_the_scale_is_the_time_over_which_the_phase_is_counted(head):
    times = head.scan.echo_times_s
    alone = replace(head.scan, echo_times_s=times[-1:])
    inputs = dict(magnitude_rss=head.magnitude)
    last = fansi(head.field, head.mask, scan=head.scan, **inputs).chi_ppm
    spacing = fansi(head.field, head.mask, scan=alone, **inputs, options=FansiOptions(scale="echo-spacing")).chi_ppm
    np.testing.assert_array_equal(last, spacing)
    ratio = times[-1] / (times[1] - times[0])
    stronger = fansi(head.field, head.mask, scan=head.scan, **inputs, options=FansiOptions(scale="echo-spacing"))
    assert ratio > 2
    assert np.abs(gradient(stronger.chi_ppm, (1, 1, 1))).sum() < 0.98 * np.abs(gradient(last, (1, 1, 1))).sum()


def test_gradients_per_voxel_do_not_know_the_size_of_a_voxel(head):
    inputs = dict(magnitude_rss=head.magnitude, options=FansiOptions(gradient_per="voxel"))
    large = replace(head.scan, voxel_size_mm=(2.0, 2.0, 2.0))
    small = replace(head.scan, voxel_size_mm=(1.0, 1.0, 1.0))
    chi = [fansi(head.field, head.mask, scan=scan, **inputs).chi_ppm for scan in (large, small)]
    np.testing.assert_allclose(*chi, atol=1e-5)


def test_weights_and_edges_as_in_sepia(head):
    weights = head.magnitude / np.median(head.magnitude[head.mask])
    weights[tuple(np.argwhere(head.mask)[0])] = 5 * weights.max()
    options = FansiOptions(regularisation_image="weights", regularisation_mean="volume", weights_top="maximum")
    measured = Measurement(head.field, head.mask, head.scan, weights=weights, magnitude_rss=np.ones_like(weights))
    given = phase_input(measured, options, "cpu", edges="vector-field", units=units_of(options))
    masked = np.where(head.mask, weights, 0).astype(np.float32)
    assert given.weights.max() == 1
    np.testing.assert_allclose(given.work.frame.restore(given.weights), masked / masked.max(), rtol=1e-6)
    steps = np.maximum(np.abs(gradient(masked, head.scan.voxel_size_mm)), 1e-3 * masked.max())
    expected = steps.mean() / steps[0]
    found = given.work.frame.restore(given.ratios[0])
    np.testing.assert_allclose(found[head.mask], expected[head.mask], rtol=1e-5)
