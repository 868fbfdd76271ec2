"""The signal-to-noise ratio that a field map tells of."""

import numpy as np
import pytest

from qsmprep.field.snr import peak_snr, scan_snr, without_anatomy
from qsmprep.scan import Scan

SHAPE = (40, 36, 30)


@pytest.fixture
def scan():
    """Maker of a smooth field with the noise of a signal that fades along one axis, whose peak is 10."""

    def make(snr, seed=0):
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
        magnitude = (10 * (0.6 + 0.4 * x)).astype(np.float32)
        noise = (1 / (2 * np.pi * 0.02 * magnitude)).astype(np.float32)  # one echo at 20 ms
        clean = 60 * np.sin(2 * x) * np.cos(y) + 20 * z**3 + 3 * np.sin(9 * x * y)
        drawn = np.random.default_rng(seed).standard_normal(SHAPE)
        field = (clean + 10 / snr * noise * drawn).astype(np.float32)
        mask = x**2 + y**2 + z**2 < 1
        return field, noise, magnitude, mask

    return make


@pytest.mark.parametrize("snr", [10.0, 40.0, 200.0])
def test_it_is_that_of_the_noise_that_was_added(scan, snr):
    field, noise, magnitude, mask = scan(snr)
    peak = magnitude[mask].max()
    assert peak_snr(field, noise, magnitude, mask) * 10 / peak == pytest.approx(snr, rel=0.08)


def test_units_and_the_strength_of_the_signal_do_not_matter(scan):
    field, noise, magnitude, mask = scan(50.0)
    once = peak_snr(field, noise, magnitude, mask)
    assert peak_snr(field, noise / 7, 7 * magnitude, mask) == pytest.approx(once, rel=1e-4)
    assert peak_snr(field / 100, noise / 100, magnitude, mask) == pytest.approx(once, rel=1e-4)


def test_wraps_and_what_lies_outside_the_mask_do_not_matter(scan):
    field, noise, magnitude, mask = scan(50.0)
    once = peak_snr(field, noise, magnitude, mask)
    wrapped = (field + 30) % 60 - 30
    assert peak_snr(wrapped, noise, magnitude, mask, period=60.0) == pytest.approx(once, rel=1e-3)
    dirty = [np.where(mask, image, np.nan) for image in (field, noise)]
    assert peak_snr(*dirty, magnitude, mask) == pytest.approx(once)


def test_it_is_not_told_where_it_cannot_be(scan):
    field, noise, magnitude, mask = scan(50.0)
    assert peak_snr(field, np.zeros_like(noise), magnitude, mask) is None
    assert peak_snr(np.zeros_like(field), noise, magnitude, mask) is None
    thin = np.zeros_like(mask)
    thin[:, :, 15] = True
    assert peak_snr(field, noise, magnitude, thin) is None
    with pytest.raises(ValueError, match="differ in shape"):
        peak_snr(field, noise[1:], magnitude, mask)


@pytest.mark.parametrize("snr", [20.0, 50.0, 100.0])
def test_in_a_simulated_head_it_is_right_or_somewhat_low(snr):
    """Anatomy counts as noise: at 4 mm the ratio is found low, never high."""
    from qsmprep.field.weighted import weighted_field
    from qsmprep.phantom.head import simulate_head
    from qsmprep.phantom.options import SimulationOptions

    head = simulate_head(SimulationOptions(voxel_size="4", peak_snr=snr))
    turns = 2 * np.pi * head.total_field_hz * np.asarray(head.echo_times_s)[:, None, None, None]
    unwrapped = turns + np.angle(np.exp(1j * (head.phase - head.phase_offset - turns)))
    found = weighted_field(unwrapped.astype(np.float32), scan=Scan(head.voxel_size_mm, echo_times_s=head.echo_times_s),
                           magnitude=head.magnitude, mask=head.brain_mask)  # fmt: skip
    ratio = peak_snr(found.field_hz, found.noise_hz, head.magnitude[0], head.brain_mask)
    assert 0.75 * snr < ratio < 1.15 * snr


@pytest.mark.parametrize("times", [(0.005, 0.011, 0.017), (0.004, 0.011, 0.016, 0.027)])
def test_anatomy_from_voxel_to_voxel_is_no_noise_where_echoes_tell_them_apart(scan, times):
    _, _, peak, mask = scan(100.0)
    random = np.random.default_rng(4)
    field = 8 * random.standard_normal(SHAPE)  # Hz, of voxels: texture, vessels, ringing
    offset = random.uniform(-3, 3, SHAPE)
    signal = np.stack([peak * np.exp(1j * (2 * np.pi * field * t + offset) - 20 * t) for t in times])
    deviation = peak[mask].max() / 100
    signal += deviation * (random.standard_normal(signal.shape) + 1j * random.standard_normal(signal.shape))
    phase, magnitude = np.angle(signal), np.abs(signal)
    image, noise = without_anatomy(phase, magnitude, field_hz=field, echo_times_s=times)
    first = magnitude[0] * np.exp(20 * times[0])
    assert peak_snr(image, noise, magnitude[0], mask) * first[mask].max() / magnitude[0][mask].max() == pytest.approx(
        100, rel=0.1
    )
    spread = 1 / (2 * np.pi * times[0] * magnitude[0])
    assert peak_snr(field.astype(np.float32), spread, magnitude[0], mask) < 40  # what it was before


def test_two_echoes_do_not_tell_them_apart():
    echoes = np.ones((2, 4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="three echoes"):
        without_anatomy(echoes, echoes, field_hz=echoes[0], echo_times_s=(0.01, 0.02))


def test_a_scan_of_two_echoes_is_told_by_its_field(scan):
    field, noise, peak, mask = scan(50.0)
    echoes = {"phase": np.zeros((2, *SHAPE)), "magnitude": np.stack([peak, peak])}
    given = {"field_hz": field, "noise_hz": noise, "echo_times_s": (0.01, 0.02), "mask": mask}
    assert scan_snr(**echoes, **given) == peak_snr(field, noise, peak, mask)
    wrapped = given | {"field_hz": (field + 30) % 60 - 30}
    assert scan_snr(**echoes, **wrapped, period_hz=60.0) == pytest.approx(scan_snr(**echoes, **given), rel=1e-3)
