"""MCPC-3D-S takes away the phase that is there at echo time zero, and nothing else."""

import numpy as np
import pytest

from qsmprep.phase.mcpc3ds import Mcpc3dsOptions, bipolar_artefact, mcpc3ds, subtract_bipolar
from qsmprep.phase.smoothing import smooth_phase
from qsmprep.scan import Scan

TWO_PI = 2 * np.pi
SHAPE, VOXEL = (45, 50, 41), (2.0, 2.0, 2.5)
TIMES = np.array([0.005, 0.011, 0.017, 0.023])


def wrap(phase):
    return phase - TWO_PI * np.rint(phase / TWO_PI)


def head():
    """Coordinates in mm from the centre, a mask, and a smooth field in Hz that wraps the later echoes."""
    x, y, z = np.meshgrid(*[(np.arange(n) - n // 2) * h for n, h in zip(SHAPE, VOXEL, strict=True)], indexing="ij")
    mask = (x / 40) ** 2 + (y / 46) ** 2 + (z / 44) ** 2 < 1
    field = 40 * np.exp(-(x**2 + (y - 30) ** 2 + (z + 20) ** 2) / 400) + 0.4 * z - 12
    return x, y, z, mask, field


def simulated(offset, times=TIMES, even=0.0):
    """Wrapped phase and magnitude of a head; `even` is what a bipolar readout adds to even echoes."""
    _, _, _, mask, field = head()
    phase = [TWO_PI * field * t + offset + (even if n % 2 else 0) for n, t in enumerate(times)]
    magnitude = np.stack([np.where(mask, 100.0, 0.0) * np.exp(-20 * t) for t in times])
    return wrap(np.array(phase)).astype(np.float32), magnitude.astype(np.float32), mask, field


DEFAULT = Mcpc3dsOptions()


def estimate(offset, options=DEFAULT, bipolar=False, **simulation):
    phase, magnitude, mask, field = simulated(offset, **simulation)
    times = simulation.get("times", TIMES)
    scan = Scan(VOXEL, echo_times_s=times)
    return mcpc3ds(phase, magnitude, scan=scan, mask=mask, bipolar=bipolar, options=options), mask, field


def spread(difference, mask):
    """Largest deviation in the mask from a constant, modulo whole turns."""
    inside = difference[mask]
    constant = np.angle(np.mean(np.exp(1j * inside)))
    return np.abs(wrap(inside - constant)).max()


def test_constant_offset_is_recovered():
    result, mask, _ = estimate(1.3)
    assert spread(result.offset - 1.3, mask) < 1e-3


def test_parabolic_offset_is_recovered():
    x, y, z, *_ = head()
    offset = -np.pi * ((x / 40) ** 2 + ((y - 5) / 46) ** 2 + (z / 44) ** 2) + 0.02 * x
    result, mask, _ = estimate(offset)
    assert spread(result.offset - offset, mask) < 1e-3
    published, *_ = estimate(offset, Mcpc3dsOptions(trend=False, passes=1))
    assert spread(published.offset - offset, mask) > 0.2  # the one-sided Gaussian at the border of the mask


def test_more_passes_follow_an_offset_that_is_no_parabola():
    x, y, z, *_ = head()
    offset = 1.5 * np.sin(x / 20) + 2 * np.cos(y / 25 + z / 30)
    errors = []
    for passes in (1, 3):
        result, mask, _ = estimate(offset, Mcpc3dsOptions(passes=passes))
        errors.append(spread(result.offset - offset, mask))
    assert errors[1] < 0.6 * errors[0]


def test_every_echo_keeps_only_what_evolves():
    x, y, *_ = head()
    result, mask, field = estimate(0.03 * x - 0.02 * y + 2)
    constant = []
    for echo, time in zip(result.phase, TIMES, strict=True):
        assert spread(echo - TWO_PI * field * time, mask) < 5e-3
        constant.append(np.angle(np.mean(np.exp(1j * (echo - TWO_PI * field * time)[mask]))))
    # What is left is a field shift of a whole number of turns per echo spacing.
    np.testing.assert_allclose(wrap(np.diff(constant)), 0, atol=1e-3)
    assert np.abs(result.phase).max() <= np.pi + 1e-6
    assert result.phase.dtype == result.offset.dtype == np.float32


def test_without_a_mask_the_magnitude_gives_one():
    phase, magnitude, mask, _ = simulated(0.7)
    noisy = magnitude + np.random.default_rng(0).rayleigh(1.0, magnitude.shape).astype(np.float32)
    result = mcpc3ds(phase, noisy, scan=Scan(VOXEL, echo_times_s=TIMES))
    assert spread(result.offset - 0.7, mask) < 2e-3


def test_a_scalp_behind_noise_does_not_spoil_the_rim_of_the_brain():
    # Between brain and scalp lies noise, and the scalp's field is two turns a spacing away: nothing can join them.
    x, y, z, brain, field = head()
    depth = np.sqrt((x / 40) ** 2 + (y / 46) ** 2 + (z / 44) ** 2)
    scalp = (depth > 1.12) & (depth < 1.3)
    field = field + 2 / (TIMES[1] - TIMES[0]) * scalp
    offset = 0.7 + 0.02 * x
    signal = np.where(brain, 100.0, np.where(scalp, 60.0, 0.0)) * np.exp(
        1j * (TWO_PI * field * TIMES[:, None, None, None] + offset)
    )
    rng = np.random.default_rng(0)
    signal = signal + rng.normal(0, 2, signal.shape) + 1j * rng.normal(0, 2, signal.shape)
    magnitude, phase = np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32)
    result = mcpc3ds(phase, magnitude, scan=Scan(VOXEL, echo_times_s=TIMES), mask=depth < 1.3)
    assert spread(result.offset - offset, brain) < 0.05
    assert result.left_out_voxels > 0.5 * np.count_nonzero((depth < 1.3) & ~brain)


def test_nan_stays_out_and_is_counted():
    phase, magnitude, mask, _ = simulated(0.7)
    clean = mcpc3ds(phase, magnitude, scan=Scan(VOXEL, echo_times_s=TIMES), mask=mask)
    phase[:, 22, 25, 20] = np.nan
    result = mcpc3ds(phase, magnitude, scan=Scan(VOXEL, echo_times_s=TIMES), mask=mask)
    assert np.isfinite(result.phase).all()
    assert np.isfinite(result.offset).all()
    assert result.left_out_voxels > clean.left_out_voxels


@pytest.mark.parametrize("times", [[5.0, 10.0, 15.0, 20.0], [4.0, 9.0, 14.0], [5.0, 9.0, 17.0, 21.0]])
def test_bipolar_algebra_is_exact(times):
    rng = np.random.default_rng(1)
    times = np.array(times) * 1e-3
    field, gradient = rng.normal(0, 30, 50), rng.normal(0, 0.3, 50)
    m = times[0] / (times[1] - times[0])
    # Offset removal by echoes 1 and 2 leaves m G on odd and (m + 1) G on even echoes.
    phase = np.stack([TWO_PI * field * t + (m + n % 2) * gradient for n, t in enumerate(times)])
    corrected = subtract_bipolar(phase, bipolar_artefact(phase, times), times)
    np.testing.assert_allclose(corrected, TWO_PI * field * times[:, None], atol=1e-12)


@pytest.mark.parametrize("times", [TIMES, np.array([0.004, 0.008, 0.0145, 0.0185])])
def test_bipolar_readout_is_corrected(times):
    x, *_ = head()
    plane = 0.3 * x / 45
    result, mask, field = estimate(0.5, times=times, even=plane, bipolar=True)
    plain, *_ = estimate(0.5, times=times, even=plane)
    for number, time in enumerate(times):
        truth = TWO_PI * field * time
        assert spread(result.phase[number] - truth, mask) < 0.02
        assert spread(plain.phase[number] - truth, mask) > 0.2
    assert spread(result.bipolar - plane, mask) < 0.02


@pytest.mark.parametrize(
    ("echoes", "times", "options", "message"),
    [
        (1, TIMES[:1], Mcpc3dsOptions(), "two or more echoes"),
        (2, [0.005, 0.005], Mcpc3dsOptions(), "ascending"),
        (2, TIMES[:3], Mcpc3dsOptions(), "3 echo times"),
        (2, TIMES[:2], Mcpc3dsOptions(sigma_mm=-1), "sigma_mm"),
    ],
)
def test_bad_input_is_named(echoes, times, options, message):
    phase = np.zeros((echoes, 4, 4, 4), np.float32)
    with pytest.raises(ValueError, match=message):
        mcpc3ds(phase, phase + 1, scan=Scan(VOXEL, echo_times_s=times), options=options)


def test_bipolar_readout_needs_three_echoes():
    phase = np.zeros((2, 4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="three or more"):
        mcpc3ds(phase, phase + 1, scan=Scan(VOXEL, echo_times_s=TIMES[:2]), bipolar=True)


def test_smoothing_does_not_see_wraps():
    x, _, _, mask, _ = head()
    plane = 0.35 * x  # several turns across the head
    smoothed = smooth_phase(wrap(plane).astype(np.float32), mask, sigma_mm=5, voxel_size_mm=VOXEL, trend=True)
    assert spread(smoothed - plane, mask) < 1e-3


def test_smoothing_has_the_width_asked_for():
    # The transfer of a Gaussian at wave number k is exp(-(sigma k)^2 / 2); amplitudes are small, so phase is linear.
    wave = 0.01 * np.sin(TWO_PI * np.arange(120) / 40.0)
    phase = np.broadcast_to(wave[:, None, None], (120, 30, 30)).astype(np.float32)
    for voxel in (1.0, 2.0):
        smoothed = smooth_phase(phase, np.ones(phase.shape, bool), sigma_mm=6, voxel_size_mm=(voxel,) * 3)
        measured = np.ptp(smoothed[40:80, 15, 15]) / 0.02
        assert measured == pytest.approx(np.exp(-((6 / voxel * TWO_PI / 40) ** 2) / 2), rel=0.02)
