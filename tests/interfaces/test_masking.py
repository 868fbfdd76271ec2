"""What the nodes of the masks say of a mask."""

import numpy as np

from qsmprep.bids.grid import Grid
from qsmprep.interfaces.masking import add_volume
from qsmprep.interfaces.step import Record

GRID = Grid((60, 70, 80), np.diag([3.0, 3.0, 3.0, 1.0]))


def codes(mask):
    record = Record("mask", "bet", "BET")
    add_volume(record, mask, GRID, "brain")
    return {warning.code for warning in record.warnings}


def test_a_mask_that_holds_the_neck_is_warned_of():
    x, y, z = np.indices(GRID.shape) - np.array([30, 35, 50]).reshape(3, 1, 1, 1)
    brain = (x / 22) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1
    neck = (x**2 + y**2 < 12**2) & (z < 0) & (z > -40)
    assert not codes(brain)
    assert codes(brain | neck) == {"brain-shape"}
