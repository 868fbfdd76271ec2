"""ROMEO restores smooth phase exactly and says what it could not reach."""

import numpy as np
import pytest

from qsmprep.scan import Scan
from qsmprep.unwrap import growing, regions
from qsmprep.unwrap.forest import unwrap_by_forest
from qsmprep.unwrap.romeo import RomeoOptions, romeo
from qsmprep.unwrap.weights import PRESETS, active_terms, edge_costs

TWO_PI = 2 * np.pi
SHAPE = (31, 34, 27)
TIMES = np.array([0.004, 0.0095, 0.013])  # ratios that are no integers


def at(times):
    """A scan of 1 mm voxels with those echo times."""
    return Scan((1, 1, 1), echo_times_s=times)


def wrap(phase):
    return (phase - TWO_PI * np.rint(phase / TWO_PI)).astype(np.float32)


def coordinates(shape=SHAPE):
    return np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")


@pytest.fixture
def quadratic():
    """Phase of three echoes that spans ten turns in the first, steps below pi in it; larger steps in the last."""
    x, y, z = coordinates()
    first = TWO_PI * (2.4 * x**2 + 3.2 * y + 1.6 * z * x)
    return np.stack([first * t / TIMES[0] for t in TIMES]).astype(np.float32)


def turns(unwrapped, truth, mask=None):
    difference = (unwrapped - truth) / TWO_PI
    return np.rint(difference) if mask is None else np.rint(difference[..., mask])


def test_quadratic_phase_of_ten_turns_is_restored_exactly(quadratic):
    assert np.ptp(quadratic[0]) / TWO_PI > 10
    result = romeo(wrap(quadratic), scan=at(TIMES))
    np.testing.assert_allclose(result.phase, quadratic, atol=1e-4)
    assert (result.isolated_voxels, result.regions) == (0, 1)
    assert result.phase.dtype == result.quality.dtype == np.float32


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tree", ["grown", "sorted"])
def test_every_preset_and_tree_restores_smooth_phase(quadratic, preset, tree):
    magnitude = np.full_like(quadratic, 100)
    options = RomeoOptions(weights=preset, tree=tree)
    result = romeo(wrap(quadratic), scan=at(TIMES), magnitude=magnitude, options=options)
    np.testing.assert_allclose(result.phase, quadratic, atol=1e-4)
    assert 0 <= result.quality.min() <= result.quality.max() <= 1


@pytest.mark.parametrize("template", [1, 2])
def test_any_template_echo_gives_the_same_phase(quadratic, template):
    gentle = quadratic / 3
    result = romeo(wrap(gentle), scan=at(TIMES), options=RomeoOptions(template_echo=template))
    np.testing.assert_allclose(result.phase, gentle, atol=1e-4)


def test_single_image_is_restored_up_to_whole_turns(quadratic):
    result = romeo(wrap(quadratic[0]), scan=at(TIMES[:1]))
    assert result.phase.shape == SHAPE
    offset = turns(result.phase, quadratic[0])
    assert np.ptp(offset) == 0
    assert abs(np.median(np.rint(result.phase / TWO_PI))) == 0


def test_result_differs_from_the_input_by_whole_turns_in_noise_too():
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, (3, 12, 13, 14)).astype(np.float32)
    for options in (RomeoOptions(), RomeoOptions(individual=True), RomeoOptions(temporal_uncertain=0.5)):
        result = romeo(noise, scan=at(TIMES), options=options)
        whole = (result.phase - noise) / TWO_PI
        np.testing.assert_allclose(whole, np.rint(whole), atol=1e-5)


def test_individual_mode_unwraps_echoes_with_phase_offsets(quadratic):
    x, y, _ = coordinates()
    gentle = quadratic / 4 + 2 * (x + y**2)  # an offset the echo times know nothing of
    result = romeo(wrap(gentle), scan=at(TIMES), options=RomeoOptions(individual=True))
    for unwrapped, truth in zip(result.phase, gentle, strict=True):
        assert np.ptp(turns(unwrapped, truth)) == 0


