"""MEDI: its edges, its filter, its error reduction, and that it minimises its cost."""

from dataclasses import replace

import numpy as np
import pytest

from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.inversion.medi import MediOptions, medi
from qsmprep.inversion.medi_core import data_weights, discounted_noise, voxel_noise
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient


@pytest.mark.parametrize("percentage", [0.3, 0.9])
def test_share_of_edges_counts_three_components_against_one_mask(head, percentage):
    penalised = edge_mask(head.magnitude, head.mask, (1, 1, 1), percentage)
    assert np.count_nonzero(~penalised) == pytest.approx(percentage * head.mask.sum(), rel=0.01)
    steps = np.abs(gradient(head.magnitude, (1, 1, 1)))
    assert steps[~penalised].min() >= steps[penalised].max()


def test_image_without_contrast_has_no_edges():
    assert edge_mask(np.zeros((4, 5, 6)), np.ones((4, 5, 6), bool), (1, 1, 1), 0.9).all()


def test_data_weights_have_mean_one_and_skip_unknown_noise():
    noise = np.array([[[1.0, 2.0, 0.0, 4.0]]], np.float32)
    mask = np.array([[[True, True, True, False]]])
    weights = data_weights(noise, mask)
    assert weights[mask].mean() == pytest.approx(1)
    np.testing.assert_allclose(weights, [[[2.0, 1.0, 0.0, 0.0]]])
    with pytest.raises(ValueError, match="data weight"):
        data_weights(0 * noise, mask)


def test_result_minimises_the_published_cost(head):
    options = MediOptions(
        smv_radius=0.0, merit=False, tolerance=1e-3, max_iterations=3000, padding=0, kernel="continuous"
    )
    full = np.ones_like(head.mask)[:36, :45, :40]
    field, magnitude = head.field[4:40, 3:48, 2:42], head.magnitude[4:40, 3:48, 2:42]
    scale = radians_per_ppm(head.scan)
    x = medi(field, full, magnitude_rss=magnitude, weights=full, options=options, scan=head.scan).chi_ppm * scale
    dipole = dipole_kernel(full.shape, (1, 1, 1))
    penalised = edge_mask(magnitude, full, (1, 1, 1), 0.9)

    def cost(image):
        misfit = 2 - 2 * np.cos((irfftn(rfftn(image) * dipole, full.shape) - field * scale).astype(float))
        return 2000 * misfit.sum() + np.abs(penalised * gradient(image, (1, 1, 1))).sum(dtype=float)

    assert cost(x) < cost(head.chi[4:40, 3:48, 2:42] * scale)
    random = np.random.default_rng(6)
    bump = np.zeros_like(x)
    bump[15:20, 20:25, 18:23] = 1
    for direction in (x, bump, random.standard_normal(x.shape).astype(np.float32), np.sign(x)):
        for step in (-0.02, 0.02):
            assert cost(x) < cost(x + np.float32(step) * direction) * (1 + 1e-5)


def test_filter_erodes_the_mask_by_its_radius_and_removes_a_harmonic_field(head):
    x, y, _ = np.meshgrid(*(np.arange(n) - n / 2 for n in head.field.shape), indexing="ij")
    remnant = (4e-3 * x + 2e-4 * (x * x - y * y)).astype(np.float32)
    inputs = dict(magnitude_rss=head.magnitude, scan=head.scan, options=MediOptions(smv_radius=4.0))
    clean = medi(head.field, head.mask, **inputs)
    spoiled = medi((head.field + remnant) * head.mask, head.mask, **inputs)
    assert 0.2 * head.mask.sum() < clean.mask.sum() < 0.7 * head.mask.sum()
    assert np.linalg.norm(spoiled.chi_ppm - clean.chi_ppm) < 0.05 * np.linalg.norm(clean.chi_ppm)
    with pytest.raises(ValueError, match="smv_radius"):
        medi(head.field, head.mask, **inputs | {"options": MediOptions(smv_radius=25.0)})


def test_merit_discounts_only_voxels_beyond_six_deviations():
    shape = (12, 12, 12)
    random = np.random.default_rng(7)
    phase = 0.01 * random.standard_normal(shape).astype(np.float32)
    phase[3, 4, 5] = 1.5
    ones = np.ones(shape, np.float32)
    noise = discounted_noise(ones, ones, phase, 0 * ones, ones > 0)
    assert noise[3, 4, 5] > 3
    noise[3, 4, 5] = 1
    assert np.all(noise == 1)


def test_merit_lowers_the_error_that_a_few_wrong_voxels_make(head):
    spoiled = head.field.copy()
    spoiled[::9, ::9, ::9] += 0.3
    spoiled *= head.mask
    on, off = (
        medi(spoiled, head.mask, magnitude_rss=head.magnitude, scan=head.scan,
             options=MediOptions(smv_radius=0.0, merit=merit, kernel="continuous"))
        for merit in (True, False)
    )  # fmt: skip
    assert head.error(on.chi_ppm) < 0.9 * head.error(off.chi_ppm)


def test_noise_takes_precedence_and_its_scale_does_not_matter(head):
    noise = 1 / np.maximum(head.magnitude, 0.1)
    inputs = dict(magnitude_rss=head.magnitude, scan=head.scan, options=MediOptions(smv_radius=2.0))
    first = medi(head.field, head.mask, noise_hz=noise, weights=head.mask, **inputs)
    second = medi(head.field, head.mask, noise_hz=50 * noise, **inputs)
    np.testing.assert_allclose(first.chi_ppm, second.chi_ppm, atol=1e-4)


def test_noise_is_measured_beside_a_smooth_field(head):
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in head.field.shape), indexing="ij")
    smooth = 0.02 * x + 1e-3 * (x * y + z * z - y * y)
    noisy = smooth + 0.004 * np.random.default_rng(2).standard_normal(smooth.shape)
    assert voxel_noise(noisy.astype(np.float32), head.mask) == pytest.approx(0.004, rel=0.2)
    assert voxel_noise(noisy.astype(np.float32), head.mask & False) == 0


def test_noisy_field_gets_less_data_weight_and_no_streaks(head_factory):
    noisy = head_factory(noise=0.006)
    inputs = {"field_ppm": noisy.field, "mask": noisy.mask, "magnitude_rss": noisy.magnitude, "scan": noisy.scan}
    found = medi(**inputs, options=MediOptions(smv_radius=0.0))
    given = medi(**inputs, options=MediOptions(smv_radius=0.0, adapt_to_noise=False))
    served = {fact.key: fact.value for fact in found.facts}["data_weight"]
    assert served < 400 and {fact.key: fact.value for fact in given.facts}["data_weight"] == 2000
    assert noisy.error(found.chi_ppm) < 0.6 * noisy.error(given.chi_ppm)


def test_the_spherical_mean_filter_takes_as_much_of_the_brain_whatever_the_voxels(head):
    options = MediOptions(smv_radius=4.0, max_iterations=1, merit=False)
    found = medi(head.field, head.mask, scan=head.scan, options=options)

    def share_kept(thinned, voxel_size_mm):
        scan = replace(head.scan, voxel_size_mm=voxel_size_mm)
        kept = medi(head.field[thinned], head.mask[thinned], scan=scan, options=options).mask
        return kept.sum() / head.mask[thinned].sum()

    share = found.mask.sum() / head.mask.sum()
    half, whole = slice(None, None, 2), slice(None)
    assert share_kept((whole, whole, half), (1.0, 1.0, 2.0)) == pytest.approx(share, rel=0.12)
    assert share_kept((half, half, half), (2.0, 2.0, 2.0)) == pytest.approx(share, rel=0.2)
