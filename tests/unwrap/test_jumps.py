"""Steps that a wrap leaves are counted; a smooth field has none."""

import numpy as np

from qsmprep.unwrap.jumps import residual_jumps


def test_a_smooth_field_has_no_jump_and_a_wrapped_voxel_six():
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij")
    field = 40 * (x + y * z)
    mask = np.ones(field.shape, bool)
    assert residual_jumps(field, mask, period_hz=51) == (0, 3 * 8 * 81)
    field[4, 4, 4] += 51
    assert residual_jumps(field, mask, period_hz=51)[0] == 6


def test_pairs_that_leave_the_mask_do_not_count():
    field, mask = np.zeros((5, 5, 5)), np.ones((5, 5, 5), bool)
    field[2, 2, 2] = 100
    mask[2, 2, 2] = False
    assert residual_jumps(field, mask, period_hz=51)[0] == 0
