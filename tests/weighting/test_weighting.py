"""Weighted images: veins dark, calcification not, nothing out of nothing."""

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.grid import slice_axis
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.weighting.clear_swi import ClearSwiOptions, clear_swi, coil_sensitivity, softplus
from qsmprep.weighting.haacke_swi import haacke_swi
from qsmprep.weighting.minip import minimum_projection, slices_of
from qsmprep.weighting.smwi import SmwiOptions, smwi

SHAPE, VOXEL, MHZ = (64, 64, 48), (1.0, 1.0, 1.5), 127.7
TIMES = np.array([0.006, 0.012, 0.018, 0.024])
X, Y, Z = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij")
HEAD = X**2 + Y**2 + (1.5 * Z) ** 2 < 27**2
VEIN = (np.hypot(X - 10, Y) < 2) & HEAD
STONE = (X + 10) ** 2 + Y**2 + (1.5 * Z) ** 2 < 3.5**2


def scan(chi):
    """Field in Hz of a susceptibility in ppm, and the images of its echoes, without noise or decay."""
    field = np.fft.irfftn(dipole_kernel(SHAPE, VOXEL, (0, 0, 1)) * np.fft.rfftn(chi), s=SHAPE, axes=(0, 1, 2)) * MHZ
    magnitude = np.where(HEAD, 100.0, 5.0).astype("f4") * np.ones((len(TIMES), 1, 1, 1), "f4")
    phase = np.angle(np.exp(2j * np.pi * TIMES[:, None, None, None] * field)).astype("f4")
    return field.astype("f4"), magnitude, phase


def weighted(method, chi, **options):
    field, magnitude, phase = scan(chi)
    if method == "clear":
        return clear_swi(magnitude, HEAD, field, voxel_size_mm=VOXEL, **options)
    return haacke_swi(magnitude, phase, echo_times_s=TIMES, centre_frequency_mhz=MHZ, **options)


@pytest.mark.parametrize("method", ["clear", "haacke"])
def test_a_vein_along_b0_is_darker_than_in_the_magnitude_and_a_calcification_is_not(method):
    chi = np.where(VEIN, 0.4, 0) + np.where(STONE, -1.0, 0)
    result = weighted(method, chi)
    tissue = HEAD & (np.hypot(X, Y) > 20)
    usual = np.median(result.weights[tissue])
    assert result.weights[VEIN].mean() < 0.55 * usual
    assert result.weights[STONE].mean() > 0.85 * usual
    assert result.image[VEIN].mean() / result.image[tissue].mean() < 0.6 * (
        result.magnitude[VEIN].mean() / result.magnitude[tissue].mean()
    )


@pytest.mark.parametrize("method", ["clear", "haacke"])
def test_the_sign_of_the_field_decides(method):
    # were the phase left as a scanner of the other handedness stores it, stones would be dark and veins bright
    vein = np.where(VEIN, 0.4, 0)
    right, wrong = weighted(method, vein).weights[VEIN].mean(), weighted(method, -vein).weights[VEIN].mean()
    assert right < 0.6 < 0.85 < wrong


@pytest.mark.parametrize("method", ["clear", "haacke"])
def test_a_flat_magnitude_without_a_field_gives_a_flat_image(method):
    flat, nothing = np.full((4, *SHAPE), 50, "f4"), np.zeros(SHAPE, "f4")
    if method == "clear":
        result = clear_swi(flat, HEAD, nothing, voxel_size_mm=VOXEL)
    else:
        result = haacke_swi(flat, flat * 0, echo_times_s=TIMES, centre_frequency_mhz=MHZ)
    np.testing.assert_allclose(result.image, result.image.mean(), rtol=1e-5)
    assert result.image.mean() > 0


@pytest.mark.parametrize("method", ["clear", "haacke"])
def test_weights_lie_between_none_and_all_whatever_the_noise(method):
    noise = np.random.default_rng(3).normal(0, 5, SHAPE)
    result = weighted(method, noise)
    assert result.weights.min() >= 0 and result.weights.max() <= 1
    assert np.isfinite(result.image).all() and result.image.min() >= 0


@pytest.mark.parametrize("method", ["clear", "haacke"])
def test_a_smooth_background_field_darkens_nothing(method):
    background = 0.4 * X / SHAPE[0] + 0.3 * (Y / SHAPE[1]) ** 2  # ppm of field: many turns of the phase
    field = (MHZ * background).astype("f4")
    magnitude = np.full((4, *SHAPE), 100, "f4")
    phase = np.angle(np.exp(2j * np.pi * TIMES[:, None, None, None] * field)).astype("f4")
    vein, _, _ = scan(np.where(VEIN, 0.4, 0))
    if method == "clear":
        weights = clear_swi(magnitude, HEAD, field + vein, voxel_size_mm=VOXEL).weights
    else:
        weights = haacke_swi(magnitude, phase, echo_times_s=TIMES, centre_frequency_mhz=MHZ).weights
    deep = (np.hypot(X, Y) < 18) & (np.abs(Z) < 10) & (np.hypot(X - 10, Y) > 6)
    assert np.percentile(weights[deep], 5) > 0.8 * np.median(weights[deep])


