"""The head holds the tissues that it should, where and as large as it should."""

import numpy as np
import pytest

from qsmprep.phantom import SimulationOptions, simulate_head
from qsmprep.phantom.anatomy import PAIRS, ellipsoid, individual_head, standard_head
from qsmprep.phantom.rendering import render
from qsmprep.phantom.tissues import DEEP_GREY, TISSUES

QUIET = SimulationOptions(voxel_size="2", peak_snr=0, echo_times="0.005")


@pytest.fixture(scope="module")
def head():
    return simulate_head(QUIET)


@pytest.fixture(scope="module")
def maps_and_labels():
    return render(standard_head(), (160, 200, 180), (1.0, 1.0, 1.0), (-79.5, -99.5, -81.5), 3.0)


def test_partial_volumes_add_up_to_the_volume_of_an_ellipsoid():
    body = ellipsoid("bleed", (0.3, -0.2, 0.1), (5, 12, 7))
    maps, _ = render((body,), (20, 34, 12), (1.0, 1.0, 2.0), (-9.5, -16.5, -11.0), 3.0)
    assert maps["brain"].sum() * 2.0 == pytest.approx(4 / 3 * np.pi * 5 * 12 * 7, rel=2e-3)
    assert maps["brain"].min() == 0 and maps["brain"].max() == 1


def test_surfaces_are_sampled_wherever_they_cross_a_voxel():
    """Every voxel equals its 5 x 5 x 5 subsamples, those that were sampled once included."""
    bodies, size, first = standard_head(), 6.0, (-78.0, -96.0, -82.0)
    maps, _ = render(bodies, (27, 33, 30), (size,) * 3, first, 3.0)
    sub = size / 5
    fine, _ = render(bodies, (135, 165, 150), (sub,) * 3, tuple(f - 2 * sub for f in first), 3.0)
    means = fine["brain"].reshape(27, 5, 33, 5, 30, 5).mean(axis=(1, 3, 5))
    pure = (means == 0) | (means == 1)
    np.testing.assert_allclose(maps["brain"][pure], means[pure], atol=0.02)
    assert np.abs(maps["brain"] - means).max() < 0.15


def test_relaxation_rates_of_deep_grey_matter(maps_and_labels):
    maps, labels = maps_and_labels
    r2star = maps["r2"] + maps["r2prime"]
    expected = {"globus_pallidus": 33.6, "white_matter": 19.0, "caudate": 18.3, "ventricle": 4.7}
    for name, rate in expected.items():
        assert np.median(r2star[labels == TISSUES[name].label]) == pytest.approx(rate, abs=0.06)


def test_reversible_rate_is_the_difference(head):
    np.testing.assert_allclose(head.r2star - head.r2, head.r2prime, atol=1e-4)


def test_susceptibilities(head, maps_and_labels):
    maps, labels = maps_and_labels
    chi = maps["chi_para"] - maps["chi_dia"]
    for name in DEEP_GREY:
        tissue = TISSUES[name]
        assert np.median(chi[labels == tissue.label]) == pytest.approx(tissue.para - tissue.dia, abs=1e-6)
    assert np.median(head.chi_ppm[head.region("bone")]) == pytest.approx(-2.1)
    assert head.chi_ppm[0, 0, 0] == pytest.approx(9.2)
    np.testing.assert_allclose(head.chi_para - head.chi_dia, head.chi_ppm, atol=1e-6)


def test_brain_mask_is_the_brain(head):
    assert head.brain_mask.sum() * 8 == pytest.approx(4 / 3 * np.pi * 68 * 82 * 66, rel=0.01)
    assert not np.any(head.brain_mask & (head.region("bone") | head.region("air")))
    assert np.abs(head.chi_ppm[head.brain_mask]).max() < 0.5


def test_every_nucleus_is_there_on_both_sides(head):
    for name, _, _ in PAIRS:
        region = head.region(name)
        assert region[:40].sum() == region[40:].sum() > 0
        np.testing.assert_array_equal(region, region[::-1])


def test_lesions():
    options = SimulationOptions(voxel_size="2", peak_snr=0, echo_times="0.005", calcification=True, bleed=True)
    lesions = simulate_head(options)
    for name, chi in (("calcification", -3.3), ("bleed", 1.0)):
        region = lesions.region(name)
        assert region.sum() * 8 == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.3)
        assert np.all(lesions.brain_mask[region])
        assert lesions.chi_ppm[region].mean() == pytest.approx(chi, rel=0.35)


def test_seven_tesla_relaxes_faster(head):
    strong = simulate_head(SimulationOptions(voxel_size="4", peak_snr=0, echo_times="0.005", field_strength=7.0))
    white = strong.region("white_matter")
    assert np.median(strong.r2[white]) == pytest.approx(1000 / 45.5, rel=1e-4)
    assert np.median(strong.r2prime[white]) == pytest.approx(114 * 7 / 3 * 0.0418, rel=1e-4)
    assert np.median(strong.r1[white]) == pytest.approx(1.2 * 0.725, rel=1e-4)


def same_bodies(one, other):
    return all(a.centre == b.centre and np.array_equal(a.form, b.form) for a, b in zip(one, other, strict=True))


def test_standard_head_whatever_the_seed():
    assert same_bodies(individual_head(SimulationOptions(seed=5), 3), standard_head())


def test_variation_makes_individuals_that_come_back_by_seed():
    options = SimulationOptions(seed=5, variation=0.05)
    assert same_bodies(individual_head(options, 3), individual_head(options, 3))
    assert not same_bodies(individual_head(options, 3), individual_head(options, 4))
    assert not same_bodies(individual_head(options, 3), standard_head())
