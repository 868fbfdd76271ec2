"""Scores: what they are for equal, scaled and empty maps, and that they are what their definitions say."""

import numpy as np
import pytest

from qsmprep.analysis import challenge, similarity
from qsmprep.analysis.metrics import evaluate
from qsmprep.analysis.voxelwise import correlation, demeaned_rmse, detrend, gradient_error, mutual_information, rmse
from qsmprep.phantom.tissues import TISSUES

SHAPE = (26, 24, 22)


@pytest.fixture(scope="module")
def scene():
    """Truth with eight nuclei, tissue, a vein and a calcification; mask; labels."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    labels[mask] = 8
    for number, corner in enumerate(np.ndindex(2, 2, 2), 1):
        place = tuple(slice(3 + 5 * c, 7 + 5 * c) for c in corner)
        labels[place] = number if number <= 7 else 9
    labels[16:20, 16, 3:19] = 11
    labels[18:21, 7:10, 8:11] = 16
    means = {1: 0.044, 2: 0.13, 3: 0.038, 4: 0.1, 5: 0.15, 6: 0.11, 7: 0.02, 8: -0.03, 9: 0.02, 11: 0.3, 16: -1.0}
    truth = np.zeros(SHAPE)
    for label, mean in means.items():
        truth[labels == label] = mean
    truth = np.where(mask, truth + 0.005 * rng.normal(size=SHAPE), 0)
    return truth.astype(np.float32), mask, labels


@pytest.fixture(scope="module")
def noisy(scene):
    truth, mask, _ = scene
    noise = np.random.default_rng(1).normal(scale=0.03, size=SHAPE)
    return np.where(mask, 0.9 * truth + 0.02 + noise, 0).astype(np.float32)


def values(*arguments, **given):
    return {name: score.value for name, score in evaluate(*arguments, **given).items()}


def test_equal_maps_have_no_error_and_full_similarity(scene):
    truth, mask, labels = scene
    found = values(truth, truth, mask, labels)
    for name in ("ssim_challenge", "ssim_sepnet", "xsim", "correlation", "slope", "slope_deep_grey"):
        assert found.pop(name) == pytest.approx(1, abs=1e-9)
    for name in ("psnr_challenge", "psnr_1ppm"):
        assert found.pop(name) == np.inf
    assert found.pop("mutual_information") > 1
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-9)


def test_a_damped_map_errs_by_what_it_lacks(scene):
    truth, mask, labels = scene
    found = values(0.8 * truth, truth, mask, labels)
    for name in ("rmse", "rmse_demeaned", "hfen", "mad", "gxe", "gxe_3d"):
        assert found[name] == pytest.approx(20, rel=1e-5)
    for name in ("rmse_detrended", "rmse_detrended_tissue", "rmse_detrended_blood", "rmse_detrended_deep_grey"):
        assert found[name] == pytest.approx(0, abs=1e-4)
    assert found["deviation_from_slope"] == pytest.approx(0.2, abs=1e-6)
    assert found["slope"] == pytest.approx(0.8, abs=1e-6)


def test_an_empty_map_misses_everything(scene):
    truth, mask, labels = scene
    found = evaluate(np.zeros(SHAPE), truth, mask, labels)
    for name in ("rmse", "rmse_demeaned", "hfen", "mad", "gxe"):
        assert found[name].value == pytest.approx(100)
    assert found["mutual_information"].value == 0
    assert np.isnan(found["correlation"].value)
    assert "ppm" in found["slope"].warning


def test_the_detrended_error_follows_from_the_correlation(scene, noisy):
    truth, mask, labels = scene
    found = values(noisy, truth, mask, labels)
    assert found["rmse_detrended"] == pytest.approx(100 * np.sqrt(1 / found["correlation"] ** 2 - 1))
    region = challenge.regions(mask, labels)["blood"]
    r = correlation(noisy[region].astype(float), truth[region].astype(float))
    assert found["rmse_detrended_blood"] == pytest.approx(100 * np.sqrt(1 / r**2 - 1), rel=1e-5)
    assert detrend(np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 6.0])).slope == pytest.approx(0.5)


def test_the_reference_region_does_not_matter_to_demeaned_scores(scene, noisy):
    truth, mask, labels = scene
    first, shifted = values(noisy, truth, mask, labels), values(noisy + 0.07, truth, mask, labels)
    names = [name for name in first if "demeaned" in name or "detrended" in name or "slope" in name or "calc" in name]
    assert len(names) == 10
    for name in names:
        assert shifted[name] == pytest.approx(first[name], rel=1e-4), name
    assert shifted["rmse"] != pytest.approx(first["rmse"], rel=0.01)


def test_voxels_outside_the_mask_do_not_count(scene, noisy):
    truth, mask, labels = scene
    wild = np.where(mask, noisy, np.nan)
    assert values(wild, np.where(mask, truth, 9), mask, labels) == values(noisy, truth, mask, labels)


@pytest.mark.parametrize("factor", [0.3, 2.0, -1.0])
def test_a_wrong_unit_or_sign_is_warned_of(scene, factor):
    truth, mask, labels = scene
    found = evaluate(factor * truth, truth, mask, labels)
    assert "ppm" in found["slope"].warning
    assert "ppm" in found["slope_deep_grey"].warning
    assert evaluate(0.8 * truth, truth, mask)["slope"].warning == ""


def test_what_cannot_be_compared_is_refused(scene):
    truth, mask, labels = scene
    with pytest.raises(ValueError, match="shape"):
        evaluate(truth[1:], truth, mask)
    with pytest.raises(ValueError, match="labels have shape"):
        evaluate(truth, truth, mask, labels[1:])
    with pytest.raises(ValueError, match="empty"):
        evaluate(truth, truth, 0 * mask)
    with pytest.raises(ValueError, match="finite"):
        evaluate(np.full(SHAPE, np.nan), truth, mask)
    with pytest.raises(ValueError, match="constant"):
        evaluate(truth, np.ones(SHAPE), mask)


def windows(image, half):
    """Every zero-padded window of (2 half + 1)^3 voxels, and the voxel it belongs to."""
    padded = np.pad(image, half)
    for voxel in np.ndindex(image.shape):
        yield voxel, padded[tuple(slice(n, n + 2 * half + 1) for n in voxel)]


def log_kernel():
    n = np.arange(-7, 8)
    squared = sum(x**2.0 for x in np.meshgrid(n, n, n))
    gaussian = np.exp(-squared / (2 * 1.5**2))
    kernel = gaussian / gaussian.sum() * (squared / 1.5**4 - 3 / 1.5**2)
    return kernel - kernel.mean()


def test_the_laplacian_of_gaussian_is_the_sum_over_its_kernel():
    image = np.random.default_rng(2).normal(size=(9, 8, 7))
    kernel = log_kernel()
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    expected = np.zeros(image.shape)
    for voxel, window in windows(image, 7):
        expected[voxel] = (window * kernel).sum()
    np.testing.assert_allclose(similarity.laplacian_of_gaussian(image), expected, atol=1e-10)


def naive_similarity(x, t, half, c1, c2, *, gaussian, sample):
    """SSIM from its definition, window by window."""
    n = np.arange(-half, half + 1)
    squared = sum(d**2.0 for d in np.meshgrid(n, n, n))
    weight = np.exp(-squared / (2 * 1.5**2)) if gaussian else np.ones(squared.shape)
    weight /= weight.sum()
    factor = weight.size / (weight.size - 1) if sample else 1
    result = np.zeros(x.shape)
    for (voxel, a), (_, b) in zip(windows(x, half), windows(t, half), strict=True):
        ma, mb = (weight * a).sum(), (weight * b).sum()
        va, vb = (weight * (a - ma) ** 2).sum() * factor, (weight * (b - mb) ** 2).sum() * factor
        cov = (weight * (a - ma) * (b - mb)).sum() * factor
        result[voxel] = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return result


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(3)
    mask = np.zeros((13, 12, 11), bool)
    mask[4:-4, 4:-4, 4:-4] = True
    truth = np.where(mask, 0.1 * rng.normal(size=mask.shape), 0)
    return np.where(mask, truth + 0.05 * rng.normal(size=mask.shape), 0), truth, mask


def test_xsim_is_its_definition(small):
    x, t, mask = small
    expected = naive_similarity(x, t, 3, 1e-4, 1e-6, gaussian=True, sample=False)[mask].mean()
    assert similarity.xsim(x, t, mask) == pytest.approx(expected, rel=1e-9)


def grey_levels(x, t, in_x, in_t, lowest):
    x, t = np.where(in_x, x - lowest, 0), np.where(in_t, t - lowest, 0)
    return x * 255 / max(x.max(), t.max()), t * 255 / max(x.max(), t.max())


def test_the_challenge_ssim_and_psnr_are_their_definition(small):
    x, t, _ = small
    a, b = grey_levels(x, t, x != 0, t != 0, min(x.min(), t.min()))
    whole = naive_similarity(a, b, 2, 2.55**2, 7.65**2, gaussian=True, sample=False)
    assert similarity.challenge_ssim(x, t) == pytest.approx(whole[a != 0].mean(), rel=1e-9)
    rms = np.sqrt(((a - b) ** 2).mean())
    assert similarity.challenge_psnr(x, t) == pytest.approx(20 * np.log10(255 / rms))


def test_the_sepnet_ssim_is_its_definition(small):
    x, t, mask = small
    a, b = grey_levels(x, t, mask, mask, min(x[mask].min(), t[mask].min()))
    whole = naive_similarity(a, b, 3, 2.55**2, 7.65**2, gaussian=False, sample=True)
    assert similarity.sepnet_ssim(x, t, mask) == pytest.approx(whole[mask].mean(), rel=1e-9)


@pytest.fixture
def structural_similarity(monkeypatch):
    """scikit-image's SSIM with a Gaussian window of a half width of its own, zeros beyond the image.

    Its own Gaussian is 11 voxels wide and mirrors at the edges, whatever `win_size` says; the challenge's has 5 voxels
    and XSIM's 7. All else, the formula included, is scikit-image's.
    """
    module = pytest.importorskip("skimage.metrics._structural_similarity", reason="needs qsmprep[test]")
    gaussian = module.gaussian

    def similarity_map(x, t, half_width=None, **options):
        if half_width is not None:
            monkeypatch.setattr(
                module,
                "gaussian",
                lambda image, **_: gaussian(image, sigma=1.5, truncate=half_width / 1.5, mode="constant"),
            )
        window = {"gaussian_weights": True, "use_sample_covariance": False} if half_width is not None else {}
        return module.structural_similarity(x, t, full=True, win_size=7, **window, **options)[1]

    return similarity_map


def test_xsim_is_scikit_images_ssim_with_its_constants(small, structural_similarity):
    x, t, mask = small
    theirs = structural_similarity(x, t, half_width=3, data_range=1.0, K1=0.01, K2=0.001)
    assert similarity.xsim(x, t, mask) == pytest.approx(theirs[mask].mean(), rel=1e-9)


def test_the_challenge_ssim_is_scikit_images_on_255_grey_levels(small, structural_similarity):
    x, t, _ = small
    a, b = grey_levels(x, t, x != 0, t != 0, min(x.min(), t.min()))
    theirs = structural_similarity(a, b, half_width=2, data_range=255.0)
    assert similarity.challenge_ssim(x, t) == pytest.approx(theirs[a != 0].mean(), rel=1e-9)


def test_the_sepnet_ssim_is_scikit_images_default_over_the_mask(small, structural_similarity):
    """Nothing differs here but the region of the mean: scikit-image takes all voxels but those at the edges."""
    x, t, mask = small
    a, b = grey_levels(x, t, mask, mask, min(x[mask].min(), t[mask].min()))
    theirs = structural_similarity(a, b, data_range=255.0)
    assert similarity.sepnet_ssim(x, t, mask) == pytest.approx(theirs[mask].mean(), rel=1e-9)


def test_errors_and_mutual_information_are_scikit_images(small):
    metrics = pytest.importorskip("skimage.metrics", reason="needs qsmprep[test]")
    x, t, mask = small
    found, true = x[mask], t[mask]
    assert rmse(found, true) == pytest.approx(100 * metrics.normalized_root_mse(true, found))
    assert demeaned_rmse(found, true) == pytest.approx(
        100 * metrics.normalized_root_mse(true - true.mean(), found - found.mean())
    )
    assert similarity.psnr_1ppm(found, true) == pytest.approx(
        metrics.peak_signal_noise_ratio(true, found, data_range=1)
    )
    # Theirs is (H(x) + H(t)) / H(x, t), ours H(x) + H(t) - H(x, t).
    joint = np.histogram2d(found, true, bins=256)[0].ravel() / found.size
    entropy = -(joint[joint > 0] * np.log(joint[joint > 0])).sum()
    normalised = metrics.normalized_mutual_information(found, true, bins=256)
    assert mutual_information(found, true) == pytest.approx((normalised - 1) * entropy)


def test_peak_snr_has_one_ppm_for_the_peak():
    assert similarity.psnr_1ppm(np.full(10, 0.01), np.zeros(10)) == pytest.approx(40)


def test_the_gradient_error_as_published_does_not_see_the_third_axis():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(8, 8, 8))
    wrong = truth + np.arange(8.0) * np.array([1, -1] * 4)
    assert gradient_error(wrong, truth, (1, 1, 1)) == pytest.approx(0, abs=1e-9)
    assert gradient_error(wrong, truth, (1, 1, 1), axes=3) > 50
    assert gradient_error(wrong, truth, (1, 1, 4), axes=3) < gradient_error(wrong, truth, (1, 1, 1), axes=3)


def test_mutual_information_of_equal_maps_is_their_entropy_and_of_unrelated_ones_is_nothing():
    four = np.repeat(np.arange(4.0), 100)
    assert mutual_information(four, four) == pytest.approx(np.log(4))
    assert mutual_information(four, np.tile(np.arange(100.0), 4)) == pytest.approx(0, abs=1e-9)


def test_the_calcification_is_found_by_what_lies_below_its_surroundings(scene):
    truth, mask, labels = scene
    assert TISSUES["calcification"].label == challenge.CALCIFICATION
    box = tuple(slice(a, b) for a, b in ((18, 21), (7, 10), (8, 11)))
    segment = challenge.calcification_voxels(truth, box)
    assert segment.size == 27
    assert challenge.calcification_moment(truth, box) == pytest.approx(27 * segment.mean())
    moment = challenge.calcification_moment(truth, box)
    weaker = np.where(labels == 16, 0.5 * truth, truth)
    found = values(weaker, truth, mask, labels)["deviation_from_calcification_moment"]
    assert found == pytest.approx(abs(moment) / 2, rel=0.05)


def test_streaks_around_the_calcification_are_measured_against_it(scene):
    truth, mask, labels = scene
    streaks = truth + np.where(mask, 0.1 * np.random.default_rng(5).normal(size=SHAPE), 0)
    found = values(streaks, truth, mask, labels)["calcification_streak"]
    assert found == pytest.approx(0.1, rel=0.2)


def test_absent_tissues_are_said_to_be_absent(scene):
    truth, mask, _ = scene
    found = evaluate(truth, truth, mask, np.full(SHAPE, 8))
    assert np.isnan(found["calcification_streak"].value)
    assert "calcification" in found["calcification_streak"].warning
    assert "nuclei" in found["slope_deep_grey"].warning
    assert "tissue" in found["rmse_detrended_blood"].warning
    assert found["rmse_detrended_tissue"].value == pytest.approx(0, abs=1e-6)


def test_the_numbers_of_the_tissues_are_those_of_the_simulated_head():
    named = {label: name for name, label in ((name, tissue.label) for name, tissue in TISSUES.items())}
    assert [named[label] for label in challenge.DEEP_GREY] == [
        "caudate", "globus_pallidus", "putamen", "red_nucleus", "dentate_nucleus", "substantia_nigra",
    ]  # fmt: skip
    assert [named[label] for label in challenge.TISSUE] == ["thalamus", "white_matter", "grey_matter"]
    assert [named[label] for label in challenge.BLOOD] == ["vein"]
