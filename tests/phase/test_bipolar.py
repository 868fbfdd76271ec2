"""Bipolar readout: found in wrapped phase and taken off; a monopolar head is left as it is."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from qsmprep import pipeline
from qsmprep.masking.robust import signal_threshold
from qsmprep.numerics.units import TWO_PI
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phase.bipolar import find_bipolar, readout_warnings, remove_bipolar, takes_plane
from qsmprep.phase.mcpc3ds import mcpc3ds
from qsmprep.scan import Scan
from qsmprep.unwrap.romeo import romeo

UNEVEN = "0.004,0.011,0.016,0.027"
SHORT = "0.004,0.008,0.020"
AT_7T = {"field_strength": 7.0, "echo_times": "0.004,0.008,0.012,0.016,0.020"}
AT_1_5T = {"field_strength": 1.5, "echo_times": "0.005,0.015,0.025,0.035,0.045"}


@cache
def head(**options):
    return simulate_head(SimulationOptions(voxel_size="6", **options))


def planes(shape, slopes, constant):
    """A plane in rad that has these slopes over half of the field of view."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.tensordot(slopes, axes, 1) + constant


def read_bipolar(scan, plane):
    """Wrapped phase of the head as a bipolar readout gives it: odd echoes gain the plane, even ones lose it."""
    signs = np.where(np.arange(len(scan.phase)) % 2, -1, 1)[:, None, None, None]
    return np.angle(np.exp(1j * (scan.phase + signs * plane))).astype(np.float32)


def found_in(scan, phase):
    combined = np.sqrt((scan.magnitude**2).sum(0))
    seen = combined > signal_threshold(combined)
    return find_bipolar(phase, scan.magnitude, scan=scan.scan, mask=seen), seen


def field_error_hz(scan, phase, bipolar=False):
    """Median error of the total field in the brain, of which a constant does not count."""
    inside = scan.brain_mask
    offset = mcpc3ds(phase, scan.magnitude, scan=scan.scan, mask=inside, bipolar=bipolar)
    echoes = romeo(offset.phase, scan=scan.scan, magnitude=scan.magnitude, mask=inside).phase
    times = scan.echo_times_s[:, None, None, None]
    weight = (scan.magnitude * times) ** 2
    field = (weight * echoes / (TWO_PI * times)).sum(0) / weight.sum(0)
    error = (field - scan.total_field_hz)[inside]
    return np.median(np.abs(error - np.median(error)))


@pytest.mark.parametrize(
    "options",
    [
        {}, {"peak_snr": 10.0}, {"echo_times": UNEVEN}, {"echo_times": SHORT}, AT_7T, AT_1_5T,
        {"bleed": True, "calcification": True, "tilt_x": 20.0}, {"seed": 3, "variation": 0.05, "texture": 0.02},
    ],
)  # fmt: skip
def test_a_monopolar_head_is_far_below_the_limit(options):
    scan = head(**options)
    found, _ = found_in(scan, scan.phase)
    assert found.range_rad < 0.03
    assert not found.is_there
    assert not takes_plane("auto", found)
    assert not readout_warnings(found, "auto")


@pytest.mark.parametrize("times", [None, UNEVEN, SHORT])
@pytest.mark.parametrize("gradient_hz", [0.0, 60.0, 150.0])
def test_a_bad_shim_is_no_bipolar_readout(times, gradient_hz):
    scan = head(**({"echo_times": times} if times else {}))
    extra = planes(scan.phase.shape[1:], (0.0, gradient_hz, gradient_hz / 3), 60.0)  # off the centre frequency too
    shift = TWO_PI * extra * scan.echo_times_s[:, None, None, None]
    found, _ = found_in(scan, np.angle(np.exp(1j * (scan.phase + shift))).astype(np.float32))
    assert found.range_rad < 0.03


@pytest.mark.parametrize(
    ("slopes", "constant", "options"),
    [
        ((0.15, 0, 0), 0.0, {}),
        ((-0.5, 0, 0), -0.2, {}),
        ((2.0, 1.0, -0.5), 0.6, {}),  # several turns over the head
        ((0, 0.3, 0), 1.2, {}),  # nearer to the other plane that the products allow
        ((0.4, 0, 0.2), 0.3, {"echo_times": UNEVEN}),
        ((0.4, 0, 0.2), -1.0, {"echo_times": SHORT}),
        ((0.4, 0, 0), 0.2, AT_7T),
        ((0.4, 0, 0), 0.2, {"peak_snr": 20.0}),
        ((0, 0, 0.4), 0.2, {"bleed": True, "calcification": True}),
    ],
)
def test_the_plane_is_found_and_the_monopolar_phase_comes_back(slopes, constant, options):
    scan = head(**options)
    plane = planes(scan.phase.shape[1:], slopes, constant)
    phase = read_bipolar(scan, plane)
    found, seen = found_in(scan, phase)
    assert found.is_there
    assert found.range_rad == pytest.approx(2 * np.ptp(plane[seen]), abs=0.01)
    remove_bipolar(phase, found)
    # Every second echo by pi is an offset of the phase and no field; only the difference of odd and even echoes counts.
    left = np.angle(np.exp(1j * (phase - scan.phase)))[:, scan.brain_mask]
    assert np.abs(np.angle(np.exp(1j * (left[1:] - left[:-1])))).max() < 0.02


