"""Sources told apart: identities of the closed form, and every method against the truth of a small head."""

import numpy as np
import pytest

from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.tissues import TISSUES
from qsmprep.scan import Scan
from qsmprep.separation import Constants
from qsmprep.separation.chisep_ilsqr import chisep_ilsqr
from qsmprep.separation.chisep_medi import ChisepMediOptions, chisep_medi
from qsmprep.separation.closed_form import closed_form
from qsmprep.separation.constants import RelaxometricOptions, constants_at
from qsmprep.separation.decompose import decompose
from qsmprep.separation.offset import offset_by_signs
from qsmprep.separation.r2prime import R2primeOptions, r2prime_map
from qsmprep.separation.r2star_qsm import r2star_qsm

CONSTANTS = Constants(114.0, 114.0)


@pytest.fixture(scope="module")
def head():
    return simulate_head(SimulationOptions(voxel_size="3"))


def scan_of(head):
    return Scan(head.voxel_size_mm, head.b0_direction, head.echo_times_s, head.centre_frequency_mhz)


@pytest.fixture(scope="module")
def given(head):
    """What the methods that see the field take."""
    return {
        "field_ppm": head.local_field_hz / head.centre_frequency_mhz,
        "mask": head.brain_mask,
        "constants": CONSTANTS,
        "chi_ppm": head.chi_ppm * head.brain_mask,
        "scan": scan_of(head),
    }


@pytest.fixture(scope="module")
def magnitude(head):
    return np.sqrt((head.magnitude**2).sum(axis=0))


def errors(found, head):
    pairs = ((found.chi_para, head.chi_para), (found.chi_dia, head.chi_dia))
    return [float(np.linalg.norm((a - b)[found.mask]) / np.linalg.norm(b[found.mask])) for a, b in pairs]


def test_closed_form_solves_both_equations():
    random = np.random.default_rng(0)
    para, dia = random.uniform(0, 0.2, (2, 4, 5, 6)).astype(np.float32)
    unequal = Constants(137.0, 90.0)
    rate = unequal.para * para + unequal.dia * dia
    found = closed_form(para - dia, rate, np.ones(para.shape), constants=unequal)
    assert np.allclose(found.chi_para, para, atol=1e-6)
    assert np.allclose(found.chi_dia, dia, atol=1e-6)


def test_too_little_r2prime_leaves_one_source():
    chi = np.array([0.1, -0.1, 0.0]).reshape(3, 1, 1)
    found = closed_form(chi, np.zeros(chi.shape), np.ones(chi.shape), constants=CONSTANTS)
    assert np.allclose(found.chi_para.ravel(), (0.1, 0, 0))
    assert np.allclose(found.chi_dia.ravel(), (0, 0.1, 0))


def test_sources_of_a_head_from_truth(head, given, magnitude):
    found = chisep_medi(**given, magnitude_rss=magnitude, r2prime=head.r2prime)
    para, dia = errors(found, head)
    assert max(para, dia) < 0.2
    assert min(found.chi_para.min(), found.chi_dia.min()) >= 0
    assert not found.chi_para[~head.brain_mask].any()
    assert found.convergence.converged
    for name in ("caudate", "globus_pallidus", "white_matter"):
        region = head.labels == TISSUES[name].label
        region &= head.brain_mask
        assert found.chi_para[region].mean() == pytest.approx(head.chi_para[region].mean(), rel=0.1, abs=1e-3)
        assert found.chi_dia[region].mean() == pytest.approx(head.chi_dia[region].mean(), rel=0.1, abs=1e-3)


def test_regularisation_takes_noise_out_of_both_maps(head, given, magnitude):
    noisy = np.maximum(head.r2prime + 2 * np.random.default_rng(0).standard_normal(head.r2prime.shape), 0)
    voxelwise = closed_form(given["chi_ppm"], noisy, given["mask"], constants=CONSTANTS)
    smooth = chisep_medi(**given, magnitude_rss=magnitude, r2prime=noisy.astype(np.float32))
    assert max(errors(smooth, head)) < 0.9 * max(errors(voxelwise, head))


def test_ilsqr_needs_no_start_but_the_mean(head, given):
    flat = {**given, "chi_ppm": np.where(head.brain_mask, head.chi_ppm[head.brain_mask].mean(), 0)}
    assert max(errors(chisep_ilsqr(**flat, r2prime=head.r2prime), head)) < 0.3


def test_r2star_qsm_says_that_r2prime_was_not_measured(head, given, magnitude):
    found = r2star_qsm(**given, magnitude_rss=magnitude, r2star=head.r2star)
    assert [warning.code for warning in found.warnings] == ["r2prime-as-share"]
    assert max(errors(found, head)) < 0.6


def test_decompose_finds_the_stronger_source(head):
    chi = np.broadcast_to(head.chi_ppm, head.magnitude.shape)
    found = decompose(head.magnitude, chi, head.brain_mask, scan=scan_of(head))
    assert (
        found.chi_para[head.region("globus_pallidus")].mean() > 3 * found.chi_dia[head.region("globus_pallidus")].mean()
    )
    assert found.chi_dia[head.region("white_matter")].mean() > 3 * found.chi_para[head.region("white_matter")].mean()


