"""A few balls whose susceptibility and field are known."""

import numpy as np
import pytest

from qsmprep.nets.network import CONSISTENT_KERNEL
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan

TILTED = Scan((1.0, 1.0, 1.0), (0.0, 0.42, 0.907))
SHAPE, WIDE = (40, 36, 32), (80, 80, 80)


@pytest.fixture(scope="module")
def ball():
    """Susceptibility of some balls within a ball, and its field with B0 tilted."""
    axes = np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE), indexing="ij")
    mask = sum(x**2 for x in axes) < 13**2
    chi = 0.1 * (sum((x - 3) ** 2 for x in axes) < 9) - 0.05 * (sum((x + 4) ** 2 for x in axes) < 16)
    wide = np.zeros(WIDE, np.float32)
    wide[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = chi
    field = irfftn(rfftn(wide) * dipole_kernel(WIDE, (1, 1, 1), TILTED.b0_direction, kind=CONSISTENT_KERNEL), WIDE)
    return chi.astype(np.float32), np.ascontiguousarray(field[: SHAPE[0], : SHAPE[1], : SHAPE[2]]), mask
