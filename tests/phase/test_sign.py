import numpy as np
import pytest

from qsmprep.phase.sign import chi_sign_is_plausible, decide_sign, remove_slice_alternation, slice_alternation


@pytest.fixture
def volume():
    rng = np.random.default_rng(1)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (20, 22, 17)), indexing="ij")
    magnitude = 50.0 * (x**2 + y**2 + z**2 < 0.9)
    signal = magnitude * np.exp(1j * (4 * x + 7 * z + 3 * y * y))
    return signal + rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)


def test_normal_slices_do_not_alternate(volume):
    assert slice_alternation(np.angle(volume), np.abs(volume)).axis is None
    assert slice_alternation(np.angle(volume)[:, :, :1]).axis is None


@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_alternating_slices_are_found_and_mended_as_phase_and_as_complex(volume, axis):
    sign = (-1.0) ** np.arange(volume.shape[axis])
    broken = np.moveaxis(np.moveaxis(volume, axis, -1) * sign, -1, axis)
    assert slice_alternation(np.angle(broken), np.abs(broken)).axis == axis
    np.testing.assert_allclose(remove_slice_alternation(broken, axis), volume)
    mended = remove_slice_alternation(np.angle(broken), axis)
    assert np.abs(mended).max() <= np.pi
    np.testing.assert_allclose(np.exp(1j * mended), np.exp(1j * np.angle(volume)), atol=1e-12)
    echoes = remove_slice_alternation(np.angle([broken, broken]), axis)
    np.testing.assert_allclose(echoes[1], mended)


def test_noise_alone_does_not_alternate():
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, (16, 16, 16))
    assert slice_alternation(noise).axis is None


@pytest.mark.parametrize(
    ("manufacturer", "setting", "inverted"),
    [
        ("GE MEDICAL SYSTEMS", "auto", True),
        ("GE", "auto", True),
        ("General Electric", "auto", True),
        ("Siemens Healthineers", "auto", False),
        ("GERMAN SCANNERS", "auto", False),
        ("Philips", "auto", False),
        ("", "auto", False),
        ("GE", "keep", False),
        ("Siemens", "invert", True),
    ],
)
def test_only_ge_is_inverted_unless_the_user_says_otherwise(manufacturer, setting, inverted):
    found, reason, known = decide_sign(manufacturer, setting)
    assert known is (manufacturer not in ("", "GERMAN SCANNERS"))
    assert found is inverted
    assert ("inverted" if inverted else "kept") in reason


def test_unknown_sign_setting_is_refused():
    with pytest.raises(ValueError, match="auto, keep, invert"):
        decide_sign("GE", "flip")


def test_iron_must_be_paramagnetic():
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in (31, 34, 29)), indexing="ij")
    mask = x**2 + y**2 + z**2 < 14**2
    nucleus = (x - 3) ** 2 + y**2 + z**2 < 3**2
    rng = np.random.default_rng(0)
    chi = 0.12 * nucleus + 0.02 * rng.standard_normal(mask.shape)
    r2star = 18 + 15 * nucleus + rng.standard_normal(mask.shape)
    # The rim is unreliable in both maps (air, skull): it must not count.
    rim = mask & (x**2 + y**2 + z**2 > 12**2)
    chi[rim], r2star[rim] = -1, 200
    assert chi_sign_is_plausible(chi, r2star, mask).plausible
    wrong = chi_sign_is_plausible(-chi, r2star, mask)
    assert not wrong.plausible
    assert wrong.mean_chi_high_r2star < wrong.mean_chi_rest
    assert "sign of the phase may be wrong" in wrong.reason
    assert chi_sign_is_plausible(chi, np.zeros_like(chi), mask).voxels == 0
    with pytest.raises(ValueError, match="empty"):
        chi_sign_is_plausible(chi, r2star, np.zeros_like(mask))