def test_decompose_recovers_its_own_model():
    times, angular, static = (
        np.arange(1, 8) * 0.004,
        2 * np.pi * 128 * 2 / 3,
        2 * np.pi / (9 * 3**0.5) * 2 * np.pi * 128,
    )
    shares, para, dia, rate = (0.5, 0.3, 0.2), 0.12, 0.08, 15.0
    signal = np.exp(-rate * times) * (
        shares[0] * np.exp((-static + 1j * angular) * para * times)
        + shares[1] * np.exp((-static - 1j * angular) * dia * times)
        + shares[2]
    )
    chi = (np.angle(signal) / (angular * times)).reshape(-1, 1, 1, 1)
    found = decompose(
        np.abs(signal).reshape(-1, 1, 1, 1), chi, np.ones((1, 1, 1)), scan=Scan((1, 1, 1), (0, 0, 1), times, 128.0)
    )
    assert found.chi_para.item() - found.chi_dia.item() == pytest.approx(0.5 * para - 0.3 * dia, abs=0.01)


def test_decompose_needs_five_echoes():
    with pytest.raises(ValueError, match="5 echoes"):
        decompose(
            np.ones((3, 2, 2, 2)),
            np.ones((3, 2, 2, 2)),
            np.ones((2, 2, 2)),
            scan=Scan((1, 1, 1), (0, 0, 1), (0.004, 0.008, 0.012), 128.0),
        )


def test_the_signs_of_the_sources_bound_the_constant(head):
    mask, chi = head.brain_mask, head.chi_ppm * head.brain_mask
    shifted = np.where(mask, chi + 0.03, 0)
    found = offset_by_signs(shifted, head.r2prime, mask, constants=CONSTANTS, voxel_size_mm=head.voxel_size_mm)
    assert found.low <= -0.03 <= found.high
    assert found.value == pytest.approx(-0.03, abs=0.01)
    assert found.contradicting < 0.002


def test_a_few_wrong_regions_do_not_move_the_constant(head):
    """Streaks and a rim of wrong values contradict every constant; the others still tell it."""
    mask, voxel = head.brain_mask, head.voxel_size_mm
    chi = np.where(mask, head.chi_ppm + 0.03, 0)
    x = np.indices(mask.shape)[0]
    deep = np.argwhere(mask & (np.abs(x - mask.shape[0] // 2) < 2))
    a, b, c = deep[len(deep) // 2]
    chi[a - 1 : a + 2, b - 3 : b + 4, c - 1 : c + 2] += 1.0
    chi[a - 1 : a + 2, b + 6 : b + 12, c - 1 : c + 2] -= 0.2
    found = offset_by_signs(chi, head.r2prime, mask, constants=CONSTANTS, voxel_size_mm=voxel)
    assert found.low > found.high
    assert found.value == pytest.approx(-0.03, abs=0.012)
    assert 0 < found.contradicting < 0.1


def test_r2prime_is_never_negative_and_says_what_it_is():
    r2star, r2 = np.array([20.0, 10.0, 5.0]).reshape(3, 1, 1), np.array([12.0, 12.0, 0.0]).reshape(3, 1, 1)
    mask = np.ones(r2.shape, bool)
    found = r2prime_map(r2star, mask, r2=r2)
    assert np.allclose(found.r2prime.ravel(), (8, 0, 0))
    assert found.negative_share == 0.5
    assert "0.3 R2*" in r2prime_map(r2star, mask).origin
    constant = r2prime_map(r2star, mask, options=R2primeOptions(fallback="constant-r2"))
    assert np.allclose(constant.r2prime.ravel(), (7, 0, 0))


def test_r2_above_r2star_everywhere_is_refused():
    with pytest.raises(ValueError, match="R2 exceeds R2"):
        r2prime_map(np.full((3, 3, 3), 10.0), np.ones((3, 3, 3)), r2=np.full((3, 3, 3), 20.0))


def test_a_spin_echo_scan_of_another_place_is_refused():
    with pytest.raises(ValueError, match="another region"):
        r2prime_map(np.full((3, 3, 3), 10.0), np.ones((3, 3, 3)), r2=np.zeros((3, 3, 3)))


def test_maps_that_do_not_overlap_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        closed_form(np.full((2, 2, 2), np.nan), np.ones((2, 2, 2)), np.ones((2, 2, 2)), constants=CONSTANTS)


def test_constants_grow_with_the_field():
    found = constants_at(RelaxometricOptions(), 7.0)
    assert found.para == pytest.approx(266)
    with pytest.raises(ValueError, match="positive"):
        constants_at(RelaxometricOptions(), 0.0)


def test_a_negative_weight_is_refused(head, given, magnitude):
    with pytest.raises(ValueError, match="regularisation"):
        chisep_medi(
            **given, magnitude_rss=magnitude, r2prime=head.r2prime, options=ChisepMediOptions(regularisation=-1.0)
        )


@pytest.mark.parametrize("harmonic", [True, False])
def test_torch_gives_the_same_sources(head, given, magnitude, harmonic):
    options = ChisepMediOptions(weak_harmonic=harmonic, max_iterations=12)
    one, other = (
        chisep_medi(**given, magnitude_rss=magnitude, r2prime=head.r2prime, options=options, device=device)
        for device in ("cpu", "torch:cpu")
    )
    assert np.abs(one.chi_para - other.chi_para).max() < 2e-3
    assert np.abs(one.chi_dia - other.chi_dia).max() < 2e-3


def test_unequal_constants_are_told_apart(head, given, magnitude):
    unequal = Constants(150.0, 90.0)
    rate = unequal.para * head.chi_para + unequal.dia * head.chi_dia
    found = chisep_medi(**{**given, "constants": unequal}, magnitude_rss=magnitude, r2prime=rate.astype(np.float32))
    assert max(errors(found, head)) < 0.2
