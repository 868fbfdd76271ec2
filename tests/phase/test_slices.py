"""Offsets of single slices of a 2D scan."""

import numpy as np
import pytest

from qsmprep.phase.slices import find_slice_offsets, remove_slice_offsets, slice_warnings
from qsmprep.scan import Scan

SHAPE = (24, 20, 18)
TIMES = (0.004, 0.009, 0.014)


@pytest.fixture
def head():
    """Magnitude and phase of a sphere in a smooth field, with air around it and noise, and the offsets of slices."""
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in SHAPE), indexing="ij")
    magnitude = np.where(sum(axis**2 for axis in axes) < 1, 100.0, 1.0) * np.ones((3, 1, 1, 1))
    field_hz = 40 * axes[2] ** 2 - 30 * axes[0] + 20 * axes[1] * axes[2]
    rng = np.random.default_rng(0)
    phase = np.stack([2 * np.pi * field_hz * te for te in TIMES]) + rng.normal(0, 0.02, (3, *SHAPE))
    return magnitude, phase, rng.uniform(-np.pi, np.pi, SHAPE[2])


def wrapped(angle):
    return np.angle(np.exp(1j * angle))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_offsets_are_told_from_the_field_by_two_echoes_whatever_the_axis(head, axis):
    magnitude, phase, own = head
    turn = (0, *(1 + np.roll([0, 1, 2], axis - 2)))
    scan = Scan((2, 2, 4), echo_times_s=TIMES)
    jumping = np.transpose(wrapped(phase + own), turn)
    axis = turn.index(3) - 1
    found = find_slice_offsets(jumping, np.transpose(magnitude, turn), scan=scan, axis=axis)
    assert found.are_there
    inside = slice(3, -3)  # slices that hold enough of the sphere
    error = wrapped(found.offsets_rad - own)[inside]
    assert np.abs(wrapped(error - error[0])).max() < 0.02
    remove_slice_offsets(jumping, found)
    again = find_slice_offsets(jumping, np.transpose(magnitude, turn), scan=scan, axis=axis)
    assert not again.are_there
    assert again.jump_rad < 0.02


def test_a_smooth_phase_has_no_offsets_of_slices(head):
    magnitude, phase, _ = head
    scan = Scan((2, 2, 4), echo_times_s=TIMES)
    for count in (1, 3):
        found = find_slice_offsets(wrapped(phase[:count]), magnitude[:count], scan=scan, axis=2)
        assert not found.are_there
        assert not slice_warnings(found, aligned=False)


def test_a_single_echo_is_aligned_with_a_warning(head):
    magnitude, phase, own = head
    found = find_slice_offsets(wrapped(phase + own)[:1], magnitude[:1], scan=Scan((2, 2, 4)), axis=2)
    assert found.are_there
    assert [warning.code for warning in slice_warnings(found, aligned=True)] == ["slices-aligned-by-field"]
    assert [warning.code for warning in slice_warnings(found, aligned=False)] == ["slices-jump"]
