"""Laplacian unwrapping solves its Poisson equation exactly for smooth phase."""

import numpy as np
import pytest

from qsmprep.scan import Scan
from qsmprep.unwrap.laplacian import LaplacianOptions, laplacian

VOXEL = (1.0, 1.5, 2.5)


def wrap(phase):
    return (phase - 2 * np.pi * np.rint(phase / (2 * np.pi))).astype(np.float32)


def smooth(shape=(33, 30, 21)):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return (20 * x**2 - 12 * y * z + 9 * y).astype(np.float32)


def test_smooth_phase_is_restored_up_to_a_constant():
    truth = smooth()
    result = laplacian(wrap(truth), scan=Scan(VOXEL))
    difference = result.phase - truth
    assert np.ptp(difference) < 2e-3
    assert abs(np.mean(difference) / (2 * np.pi) - np.rint(np.mean(difference) / (2 * np.pi))) < 1e-3
    assert result.quality.shape == truth.shape


def test_periodic_phase_is_restored_by_the_periodic_solver():
    x, y, z = np.meshgrid(*[2 * np.pi * np.arange(n) / n for n in (32, 28, 20)], indexing="ij")
    truth = (6 * np.sin(x) + 5 * np.cos(y) * np.sin(z)).astype(np.float32)
    result = laplacian(wrap(truth)[None], scan=Scan(VOXEL), options=LaplacianOptions(solver="periodic"))
    assert result.phase.shape == (1, *truth.shape)
    assert np.ptp(result.phase[0] - truth) < 2e-3


def test_congruent_result_differs_from_the_input_by_whole_turns():
    truth = smooth()
    mask = np.ones(truth.shape, bool)
    mask[:3] = False
    phase = wrap(truth)
    result = laplacian(phase, scan=Scan(VOXEL), mask=mask, options=LaplacianOptions(congruent=True))
    turns = (result.phase - phase)[mask] / (2 * np.pi)
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-5)
    assert not result.phase[~mask].any()


def test_nan_stays_out():
    phase = wrap(smooth())
    phase[4, 5, 6] = np.nan
    result = laplacian(phase, scan=Scan(VOXEL))
    assert np.isfinite(result.phase).all()
    assert result.isolated_voxels == 1


def test_empty_mask_is_refused():
    phase = wrap(smooth())
    with pytest.raises(ValueError, match="empty"):
        laplacian(phase, scan=Scan(VOXEL), mask=np.zeros(phase.shape, bool))
