"""Quality numbers of field and map state facts: of a field with its sources, and of one spoiled in a known way."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.quality.assessment import flag_of
from qsmprep.quality.maps import data_residual, harmonic_share, map_numbers, shadow_index
from qsmprep.scan import Scan

SHAPE, SIZE = (64, 60, 56), (2.0, 2.0, 2.0)
AXIS = (0.0, np.sin(0.3), np.cos(0.3))
SCAN = Scan(voxel_size_mm=SIZE, b0_direction=AXIS, centre_frequency_mhz=127.7)
X, Y, Z = np.indices(SHAPE).astype(np.float32) - np.array([31.5, 29.5, 27.5], np.float32).reshape(3, 1, 1, 1)
MASK = (X / 26) ** 2 + (Y / 24) ** 2 + (Z / 22) ** 2 < 1


def kernel():
    return dipole_kernel(SHAPE, SIZE, AXIS)


@pytest.fixture(scope="module")
def chi():
    fine = gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 1.2)
    return np.where(MASK, 0.05 * fine / fine.std(), 0).astype(np.float32)


@pytest.fixture(scope="module")
def field(chi):
    return 127.7 * irfftn(kernel() * rfftn(chi), SHAPE)


def numbers(scan=SCAN, **images):
    given = {"tissue_field_hz": None, "chi_ppm": None, "r2star": None, "mask": MASK}
    return map_numbers(scan, **(given | images))


def test_a_map_explains_the_field_it_makes_and_not_that_of_another_axis(chi, field):
    assert data_residual(chi, field / 127.7, MASK, SCAN) < 0.1
    assert data_residual(chi, field / 127.7, MASK, replace(SCAN, b0_direction=(0.0, 1.0, 0.0))) > 0.8


@pytest.mark.parametrize("given", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), AXIS])
def test_the_field_tells_the_direction_of_b0(field, given):
    found = numbers(replace(SCAN, b0_direction=given), tissue_field_hz=field)["b0_direction_error"]
    true = np.rad2deg(np.arccos(min(1.0, abs(np.dot(given, AXIS)))))
    assert found == pytest.approx(true, abs=1)


def beside(axis, degrees):
    """Four directions so far from an axis, all around it."""
    axis = np.array(axis)
    first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    first /= np.linalg.norm(first)
    second, turn = np.cross(axis, first), np.deg2rad(degrees)
    sides = (first, -first, second, -second)
    return [tuple(np.cos(turn) * axis + np.sin(turn) * side) for side in sides]


@pytest.mark.parametrize(
    "options",
    [
        {"voxel_size": "3"},
        {"voxel_size": "3", "tilt_x": 20.0, "seed": 21, "variation": 0.05, "bleed": True},
        {"voxel_size": "2.5,2.5,4", "tilt_x": -10.0, "tilt_y": 12.0, "seed": 22, "variation": 0.05},
    ],
)
def test_a_direction_wrong_by_5_degrees_is_flagged_and_the_right_one_is_not(options):
    head = simulate_head(SimulationOptions(**options))
    noise = 0.3 * np.random.default_rng(9).standard_normal(head.local_field_hz.shape)
    field = (head.local_field_hz + noise).astype(np.float32)

    def flag(b0):
        scan = replace(head.scan, b0_direction=b0)
        found = map_numbers(scan, tissue_field_hz=field, chi_ppm=None, r2star=None, mask=head.brain_mask)
        assert np.isfinite(found["b0_direction_error"])
        return flag_of("b0_direction_error", found["b0_direction_error"])

    assert flag(head.b0_direction) is None
    assert all(flag(b0) for b0 in beside(head.b0_direction, 5))


def test_noise_has_no_direction():
    noise = np.random.default_rng(6).standard_normal(SHAPE).astype(np.float32)
    assert np.isnan(numbers(tissue_field_hz=noise)["b0_direction_error"])


def test_division_by_small_numbers_raises_the_streaking_index(chi, field):
    noisy = rfftn((field / 127.7 + 0.003 * np.random.default_rng(7).standard_normal(SHAPE)).astype(np.float32) * MASK)
    d = kernel()
    maps = {
        limit: irfftn(noisy / np.where(np.abs(d) < limit, np.copysign(limit, d), d), SHAPE) for limit in (0.02, 0.2)
    }
    index = {limit: numbers(chi_ppm=image)["streaking"] for limit, image in maps.items()}
    assert numbers(chi_ppm=chi)["streaking"] == pytest.approx(1, abs=0.15)
    assert index[0.02] > 2 > index[0.2]


def test_slow_variation_is_a_shadow(chi):
    assert shadow_index(chi, MASK, SIZE) < 0.25
    assert shadow_index(chi + 0.004 * X, MASK, SIZE) > 0.5


def test_background_left_over_is_harmonic(field):
    assert harmonic_share(field * MASK, MASK, SIZE) < 10
    left = field + 3 * field[MASK].std() * (X * X - Y * Y) / 300
    assert harmonic_share(left, MASK, SIZE) > 50
    assert numbers(tissue_field_hz=left)["background_rim"] > numbers(tissue_field_hz=field)["background_rim"]


@pytest.mark.parametrize("sign", [1, -1])
def test_iron_is_paramagnetic_or_the_sign_is_wrong(chi, sign):
    iron = (X**2 + (Y - 4) ** 2 + Z**2) < 30
    r2star = np.where(iron, 40.0, 20.0 + chi).astype(np.float32)
    found = numbers(chi_ppm=sign * (chi + 0.1 * iron), r2star=r2star)
    assert np.sign(found["iron_contrast"]) == sign
    assert found["r2star_relative"] == pytest.approx(1, abs=0.05)


def test_what_is_missing_gives_no_number(chi):
    found = numbers(chi_ppm=chi)
    assert np.isnan(found["data_residual"])
    assert np.isnan(found["iron_contrast"])
    assert np.isnan(found["b0_direction_error"])
