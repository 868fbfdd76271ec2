import numpy as np
import pytest

from qsmprep.field.linear import linear_field
from qsmprep.field.nonlinear import NonlinearFieldOptions, increment_to_field, nonlinear_field
from qsmprep.field.weighted import WeightedFieldOptions, weighted_field
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

EQUAL = np.array([0.005, 0.011, 0.017, 0.023, 0.029])
UNEQUAL = np.array([0.004, 0.009, 0.016, 0.021])
SHAPE = (24, 25, 26)
WEIGHTINGS = ("phase-snr", "phase-variance", "uniform", "echo-time", "magnitude", "simulated-magnitude")


def at(times):
    """A scan of 1 mm voxels with those echo times."""
    return Scan((1, 1, 1), echo_times_s=times)


def echoes(times, field, *, r2star=25.0, noise=0.0, offset=0.0, amplitude=100.0):
    """Complex signal (n_echo, *field.shape) with Gaussian noise of the given s.d. in each part."""
    t = times.reshape(-1, *(1,) * field.ndim)
    signal = amplitude * np.exp(-r2star * t + 1j * (offset + 2 * np.pi * field * t))
    rng = np.random.default_rng(7)
    return signal + noise * (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))


def unwrapped(signal, times, field, offset=0.0):
    """The phase on the branch of the true field: what a perfect unwrapping gives."""
    true = offset + 2 * np.pi * field * times.reshape(-1, *(1,) * field.ndim)
    return true + np.angle(signal * np.exp(-1j * true))


@pytest.fixture(scope="module")
def field():
    return np.random.default_rng(0).uniform(-150, 150, SHAPE)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weighted_field_is_unbiased_and_its_noise_is_what_repetition_shows(field, weighting):
    sigma = 3.0
    signal = echoes(EQUAL, field, noise=sigma)
    found = weighted_field(
        unwrapped(signal, EQUAL, field),
        scan=at(EQUAL),
        magnitude=np.abs(signal),
        options=WeightedFieldOptions(weighting=weighting),
    )
    error = found.field_hz - field
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
    assert np.sqrt(np.mean(found.noise_hz**2)) * sigma == pytest.approx(error.std(), rel=0.1)


def test_phase_variance_is_the_least_noisy_weighting(field):
    signal = echoes(EQUAL, field, noise=1.0)
    noise = {
        name: weighted_field(
            unwrapped(signal, EQUAL, field),
            scan=at(EQUAL),
            magnitude=np.abs(signal),
            options=WeightedFieldOptions(weighting=name),
        ).noise_hz.mean()
        for name in WEIGHTINGS
    }
    assert min(noise, key=noise.get) == "phase-variance"


def test_one_echo_gives_phase_over_echo_time(field):
    time = np.array([0.02])
    found = weighted_field(2 * np.pi * field[None] * 0.02, scan=at(time), magnitude=np.full((1, *SHAPE), 50.0))
    np.testing.assert_allclose(found.field_hz, field, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.noise_hz, 1 / (50 * 2 * np.pi * 0.02), rtol=1e-5)


def test_phase_without_magnitude(field):
    phase = 2 * np.pi * field * EQUAL.reshape(-1, 1, 1, 1)
    with pytest.raises(ValueError, match="simulated-magnitude"):
        weighted_field(phase, scan=at(EQUAL))
    found = weighted_field(phase, scan=at(EQUAL), options=WeightedFieldOptions(weighting="simulated-magnitude"))
    np.testing.assert_allclose(found.field_hz, field, rtol=1e-5, atol=1e-3)


def test_linear_fit_ignores_a_phase_offset_and_knows_its_noise(field):
    sigma, offset = 2.0, 1.3
    signal = echoes(UNEQUAL, field, noise=sigma, offset=offset)
    found = linear_field(
        unwrapped(signal, UNEQUAL, field, offset), scan=at(UNEQUAL), magnitude=np.abs(signal).astype(np.float32)
    )
    error = found.field_hz - field
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
    assert np.sqrt(np.mean(found.noise_hz**2)) * sigma == pytest.approx(error.std(), rel=0.1)
    with pytest.raises(ValueError, match="two echoes"):
        linear_field(field[None], scan=at([0.005]))


@pytest.mark.parametrize(("times", "strongest"), [(EQUAL, 80), (UNEQUAL, 250), (EQUAL[:2], 80)])
def test_complex_fit_recovers_the_field_in_noise_and_knows_it(times, strongest):
    field = np.random.default_rng(2).uniform(-strongest, strongest, SHAPE)
    sigma = 2.0
    signal = echoes(times, field, noise=sigma, offset=0.8)
    fit = nonlinear_field(np.angle(signal), np.abs(signal), scan=at(times))
    spacing = times[1] - times[0]
    assert fit.convergence.converged
    assert fit.unfinished == 0
    assert np.abs(fit.increment_rad).max() <= np.float32(np.pi)
    true = 2 * np.pi * spacing * field
    error = np.angle(np.exp(1j * (fit.increment_rad - true)))
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
    assert np.sqrt(np.mean(fit.noise_rad**2)) * sigma == pytest.approx(error.std(), rel=0.1)
    found = increment_to_field(true + error, fit)
    assert found.noise_hz.mean() * sigma == pytest.approx((found.field_hz - field).std(), rel=0.1)


