"""The simulated signal is that of a spoiled gradient echo in the simulated field."""

from dataclasses import replace

import numpy as np
import pytest

from qsmprep.numerics.threads import use_threads
from qsmprep.phantom import SimulationOptions, simulate_head
from qsmprep.phantom.scanner import BIPOLAR_PLANE_RAD, block_mean, crop_k_space, shim

COARSE = SimulationOptions(voxel_size="4", echo_times="0.004,0.012,0.02", peak_snr=0)


def wrapped(phase):
    return np.angle(np.exp(1j * phase))


@pytest.fixture(scope="module")
def head():
    return simulate_head(COARSE)


def test_phase_is_the_field_times_the_echo_time(head):
    for te, phase in zip(head.echo_times_s, head.phase, strict=True):
        expected = 2 * np.pi * te * head.total_field_hz + head.phase_offset
        assert np.abs(wrapped(phase - expected))[head.brain_mask].max() < 1e-4


def test_magnitude_decays_with_r2star(head):
    ratio = head.magnitude[1][head.brain_mask] / head.magnitude[0][head.brain_mask]
    np.testing.assert_allclose(ratio, np.exp(-0.008 * head.r2star[head.brain_mask]), rtol=1e-4)


def test_background_field_is_harmonic():
    """What the sources outside the brain add has no Laplacian inside, unlike the tissue field."""
    head = simulate_head(replace(COARSE, voxel_size="2", echo_times="0.005"))
    background = head.total_field_hz - head.local_field_hz
    deep = (slice(15, -15), slice(20, -20), slice(25, -15))
    assert np.all(head.brain_mask[40, 50, 45])

    def laplacian(field):
        return sum(np.roll(field, s, a) for a in range(3) for s in (1, -1)) - 6 * field

    inside = np.zeros_like(head.brain_mask)
    inside[deep] = head.brain_mask[deep]
    x = [np.linspace(-1, 1, n).reshape([-1 if a == d else 1 for a in range(3)]) for d, n in enumerate(inside.shape)]
    inside &= (x[0] ** 2 + x[1] ** 2 + x[2] ** 2) < 0.3
    # The shim's second-order polynomial has a constant Laplacian.
    assert laplacian(background)[inside].std() < 0.02 * laplacian(head.local_field_hz)[inside].std()


def test_total_field_is_shimmed(head):
    assert abs(head.total_field_hz[head.brain_mask].mean()) < 1e-3
    assert 3 < head.total_field_hz[head.brain_mask].std() < 50


def test_shim_removes_second_order_fields():
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (12, 13, 14)], indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.9
    field = (100 + 30 * x - 20 * x * y + 50 * z**2).astype(np.float32)
    assert np.abs(shim(field, mask)[mask]).max() < 1e-3


def test_noise_has_the_stated_deviation():
    head = simulate_head(replace(COARSE, peak_snr=50))
    air = head.m0 == 0
    assert head.noise_deviation == pytest.approx(simulate_head(COARSE).magnitude.max() / 50, rel=1e-5)
    assert np.sqrt(np.mean(head.magnitude[:, air] ** 2) / 2) == pytest.approx(head.noise_deviation, rel=0.01)


def test_same_seed_same_images():
    options = replace(COARSE, peak_snr=50)
    one, same, other = simulate_head(options), simulate_head(options), simulate_head(replace(options, seed=1))
    np.testing.assert_array_equal(one.magnitude, same.magnitude)
    np.testing.assert_array_equal(one.phase, same.phase)
    assert not np.array_equal(one.phase, other.phase)
    assert not np.array_equal(one.phase, simulate_head(options, session=1).phase)
    np.testing.assert_array_equal(one.chi_ppm, other.chi_ppm)