def test_two_separate_objects_are_both_unwrapped(quadratic):
    x = coordinates()[0]
    mask = np.abs(x) > 0.3
    phase = wrap(quadratic)
    phase[:, ~mask] = 0
    for tree in ("grown", "sorted"):
        result = romeo(phase, scan=at(TIMES), mask=mask, options=RomeoOptions(tree=tree))
        assert (result.regions, result.isolated_voxels) == (2, 0)
        for side in (x > 0.3, x < -0.3):
            assert np.ptp(turns(result.phase[0], quadratic[0], side)) == 0
        assert not result.phase[:, ~mask].any()


def test_object_of_pure_noise_does_not_corrupt_its_neighbour(quadratic):
    x = coordinates()[0]
    noise = np.random.default_rng(1).uniform(-np.pi, np.pi, quadratic.shape).astype(np.float32)
    good = x < 0.2
    phase, magnitude = np.where(good, wrap(quadratic), noise), np.where(good, 100.0, 3.0) + 0 * quadratic
    for tree in ("grown", "sorted"):
        result = romeo(phase, scan=at(TIMES), magnitude=magnitude, options=RomeoOptions(tree=tree))
        assert np.ptp(turns(result.phase[0], quadratic[0], good)) == 0
        assert result.quality[x < 0.1].mean() > 3 * result.quality[x > 0.3].mean()


def test_nan_and_zero_magnitude_do_no_harm(quadratic):
    phase, magnitude = wrap(quadratic), np.full_like(quadratic, 50)
    phase[:, 10, 10, 10] = np.nan
    phase[1, 5, 6, 7] = np.nan  # in one echo alone
    magnitude[:, 20:22, 20, 20] = 0
    magnitude[0, 3, 3, 3] = np.nan
    for preset in PRESETS:
        result = romeo(phase, scan=at(TIMES), magnitude=magnitude, options=RomeoOptions(weights=preset))
        assert np.isfinite(result.phase).all()
        assert np.isfinite(result.quality).all()
        assert result.isolated_voxels >= 1
        finite = np.isfinite(phase).all(axis=0)
        np.testing.assert_allclose(result.phase[:, finite], quadratic[:, finite], atol=1e-4)
        assert result.phase[0, 10, 10, 10] == 0


def test_isolated_voxels_keep_their_value_and_are_counted(quadratic):
    mask = np.zeros(SHAPE, bool)
    mask[5:15, 5:15, 5:15] = True
    mask[25, 25, 25] = mask[28, 30, 20] = True
    phase = wrap(quadratic)
    result = romeo(phase, scan=at(TIMES), mask=mask, options=RomeoOptions(correct_global=False))
    assert result.isolated_voxels == 2
    assert result.phase[0, 25, 25, 25] == phase[0, 25, 25, 25]


def test_global_turns_follow_the_echoes_not_the_median():
    # A field whose first echo truly stands one turn away from zero everywhere.
    x, _, _ = coordinates()
    truth = np.stack([(TWO_PI * 1.1 + x) * t / TIMES[0] for t in TIMES]).astype(np.float32)
    result = romeo(wrap(truth), scan=at(TIMES))
    np.testing.assert_allclose(result.phase, truth, atol=1e-4)


def test_merged_regions_meet_without_a_jump(quadratic):
    options = RomeoOptions(max_seeds=40, merge_regions=True, correct_regions=True)
    rng = np.random.default_rng(2)
    noisy = quadratic / 3 + 0.4 * rng.standard_normal(quadratic.shape).astype(np.float32)
    result = romeo(wrap(noisy[0]), scan=at(TIMES[:1]), options=options)
    assert result.regions == 1
    assert np.ptp(turns(result.phase, noisy[0])) == 0


def test_merging_counts_the_turns_of_regions_in_between():
    # Three slabs; each meets the next one turn too low, so the last has to rise by two.
    truth = np.zeros((30, 4, 4), np.float32)
    labels = np.repeat(np.array([1, 2, 3], np.uint8), 160).reshape(30, 4, 4).copy()
    labels[9] = 1
    phase = truth - np.float32(TWO_PI) * (labels - 1)
    costs = edge_costs(truth, mask=np.ones(truth.shape, bool))
    assert regions.merge_regions(phase, labels, costs, 3) == 1
    assert np.ptp(np.rint(phase / TWO_PI)) == 0
    assert np.unique(labels).size == 1


