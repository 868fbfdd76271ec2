"""Volumes on a network's grid and back."""

import numpy as np
import pytest

from qsmprep.nets.geometry import interpolate, network_grid, rotation_to_third_axis, tilt_degrees
from qsmprep.scan import Scan

STRAIGHT = (0.0, 0.0, 1.0)


def blob(shape, voxel_size_mm, centre_mm=(2.0, -3.0, 1.0), width_mm=5.0):
    """A smooth bump, in mm about the middle of the volume."""
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, voxel_size_mm, strict=True)]
    place = np.meshgrid(*axes, indexing="ij")
    squared = sum((x - c) ** 2 for x, c in zip(place, centre_mm, strict=True))
    return np.exp(-squared / (2 * width_mm**2)).astype(np.float32)


def round_trip(volume, grid):
    onto = np.zeros(volume.shape, np.float32)
    for lattice in grid.lattices:
        grid.back(grid.there(volume, lattice), onto, lattice)
    return onto


@pytest.mark.parametrize("voxel_size_mm", [(1.0, 1.0, 1.0), (1.005, 0.995, 1.0)])
def test_a_volume_that_fits_is_not_touched(voxel_size_mm):
    volume = np.random.default_rng(0).standard_normal((9, 10, 11)).astype(np.float32)
    grid = network_grid(volume.shape, scan=Scan(voxel_size_mm, (0.02, 0, -0.9998)), wanted_mm=1.0)
    assert grid.words() == "as acquired"
    assert np.array_equal(grid.there(volume), volume)
    assert np.array_equal(round_trip(volume, grid), volume)


@pytest.mark.parametrize(
    ("voxel_size_mm", "b0", "lattices", "interpolated"),
    [
        ((0.5, 0.5, 0.5), STRAIGHT, 8, False),
        ((0.5, 0.5, 2.0), STRAIGHT, 4, True),
        ((0.7, 0.7, 0.7), STRAIGHT, 1, True),
        ((0.8, 0.8, 3.0), STRAIGHT, 1, True),
        ((1.0, 1.0, 1.0), (0.0, 0.3, 0.954), 1, False),
        ((0.5, 1.2, 1.0), (-0.2, 0.3, 0.93), 2, True),
        ((1.0, 1.5, 2.0), (0.95, 0.1, -0.2), 1, True),
    ],
)
def test_a_smooth_volume_comes_back_as_it_was(voxel_size_mm, b0, lattices, interpolated):
    shape = tuple(int(48 / h) + 1 for h in voxel_size_mm)
    volume = blob(shape, voxel_size_mm)
    grid = network_grid(shape, scan=Scan(voxel_size_mm, b0), wanted_mm=1.0)
    assert len(grid.lattices) == lattices
    assert any(grid.resampling) is interpolated
    assert np.allclose(grid.scan.voxel_size_mm, 1.0, rtol=0.01)
    assert tilt_degrees(grid.scan.b0_direction) < 2
    assert grid.there(volume).shape == grid.network_shape
    assert np.abs(round_trip(volume, grid) - volume).max() < 0.005


def test_resampling_keeps_places_in_mm():
    voxel_size_mm = (0.7, 1.3, 2.0)
    shape = (70, 36, 24)
    grid = network_grid(shape, scan=Scan(voxel_size_mm, STRAIGHT), wanted_mm=1.0)
    expected = blob(grid.network_shape, grid.scan.voxel_size_mm)
    # padding is the same on both sides up to half a voxel
    shift = [(step.padded - step.size - 2 * step.before) / 2 * h
             for step, h in zip(grid.resampling, voxel_size_mm, strict=True)]  # fmt: skip
    found = grid.there(blob(shape, voxel_size_mm, centre_mm=tuple(np.array((2.0, -3.0, 1.0)) + shift)))
    assert np.abs(found - expected).max() < 0.005


