"""Coils with offsets of several turns: combined, only what evolves is left; and where they do not fit it is told."""

from functools import cache

import numpy as np
import pytest

from qsmprep.coils import aspire, mcpc3ds
from qsmprep.coils.aspire import aspire_applies
from qsmprep.coils.images import CoilArrays
from qsmprep.phase.fringes import fringe_warnings, open_fringes
from qsmprep.scan import Scan

TWO_PI = 2 * np.pi
SHAPE, VOXEL, COILS = (52, 62, 48), (3.5, 3.5, 3.5), 8
TIMES = {"aspire": (0.005, 0.010, 0.016), "mcpc-3d-s": (0.005, 0.0112, 0.0174)}
COMBINE = {"aspire": aspire, "mcpc-3d-s": mcpc3ds}


def wrap(phase):
    return phase - TWO_PI * np.rint(phase / TWO_PI)


@cache
def head():
    """Coordinates in mm, a mask, and a field in Hz that wraps between the echoes."""
    x, y, z = np.meshgrid(*[(np.arange(n) - n // 2) * h for n, h in zip(SHAPE, VOXEL, strict=True)], indexing="ij")
    mask = (x / 75) ** 2 + (y / 92) ** 2 + (z / 70) ** 2 < 1
    field = 60 * np.exp(-(x**2 + (y - 65) ** 2 + (z + 35) ** 2) / 900) + 0.3 * z + 8 * np.sin(x / 15) * np.cos(y / 17)
    return x, y, z, mask, field - 10


@cache
def sensitivities():
    """Eight coils around the head: planes and parabolas of two turns and more; one has a steep local offset."""
    x, y, z, *_ = head()
    random = np.random.default_rng(1)
    found = []
    for coil in range(COILS):
        angle = TWO_PI * coil / COILS
        a, b, c = 110 * np.cos(angle), 125 * np.sin(angle), 40 * (-1) ** coil
        strength = (1 + ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 90**2) ** -1.5
        plane = random.normal(size=3)
        plane *= TWO_PI * 2.5 / 160 / np.linalg.norm(plane)
        phase = plane[0] * x + plane[1] * y + plane[2] * z + random.uniform(-3, 3)
        phase += TWO_PI * 0.8 * ((x - a / 3) ** 2 + (y - b / 3) ** 2) / 95**2
        if coil == 3:
            phase += 4 * np.exp(-((x - 0.45 * a) ** 2 + (y - 0.45 * b) ** 2 + (z - 10) ** 2) / (2 * 15**2))
        found.append(strength * np.exp(1j * phase))
    return np.array(found)


@cache
def images(times, snr=100.0, even=0.0):
    """Complex images (n_coil, n_echo, ...); `snr` is that of the coils together, in the middle of its range."""
    x, _, _, mask, field = head()
    evolved = [mask * np.exp(-20 * t + 1j * (TWO_PI * field * t + even * x * (n % 2))) for n, t in enumerate(times)]
    signal = (sensitivities()[:, None] * np.array(evolved)[None]).astype(np.complex64)
    level = np.median(np.sqrt(np.sum(np.abs(signal[:, 0]) ** 2, 0))[mask]) / snr
    random = np.random.default_rng(2)
    noise = random.standard_normal(signal.shape, np.float32) + 1j * random.standard_normal(signal.shape, np.float32)
    return signal + np.float32(level) * noise


def arrays(signal):
    return CoilArrays(np.abs(signal), np.angle(signal))


@cache
def combined(name, snr=100.0):
    times = TIMES[name]
    return COMBINE[name](arrays(images(times, snr)), scan=Scan(VOXEL, echo_times_s=times))


def error(phase, time):
    """What the phase shows beyond the field's, in the mask, after one constant."""
    *_, mask, field = head()
    beyond = (phase - TWO_PI * field * time)[mask]
    return wrap(beyond - np.angle(np.mean(np.exp(1j * beyond))))


@pytest.mark.parametrize("name", TIMES)
def test_only_what_evolves_is_left(name):
    found = combined(name)
    for phase, time in zip(found.phase, TIMES[name], strict=True):
        assert np.sqrt(np.mean(error(phase, time) ** 2)) <= 0.02
    assert found.warnings == ()
    assert np.median(found.coherence[head()[3]]) > 0.99


@pytest.mark.parametrize("name", TIMES)
def test_no_fringe_ends_in_the_combined_phase_but_in_the_plain_sum(name):
    signal = images(TIMES[name])
    magnitude = np.sqrt(np.sum(np.abs(signal) ** 2, 0))
    assert open_fringes(combined(name).phase, combined(name).magnitude, VOXEL).lines == 0
    summed = open_fringes(np.angle(signal.sum(0)), magnitude, VOXEL)
    assert summed.lines >= 3 and summed.length_cm > 50
    (warning,) = fringe_warnings(summed, "SIEMENS")
    assert warning.code == "open-ended-fringes" and "Adaptive Combine" in warning.remedy


def test_the_magnitude_decays_as_the_tissue_does():
    """The weights are those of the first echo, so that the noise of dark coils does not lift the late ones."""
    found, mask = combined("mcpc-3d-s", 15.0), head()[3]
    times = TIMES["mcpc-3d-s"]
    rate = np.log(np.median(found.magnitude[0][mask]) / np.median(found.magnitude[2][mask])) / (times[2] - times[0])
    assert rate == pytest.approx(20, rel=0.05)


def test_what_a_bipolar_readout_adds_to_even_echoes_stays_there():
    """It goes alike into the offsets of all coils, so that odd and even echoes still differ by all of it."""
    times = TIMES["aspire"]
    found = aspire(arrays(images(times, even=0.01)), scan=Scan(VOXEL, echo_times_s=times))
    x, _, _, mask, _ = head()
    odd_even = found.phase[1] * 2 - found.phase[0] - found.phase[2]
    *_, field = head()
    expected = 0.02 * x + TWO_PI * field * (2 * times[1] - times[0] - times[2])
    difference = wrap(odd_even - expected)[mask]
    left = wrap(difference - np.angle(np.mean(np.exp(1j * difference))))
    assert np.median(np.abs(left)) < 0.05 and found.warnings == ()


def test_coils_in_another_order_in_one_echo_are_told():
    signal = images(TIMES["mcpc-3d-s"])[:4].copy()
    signal[:, 2] = signal[::-1, 2]
    found = mcpc3ds(arrays(signal), scan=Scan(VOXEL, echo_times_s=TIMES["mcpc-3d-s"]))
    (warning,) = found.warnings
    assert warning.code == "coils-incoherent" and "echo 3" in warning.text


def test_a_dead_coil_changes_nothing():
    signal = images(TIMES["aspire"])[:4, :2].copy()
    scan = Scan(VOXEL, echo_times_s=TIMES["aspire"][:2])
    signal[2] = 0
    without = aspire(arrays(np.delete(signal, 2, axis=0)), scan=scan)
    found = aspire(arrays(signal), scan=scan)
    assert np.array_equal(found.phase, without.phase) and np.array_equal(found.magnitude, without.magnitude)


def test_aspire_needs_an_echo_twice_as_late():
    assert aspire_applies((0.00492, 0.00985)) and not aspire_applies((0.005, 0.0104))
    signal = arrays(images(TIMES["mcpc-3d-s"]))
    with pytest.raises(ValueError, match="Take mcpc-3d-s-coils"):
        aspire(signal, scan=Scan(VOXEL, echo_times_s=TIMES["mcpc-3d-s"]))


@pytest.mark.parametrize(("coils", "echoes", "words"), [(1, 3, "nothing to combine"), (8, 1, "two or more echoes")])
def test_what_cannot_be_combined_is_refused(coils, echoes, words):
    signal = images(TIMES["aspire"])[:coils, :echoes]
    with pytest.raises(ValueError, match=words):
        aspire(arrays(signal), scan=Scan(VOXEL, echo_times_s=TIMES["aspire"][:echoes]))
