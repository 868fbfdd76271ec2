"""Quality numbers of the phase state facts: a planted step, vortex, wrong echo time gives the number it must give."""

import numpy as np
import pytest

from qsmprep.quality.phase import fringe_ends_cm, ghost_level, phase_numbers, residual_wraps
from qsmprep.scan import Scan

SHAPE = (40, 36, 32)
TIMES = (0.005, 0.011, 0.017, 0.023, 0.029)
SCAN = Scan(voxel_size_mm=(2.0, 2.0, 2.0), echo_times_s=TIMES)
X, Y, Z = np.indices(SHAPE).astype(np.float32)
INSIDE = (X - 19.5) ** 2 / 17**2 + (Y - 17.5) ** 2 / 15**2 + (Z - 15.5) ** 2 / 13**2 < 1


@pytest.fixture(scope="module")
def field():
    """A field in Hz with fine structure, as of small nuclei, on a slow ramp."""
    from scipy.ndimage import gaussian_filter

    fine = gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 1.5)
    return (5 * fine / fine.std() + 0.5 * X).astype(np.float32)


def numbers(unwrapped, *, noise=0.0, **more):
    magnitude = np.stack([np.where(INSIDE, np.exp(-30 * te), 0) for te in TIMES]).astype(np.float32)
    noisy = unwrapped + noise * np.random.default_rng(2).standard_normal(unwrapped.shape).astype(np.float32)
    given = {"magnitude": magnitude, "phase": None, "unwrapped": noisy, "total_field_hz": None, "mask": INSIDE}
    return phase_numbers(SCAN, **(given | more))


def grown(field, times=TIMES):
    return np.stack([2 * np.pi * te * field for te in times]).astype(np.float32)


def test_phase_that_grows_linearly_has_no_misfit(field):
    found = numbers(grown(field) + 1.0)
    assert found["phase_linearity"] < 1e-3
    assert found["phase_nonlinearity"] < 1e-3
    assert found["bipolar_phase"] < 1e-3
    assert abs(found["echo_time_offset"]) < 1e-3


def test_the_misfit_of_noise_is_its_deviation_and_goes_away_in_the_mean(field):
    found = numbers(grown(field), noise=0.05)
    assert found["phase_linearity"] == pytest.approx(0.05, rel=0.05)
    assert found["phase_nonlinearity"] < 0.02


def test_one_wrong_echo_time_leaves_a_systematic_misfit(field):
    wrong = grown(field, [te - 0.002 * (i == 2) for i, te in enumerate(TIMES)])
    assert numbers(wrong, noise=0.05)["phase_nonlinearity"] > 0.05


@pytest.mark.parametrize("error_ms", [-2.0, 1.0, 3.0])
def test_an_error_of_all_echo_times_is_found_in_noise(field, error_ms):
    found = numbers(grown(field, [te - error_ms / 1000 for te in TIMES]), noise=0.05)
    assert found["echo_time_offset"] == pytest.approx(error_ms, abs=0.15)
    assert found["phase_linearity"] < 0.06  # which the misfit does not tell


def test_a_plane_of_alternating_sign_is_measured(field):
    plane = 0.01 * (X - 19.5)
    found = numbers(grown(field) + np.stack([(-1) ** e * plane for e in range(5)]), noise=0.02)
    assert found["bipolar_phase"] == pytest.approx(2 * 0.01 * (np.ptp(X[INSIDE])), rel=0.1)


def test_echoes_are_unwrapped_about_the_field_where_only_the_fit_is(field):
    phase = np.angle(np.exp(1j * (grown(field) + 3.0))).astype(np.float32)
    found = numbers(field, phase=phase, total_field_hz=field)
    assert found["phase_linearity"] < 1e-3


def test_one_echo_has_no_line():
    found = phase_numbers(
        Scan((2.0, 2.0, 2.0), echo_times_s=(0.02,)), magnitude=np.ones((1, *SHAPE), np.float32), phase=None,
        unwrapped=np.zeros((1, *SHAPE), np.float32), total_field_hz=None, mask=INSIDE,
    )  # fmt: skip
    assert np.isnan(found["phase_linearity"])
    assert np.isnan(found["echo_time_offset"])
    assert found["residual_wraps"] == 0


def test_a_step_of_two_pi_is_the_share_of_the_pairs_it_cuts():
    block = np.ones((10, 8, 6), bool)
    phase = np.zeros(block.shape, np.float32)
    phase[4:] += 2 * np.pi
    pairs = 9 * 8 * 6 + 10 * 7 * 6 + 10 * 8 * 5
    assert residual_wraps(phase, block) == pytest.approx(100 * 8 * 6 / pairs)
    block[4:] = False
    assert residual_wraps(phase, block) == 0


def test_a_vortex_is_as_long_as_the_line_through_it():
    x, y = np.ogrid[-7.5:8.5, -6.5:7.5]
    phase = np.repeat(np.angle(x + 1j * y)[..., None], 9, axis=2).astype(np.float32)
    inside = np.ones(phase.shape, bool)
    assert fringe_ends_cm(phase, inside, (2.0, 2.0, 3.0)) == pytest.approx(9 * 0.3)
    inside[7, 7] = False
    assert fringe_ends_cm(phase, inside, (2.0, 2.0, 3.0)) == 0


def test_closed_fringes_are_no_vortex():
    steep = np.angle(np.exp(1j * ((X - 20) ** 2 + (Y - 18) ** 2) / 30)).astype(np.float32)
    assert fringe_ends_cm(steep, INSIDE, (2.0, 2.0, 2.0)) == 0


def test_ghosts_are_told_from_noise_in_the_air():
    random = np.random.default_rng(3)
    noise = [random.standard_normal(SHAPE) for _ in range(2)]
    head = INSIDE & ((X - 19.5) ** 2 + (Y - 17.5) ** 2 + (Z - 15.5) ** 2 < 100)
    image = np.abs(head * 50 + noise[0] + 1j * noise[1]).astype(np.float32)
    assert ghost_level(image, head, (2.0, 2.0, 2.0)) < 1.0
    ghost = np.roll(head, 18, axis=1) * 5
    image = np.abs(head * 50 + ghost + noise[0] + 1j * noise[1]).astype(np.float32)
    assert ghost_level(image, head, (2.0, 2.0, 2.0)) > 2.0
    assert np.isnan(ghost_level(image * head, head, (2.0, 2.0, 2.0)))