def test_interpolation_is_exact_for_a_wave_and_mirrors_with_its_input():
    angle = 2 * np.pi * 3 * (np.arange(20) + 0.5) / 20
    finer = interpolate(np.cos(angle + 0.3)[:, None, None], 0, 33)[:, 0, 0]
    assert np.allclose(finer, np.cos(2 * np.pi * 3 * (np.arange(33) + 0.5) / 33 + 0.3), atol=1e-6)
    noise = np.random.default_rng(0).standard_normal((12, 1, 1))
    for count in (17, 18, 7, 8):
        assert np.allclose(interpolate(noise[::-1], 0, count), interpolate(noise, 0, count)[::-1], atol=1e-6)


def test_a_cut_of_k_space_fades():
    def kept(frequency):
        def wave(count):
            return np.cos(2 * np.pi * frequency * (np.arange(count) + 0.5) / count)

        found, same = interpolate(wave(40)[:, None, None], 0, 20)[:, 0, 0], wave(20)
        return found @ same / (same @ same)

    assert [kept(frequency) for frequency in (0, 3, 8)] == pytest.approx([1, 1, 1], abs=1e-6)
    assert kept(9) == pytest.approx(0.5, abs=1e-6)
    assert np.abs(interpolate(np.cos(np.pi * np.arange(40) / 2)[:, None, None], 0, 20)).max() < 1e-6


@pytest.mark.parametrize("b0", [(0.1, 0.2, 0.97), (-0.3, 0.4, 0.86), (0, 0.6, 0.8)])
def test_the_rotation_is_the_smallest_one(b0):
    b0 = np.array(b0) / np.linalg.norm(b0)
    rotation = rotation_to_third_axis(b0)
    assert np.allclose(rotation @ b0, (0, 0, 1))
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert (np.trace(rotation) - 1) / 2 == pytest.approx(b0[2])


def test_a_rotated_dipole_field_is_that_of_the_turned_head():
    from qsmprep.numerics.dipole import dipole_kernel
    from qsmprep.numerics.fourier import irfftn, rfftn

    shape, voxel_size_mm, b0 = (48, 44, 52), (1.0, 1.0, 1.0), (0.2, -0.3, 0.93)
    chi = blob(shape, voxel_size_mm, width_mm=3.0)
    field = irfftn(rfftn(chi) * dipole_kernel(shape, voxel_size_mm, b0), shape)
    grid = network_grid(shape, scan=Scan(voxel_size_mm, tuple(-c for c in np.array(b0))), wanted_mm=1.0)
    turned = grid.there(chi)
    expected = irfftn(rfftn(turned) * dipole_kernel(turned.shape, voxel_size_mm, STRAIGHT), turned.shape)
    middle = np.array(turned.shape) // 2
    near = tuple(slice(m - 12, m + 12) for m in middle)
    assert np.abs(grid.there(field) - expected)[near].max() < 0.03 * np.abs(expected).max()


def test_axes_are_reordered_without_interpolation():
    volume = np.random.default_rng(0).standard_normal((6, 7, 8)).astype(np.float32)
    grid = network_grid(volume.shape, scan=Scan((1, 1, 1), (0.01, -0.9999, 0)), wanted_mm=1.0)
    assert grid.order == (2, 0, 1)
    assert grid.turn is None
    assert np.array_equal(grid.there(volume), volume.transpose(2, 0, 1))
    assert np.array_equal(round_trip(volume, grid), volume)


def test_nothing_is_done_where_it_is_not_wanted():
    grid = network_grid((20, 20, 20), scan=Scan((0.5, 2, 1), (0.3, 0.2, 0.9)), wanted_mm=1.0,
                        resample=False, rotate=False)  # fmt: skip
    assert grid.words() == "as acquired"
    assert grid.scan.voxel_size_mm == (0.5, 2.0, 1.0)
    assert np.allclose(grid.scan.b0_direction, np.array((0.3, 0.2, 0.9)) / np.linalg.norm((0.3, 0.2, 0.9)))
