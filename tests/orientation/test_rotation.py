"""B0 turns with the head, and a turned head is found again."""

import numpy as np
import pytest

from qsmprep.orientation.registration import register_rigid, resample_inside
from qsmprep.orientation.rotation import axes_about, rotated_b0, rotation_angle_deg
from qsmprep.phantom.anatomy import rotation
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions


def rigid(turn):
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    return matrix


def test_b0_of_a_nodding_head_leans_the_other_way_in_the_head():
    found = rotated_b0((0, 0, 1), np.eye(4), np.eye(4), rigid(rotation(0, 20.0)))
    assert np.allclose(found, (0, np.sin(np.deg2rad(20)), np.cos(np.deg2rad(20))))


def test_b0_does_not_depend_on_how_the_run_is_stored():
    turn, flipped = rotation(1, 15.0), np.diag([-2.0, 1.0, -3.0, 1.0])
    one = rotated_b0((0, 0, 1), np.eye(4), np.eye(4), rigid(turn))
    assert np.allclose(rotated_b0((0, 0, -1), flipped, np.eye(4), rigid(turn)), one)


@pytest.mark.parametrize("b0", [(0, 0, 1), (0.3, -0.4, 0.7), (0, 0, -1), (1, 0, 0)])
def test_laboratory_axes_are_a_rotation_whose_third_row_is_b0(b0):
    axes = axes_about(np.array(b0))
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert np.linalg.det(axes) == pytest.approx(1)
    assert np.allclose(axes[2], np.array(b0) / np.linalg.norm(b0))


@pytest.fixture(scope="module")
def heads():
    options = SimulationOptions(voxel_size="4", orientations="0,0;22,0", shape="40x50x45", echo_times="0.005,0.02")
    return [simulate_head(scan, run=number) for number, scan in enumerate(options.runs())]


def test_a_turned_head_is_found_and_laid_back_the_same_way_every_time(heads):
    first, second = heads
    images = (first.magnitude[1], first.affine, second.magnitude[1], second.affine)
    matrix, correlation = register_rigid(*images, mask=first.brain_mask)
    assert rotation_angle_deg(matrix[:3, :3] @ rotation(0, 22.0).T) < 0.5
    assert np.linalg.norm(matrix[:3, 3]) < 1
    assert correlation > 0.9
    assert np.array_equal(register_rigid(*images, mask=first.brain_mask)[0], matrix)
    back, inside = resample_inside(
        second.m0, second.brain_mask, second.affine, matrix, first.affine, first.brain_mask.shape
    )
    both = inside & first.brain_mask
    assert both.sum() > 0.95 * first.brain_mask.sum()
    assert np.corrcoef(back[both], first.m0[both])[0, 1] > 0.8
    assert not back[~inside].any()


def test_an_image_without_contrast_is_refused(heads):
    flat = np.ones_like(heads[0].m0)
    with pytest.raises(ValueError, match="moving magnitude has no contrast"):
        register_rigid(heads[0].magnitude[0], heads[0].affine, flat, heads[0].affine)