def test_the_coil_sensitivity_is_taken_out_and_contrast_stays():
    coil = np.exp(-((X + 30) ** 2 + Y**2) / 60**2).astype("f4")
    contrast = np.where(np.hypot(X, Y + 12) < 4, 0.7, 1.0)
    magnitude = (coil * contrast * HEAD).astype("f4")
    even = magnitude / coil_sensitivity(magnitude, HEAD, sigma_mm=7, voxel_size_mm=VOXEL)
    inner = HEAD & (np.hypot(X, Y) < 20) & (np.abs(Z) < 10)
    plain = inner & (np.hypot(X, Y + 12) > 7)
    assert magnitude[plain].std() / magnitude[plain].mean() > 0.15
    assert even[plain].std() / even[plain].mean() < 0.05
    assert even[inner & (contrast < 1)].mean() / even[plain].mean() == pytest.approx(0.75, abs=0.07)


def test_softplus_keeps_black_black_and_deepens_the_dark():
    ramp = np.linspace(0, 2, 101).astype("f4").reshape(-1, 1, 1)
    scaled = softplus(ramp, np.ones(ramp.shape, bool), knee=0.5)[:, 0, 0]
    assert scaled[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(scaled) > 0).all()
    assert scaled[20] / scaled[80] < ramp[20, 0, 0] / ramp[80, 0, 0]


def test_the_classical_method_takes_the_echo_nearest_to_its_time():
    facts = {fact.key: fact.value for fact in weighted("haacke", np.zeros(SHAPE)).facts}
    assert facts["swi_echo"] == 3  # 20 ms at 3 T


def test_options_do_what_they_say():
    chi = np.where(VEIN, 0.1, 0) + np.random.default_rng(5).normal(0, 0.03, SHAPE)
    gentle, strong = (weighted("clear", chi, options=ClearSwiOptions(strength=s)).weights[VEIN].mean() for s in (2, 8))
    assert 0 < strong < 0.8 * gentle


def test_smwi_darkens_where_the_iron_is_and_nowhere_else():
    chi = np.where(VEIN, 0.5, 0) + np.where(STONE, -1.0, 0)
    magnitude = np.full(SHAPE, 100, "f4")
    result = smwi(magnitude, chi, HEAD)
    np.testing.assert_allclose(result.image[VEIN], 100 * 0.5**4, rtol=1e-5)
    np.testing.assert_allclose(result.image[~VEIN], 100)
    assert smwi(magnitude, chi, HEAD, options=SmwiOptions(threshold=0.4)).image[VEIN].max() == 0
    np.testing.assert_allclose(smwi(magnitude, np.full(SHAPE, np.nan), np.zeros(SHAPE, bool)).image, 100)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_projection_is_the_minimum_of_a_slab_across_the_slices(axis):
    image, mask = np.full((9, 9, 9), 7.0), np.ones((9, 9, 9), bool)
    image[4, 4, 4], mask[0], image[0] = 1, False, 0
    lowest = minimum_projection(image, mask, slices=3, slice_axis=axis)
    dark = np.argwhere(lowest == 1)
    expected = np.tile([4, 4, 4], (3, 1))
    expected[:, axis] = [3, 4, 5]
    np.testing.assert_array_equal(dark, expected)
    assert (lowest[mask & (lowest != 1)] == 7).all()  # what is dark outside the mask does not reach in
    assert (lowest[~mask] == 0).all()


@pytest.mark.parametrize(("spacing", "slices"), [(1.0, 9), (2.0, 5), (3.3, 3), (12.0, 1)])
def test_a_slab_is_as_thick_as_asked_for(spacing, slices):
    assert slices_of(10, spacing) == slices
    assert abs(slices * spacing - 10) <= spacing


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_slices_lie_across_the_same_direction_in_an_oblique_slab_of_any_axes(order):
    turn = np.deg2rad(25)
    affine = np.diag([1.0, 1, 2, 1])
    affine[:3, :3] = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]] @ affine[:3, :3]
    permuted = affine.copy()
    permuted[:3, :3] = affine[:3, list(order)]
    image = nib.Nifti1Image(np.zeros((4, 4, 4), "f4"), permuted)
    axis, how = slice_axis(image)
    assert order[axis] == 2 and "head-foot" in how
    image.header.set_dim_info(0, 2, 1)
    assert slice_axis(image) == (1, "as the header says")