def test_the_field_is_as_good_as_that_of_monopolar_echoes():
    scan = head()
    phase = read_bipolar(scan, planes(scan.phase.shape[1:], (0.5, 0, 0), 0.2))
    monopolar = field_error_hz(scan, scan.phase)
    assert monopolar < 0.06
    assert field_error_hz(scan, phase) > 2
    assert field_error_hz(scan, phase, bipolar=True) < 1.1 * monopolar
    remove_bipolar(phase, found_in(scan, phase)[0])
    assert field_error_hz(scan, phase) < 1.01 * monopolar


def test_a_monopolar_head_comes_out_bit_for_bit():
    scan = head()
    kept, looked = (
        pipeline.prepare(scan.magnitude, scan.phase, scan.scan, options={"input": {"bipolar": choice}})
        for choice in ("off", "auto")
    )
    assert np.array_equal(kept.phase, looked.phase)
    assert [record.stage for record in looked.records] == ["phase-offset"]


def test_arrays_are_corrected_as_files_are_and_the_input_is_left_alone():
    scan = head()
    phase = read_bipolar(scan, planes(scan.phase.shape[1:], (0.5, 0, 0), 0.2))
    given = phase.copy()
    echoes = pipeline.prepare(scan.magnitude, phase, scan.scan)
    monopolar = pipeline.prepare(scan.magnitude, scan.phase, scan.scan)
    assert np.array_equal(phase, given)
    left = np.angle(np.exp(1j * (echoes.phase - monopolar.phase)))[:, scan.brain_mask]
    assert np.abs(left).max() < 0.02
    assert [warning.code for warning in echoes.records[0].warnings] == ["bipolar-readout"]


def test_what_is_no_plane_is_left_to_the_smooth_map():
    scan = head()
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in scan.phase.shape[1:]), indexing="ij")
    phase = read_bipolar(scan, 0.4 * x + 0.2 * (x**2 - y**2))
    assert field_error_hz(scan, phase, bipolar=True) < 0.06
    remove_bipolar(phase, found_in(scan, phase)[0])
    assert 0.3 < field_error_hz(scan, phase) < 1


def test_vessels_and_fat_do_not_bend_the_plane():
    scan = head()
    plane = planes(scan.phase.shape[1:], (0.3, 0, 0), 0.1)
    phase = read_bipolar(scan, plane)
    edge = np.zeros(plane.shape, bool)
    edge[::3, :6] = True  # phase that is not linear in echo time, on one side of the head
    phase[1, edge] += 1.5
    found, seen = found_in(scan, phase)
    assert found.range_rad == pytest.approx(2 * np.ptp(plane[seen]), abs=0.05)


def test_voxels_that_are_not_finite_are_left_out():
    scan = head()
    phase, magnitude = scan.phase.copy(), scan.magnitude.copy()
    phase[0, 10:14], magnitude[1, 14:16] = np.nan, np.inf
    found = find_bipolar(phase, magnitude, scan=scan.scan, mask=scan.brain_mask)
    assert found.range_rad < 0.01


def test_where_it_cannot_be_known():
    scan = head()
    two, mask = replace(scan.scan, echo_times_s=scan.scan.echo_times_s[:2]), scan.brain_mask
    assert find_bipolar(scan.phase[:2], scan.magnitude[:2], scan=two, mask=mask) is None
    few = np.zeros_like(mask)
    few[10:15, 10:15, 10:15] = True
    assert find_bipolar(scan.phase, scan.magnitude, scan=scan.scan, mask=few) is None
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, scan.phase.shape).astype(np.float32)
    assert find_bipolar(noise, scan.magnitude, scan=scan.scan, mask=mask) is None
    assert not takes_plane("plane", None)
    assert [warning.code for warning in readout_warnings(None, "plane")] == ["bipolar-unknown"]
    assert not readout_warnings(None, "auto")


def test_a_single_slice_has_no_slope_across():
    scan = head()
    plane = planes(scan.phase.shape[1:], (0.3, 0, 0), 0.1)
    phase = read_bipolar(scan, plane)[..., 14:15]
    found = find_bipolar(phase, scan.magnitude[..., 14:15], scan=scan.scan, mask=scan.brain_mask[..., 14:15])
    assert found.slopes[2] == 0
    assert found.range_rad == pytest.approx(2 * np.ptp(plane[..., 14:15][scan.brain_mask[..., 14:15]]), abs=0.01)


def test_shapes_that_do_not_fit_are_refused():
    phase = np.zeros((3, 8, 8, 8), np.float32)
    scan = Scan((1, 1, 1), echo_times_s=(0.001, 0.002))
    with pytest.raises(ValueError, match="do not fit"):
        find_bipolar(phase, phase[:2], scan=scan, mask=phase[0] == 0)
    with pytest.raises(ValueError, match="2 echo times"):
        find_bipolar(phase, phase, scan=scan, mask=phase[0] == 0)