def test_wrap_addition_allows_steps_above_pi_along_a_slope():
    ramp = np.zeros((40, 3, 3), np.float32)
    slopes = np.linspace(0.2, 3.9, 39)
    ramp[1:] = np.cumsum(slopes)[:, None, None]
    plain = romeo(wrap(ramp), scan=at([0.01]))
    steep = romeo(wrap(ramp), scan=at([0.01]), options=RomeoOptions(wrap_addition=1.5, weights="romeo2"))
    assert np.ptp(turns(plain.phase, ramp)) > 0
    assert np.ptp(turns(steep.phase, ramp)) == 0


def test_uncertain_voxels_are_unwrapped_in_space():
    x, y, _ = coordinates((25, 25, 25))
    truth = np.stack([3 * (x + y) * t / TIMES[0] for t in TIMES]).astype(np.float32)
    vein = x**2 + y**2 < 1e-6  # one voxel wide
    shifted = truth.copy()
    shifted[0, vein] += 2.5  # the first echo misleads the others: its prediction for echo 3 is off by more than pi
    phase = wrap(shifted)
    plain = romeo(phase, scan=at(TIMES))
    careful = romeo(phase, scan=at(TIMES), options=RomeoOptions(temporal_uncertain=0.5))
    wrong = [np.count_nonzero(turns(result.phase[2], truth[2])) for result in (plain, careful)]
    assert wrong[0] > 0.5 * np.count_nonzero(vein)
    assert wrong[1] == 0


def test_grown_and_sorted_trees_agree_where_there_is_signal():
    x, y, z = coordinates((40, 40, 40))
    rng = np.random.default_rng(3)
    phase = wrap(14 * x * y + 9 * z**2 + 0.5 * rng.standard_normal(x.shape))
    costs = edge_costs(phase, mask=np.ones(x.shape, bool), preset="romeo4")
    grown, sorted_ = phase.copy(), phase.copy()
    mask = np.ones(x.shape, bool)
    growing.grow(grown, costs, mask)
    unwrap_by_forest(sorted_, costs, mask)
    assert np.mean(np.rint((grown - sorted_) / TWO_PI) != 0) < 1e-3


def test_romeo_preset_is_that_of_the_application():
    np.testing.assert_array_equal(active_terms("romeo", True, True), active_terms("romeo3", True, True))
    np.testing.assert_array_equal(active_terms("romeo", True, False), active_terms("romeo4", True, False))


def test_bestpath_costs_sit_on_their_own_edges():
    # One rough voxel makes its 26 neighbours rough; an edge is costly when both its ends are.
    x, _, _ = coordinates((15, 15, 15))
    phase = (0.2 * x).astype(np.float32)
    phase[7, 7, 7] += 2
    costs = edge_costs(phase, mask=np.ones(phase.shape, bool), preset="bestpath")
    for axis in range(3):
        costly = np.argwhere(costs[..., axis] > 1)
        np.testing.assert_array_equal(costly.min(axis=0), [6, 6, 6])
        np.testing.assert_array_equal(costly.max(axis=0), [8 - (a == axis) for a in range(3)])


def test_same_bits_for_any_number_of_threads(quadratic):
    from qsmprep.numerics.threads import use_threads

    magnitude = np.abs(quadratic) + 1
    results = []
    for count in (1, 2):
        with use_threads(count):
            results.append(romeo(wrap(quadratic), scan=at(TIMES), magnitude=magnitude))
    np.testing.assert_array_equal(results[0].phase, results[1].phase)
    np.testing.assert_array_equal(results[0].quality, results[1].quality)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros(SHAPE, bool)}, "empty"),
        ({"scan": TIMES[:2]}, "echo times"),
        ({"scan": 1e3 * TIMES}, "milliseconds"),
        ({"options": RomeoOptions(template_echo=4)}, "Template echo 4"),
        ({"options": RomeoOptions(weights="best")}, "choose one of"),
        ({"options": RomeoOptions(tree="sorted", max_seeds=2)}, "one seed"),
        ({"magnitude": np.ones(SHAPE)[None]}, "Magnitude"),
    ],
)
def test_bad_input_is_named(quadratic, change, message):
    with pytest.raises(ValueError, match=message):
        romeo(wrap(quadratic), **{**change, "scan": at(change.get("scan", TIMES))})