def test_bipolar_echoes_carry_a_plane_of_alternating_sign(head):
    bipolar = simulate_head(replace(COARSE, bipolar=True))
    extra = wrapped(bipolar.phase - head.phase)[:, :, 25, 22]
    inside = head.brain_mask[:, 25, 22]
    slope = BIPOLAR_PLANE_RAD / len(inside)
    for echo, sign in zip(extra, (1, -1, 1), strict=True):
        np.testing.assert_allclose(np.diff(echo[inside]), sign * slope, atol=1e-5)


def test_tilted_slab_turns_b0_and_nothing_else(head):
    tilted = simulate_head(replace(COARSE, tilt_x=20, tilt_y=10))
    a, b = np.deg2rad(20), np.deg2rad(10)
    np.testing.assert_allclose(
        tilted.b0_direction, (-np.sin(b), np.cos(b) * np.sin(a), np.cos(b) * np.cos(a)), atol=1e-12
    )
    np.testing.assert_array_equal(tilted.labels, head.labels)
    assert np.linalg.det(tilted.affine[:3, :3]) == pytest.approx(64)
    # The middle of the head stays at the centre of the scanner.
    np.testing.assert_allclose(np.linalg.norm(tilted.affine[:3, 3]), np.linalg.norm(head.affine[:3, 3]))


def test_spin_echoes_decay_with_r2():
    head = simulate_head(replace(COARSE, mese=True))
    white = head.region("white_matter")
    rate = -np.log(head.mese_magnitude[5][white] / head.mese_magnitude[0][white]) / 0.075
    assert np.median(rate) == pytest.approx(650 / 45.5, rel=1e-3)


def test_oversampled_head_agrees_with_the_plain_one(head):
    fine = simulate_head(replace(COARSE, oversampling=2))
    assert fine.magnitude.shape == head.magnitude.shape
    core = head.region("white_matter") & fine.region("white_matter")
    assert np.median(np.abs(fine.total_field_hz - head.total_field_hz)[core]) < 0.5
    assert np.median(np.abs(fine.magnitude[0][core] / head.magnitude[0][core] - 1)) < 0.02
    expected = 2 * np.pi * fine.echo_times_s[0] * fine.total_field_hz + fine.phase_offset
    assert np.median(np.abs(wrapped(fine.phase[0] - expected))[core]) < 0.03


def test_cropped_k_space_keeps_intensity_and_place():
    x = np.meshgrid(*[np.arange(n) - n / 2 + 0.5 for n in (32, 36, 40)], indexing="ij")
    smooth = np.exp(-sum(c**2 for c in x) / (2 * 6.0**2)).astype(np.complex64)
    coarse = crop_k_space(smooth, 2)
    assert coarse.shape == (16, 18, 20)
    np.testing.assert_allclose(coarse.real, block_mean(smooth.real, 2), atol=0.02)
    np.testing.assert_allclose(coarse.real, coarse.real[::-1, ::-1, ::-1], atol=1e-5)


def test_short_field_of_view_holds_the_brain_or_is_refused():
    head = simulate_head(replace(COARSE, shape="36,43,35"))
    assert head.brain_mask.sum() * 64 == pytest.approx(4 / 3 * np.pi * 68 * 82 * 66, rel=0.03)
    with pytest.raises(ValueError, match="does not hold the brain"):
        simulate_head(replace(COARSE, shape="36,40,35"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voxel_size": "1,1"}, "voxel_size"),
        ({"shape": "100,100"}, "shape"),
        ({"echo_times": "5,10"}, "milliseconds"),
        ({"echo_times": "a"}, "echo_times"),
        ({"peak_snr": -1.0}, "peak_snr"),
        ({"orientation": "RLS"}, "orientation"),
        ({"vendor": "acme"}, "vendor"),
    ],
)
def test_wrong_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(COARSE, **change).checked()


def test_number_of_threads_does_not_change_a_bit():
    with use_threads(1):
        one = simulate_head(replace(COARSE, peak_snr=50))
    with use_threads(2):
        two = simulate_head(replace(COARSE, peak_snr=50))
    np.testing.assert_array_equal(one.phase, two.phase)
    np.testing.assert_array_equal(one.local_field_hz, two.local_field_hz)
