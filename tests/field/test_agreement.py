"""Whether a field map is that of a scan."""

import numpy as np
import pytest

from qsmprep.field.agreement import phase_agreement

TIMES = (0.004, 0.012, 0.02)


@pytest.fixture
def scan():
    """Field in Hz, wrapped phase and magnitude of three echoes with an offset, and a mask."""
    random = np.random.default_rng(0)
    x, y, z = np.indices((16, 18, 20)) / 10.0
    field = 40 * np.sin(2 * x + y) + 15 * z
    phase = np.stack([2 * np.pi * field * t + np.cos(x) + 0.05 * random.standard_normal(x.shape) for t in TIMES])
    phase = np.angle(np.exp(1j * phase)).astype(np.float32)
    return field.astype(np.float32), phase, np.ones_like(phase), np.ones(x.shape, bool)


def test_the_field_of_the_scan_explains_its_phase_whatever_its_reference(scan):
    field, phase, magnitude, mask = scan
    assert phase_agreement(field, phase, magnitude, mask, TIMES) > 0.99
    assert phase_agreement(field + 7, phase, magnitude, mask, TIMES) > 0.99


@pytest.mark.parametrize("factor", [-1, 1 / 127.7, 2 * np.pi])
def test_a_field_in_another_unit_or_of_the_other_sign_does_not(scan, factor):
    field, phase, magnitude, mask = scan
    assert phase_agreement(factor * field, phase, magnitude, mask, TIMES) < 0.5


def test_without_a_voxel_to_look_at_there_is_no_number(scan):
    field, phase, magnitude, mask = scan
    assert np.isnan(phase_agreement(0 * field, phase, magnitude, mask, TIMES))
    assert np.isnan(phase_agreement(field, phase[:1], magnitude[:1], mask, TIMES[:1]))