@pytest.mark.parametrize("times", [EQUAL, UNEQUAL])
def test_complex_and_linear_fit_agree_without_noise(times):
    field = np.linspace(-70, 70, 8 * 9 * 10).reshape(8, 9, 10)
    signal = echoes(times, field, offset=-0.9)
    fit = nonlinear_field(np.angle(signal), np.abs(signal), scan=at(times))
    complex_field = increment_to_field(fit.increment_rad, fit)
    line = linear_field(unwrapped(signal, times, field, -0.9), scan=at(times), magnitude=np.abs(signal))
    np.testing.assert_allclose(complex_field.field_hz, line.field_hz, atol=1e-3)
    np.testing.assert_allclose(complex_field.noise_hz, line.noise_hz, rtol=1e-4)
    assert complex_field.residual.max() < 1e-9


def test_complex_fit_of_one_echo_is_its_phase(field):
    phase = np.angle(np.exp(2j * np.pi * field * 0.01))[None]
    fit = nonlinear_field(phase, np.full(phase.shape, 20.0), scan=at([0.01]))
    np.testing.assert_allclose(fit.increment_rad, phase[0], atol=1e-6)
    np.testing.assert_allclose(fit.noise_rad, 1 / 20, rtol=1e-6)
    assert fit.spacing_s == 0.01


def test_relative_residual_of_the_complex_fit_is_the_noise_energy(field):
    sigma = 4.0
    signal = echoes(EQUAL, field / 2, noise=sigma, r2star=0)
    fit = nonlinear_field(np.angle(signal), np.abs(signal), scan=at(EQUAL))
    # Only the phase is fitted: of the 5 noisy angles 2 are spent on offset and slope.
    assert fit.residual.mean() == pytest.approx(3 * sigma**2 / (5 * 100**2), rel=0.1)


@pytest.mark.parametrize("method", [weighted_field, linear_field, nonlinear_field])
def test_bad_voxels_stay_out_and_bad_units_are_refused(field, method):
    signal = echoes(EQUAL, field / 3, noise=0.1)
    phase, magnitude = np.angle(signal), np.abs(signal)
    phase[:, 0, 0, 0], magnitude[:, 1, 1, 1], magnitude[:, 2, 2, 2] = np.nan, 0, np.inf
    mask = np.ones(SHAPE, bool)
    mask[-3:] = False

    def run(mask=mask, times=EQUAL, phase=phase, magnitude=magnitude):
        named = (phase, magnitude) if method is nonlinear_field else (phase,)
        extra = {} if method is nonlinear_field else {"magnitude": magnitude}
        found = method(*named, scan=at(times), mask=mask, **extra)
        return (found.increment_rad, found.noise_rad) if method is nonlinear_field else (found.field_hz, found.noise_hz)

    for image in run():
        assert np.isfinite(image).all()
        assert not image[-3:].any()
        assert image[0, 0, 0] == image[1, 1, 1] == image[2, 2, 2] == 0
        assert image.dtype == np.float32
    flipped = run(phase=phase[:, ::-1], magnitude=magnitude[:, ::-1], mask=mask[::-1])
    np.testing.assert_array_equal(flipped[0], run()[0][::-1])
    with pytest.raises(ValueError, match="milliseconds"):
        run(times=EQUAL * 1000)
    with pytest.raises(ValueError, match="ascending"):
        run(times=EQUAL[::-1])
    with pytest.raises(ValueError, match="echo times as its first axis"):
        run(times=EQUAL[:3])
    with pytest.raises(ValueError, match="mask is empty"):
        run(mask=np.zeros(SHAPE, bool))


@pytest.mark.parametrize("method", [weighted_field, nonlinear_field])
def test_same_bits_whatever_the_number_of_threads(field, method):
    signal = echoes(EQUAL, field, noise=20.0)

    def run(threads):
        with use_threads(threads):
            if method is nonlinear_field:
                fit = method(np.angle(signal), np.abs(signal), scan=at(EQUAL))
                return fit.increment_rad, fit.noise_rad, fit.convergence.history
            found = method(np.angle(signal), scan=at(EQUAL), magnitude=np.abs(signal))
            return found.field_hz, found.noise_hz

    for one, two in zip(run(1), run(2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_unit_of_the_magnitude_does_not_matter(field, scale):
    signal = echoes(EQUAL, field / 2, noise=5.0)
    phase, magnitude = np.angle(signal), np.abs(signal)
    fits = [nonlinear_field(phase, m, scan=at(EQUAL)) for m in (magnitude, scale * magnitude)]
    np.testing.assert_allclose(fits[1].increment_rad, fits[0].increment_rad, atol=1e-4)
    np.testing.assert_allclose(fits[1].noise_rad * scale, fits[0].noise_rad, rtol=1e-4)
    means = [weighted_field(phase, scan=at(EQUAL), magnitude=m) for m in (magnitude, scale * magnitude)]
    np.testing.assert_allclose(means[1].field_hz, means[0].field_hz, atol=1e-3)
    np.testing.assert_allclose(means[1].noise_hz * scale, means[0].noise_hz, rtol=1e-4)


def test_options_outside_their_range_are_refused(field):
    with pytest.raises(ValueError, match="weighting"):
        weighted_field(field[None], scan=at([0.01]), options=WeightedFieldOptions(weighting="best"))
    with pytest.raises(ValueError, match="max_iterations"):
        nonlinear_field(field[None], field[None], scan=at([0.01]), options=NonlinearFieldOptions(max_iterations=0))
