"""Chi-separation COSMOS against the truth of a small head."""

import numpy as np
import pytest

from qsmprep.orientation.chisep_cosmos import chisep_cosmos
from qsmprep.orientation.inputs import Orientations
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.separation import Constants


@pytest.fixture(scope="module")
def heads():
    tilts = ((0, 0), (20, 0), (0, 25), (-30, 0))
    return [simulate_head(SimulationOptions(voxel_size="4", tilt_x=x, tilt_y=y)) for x, y in tilts]


def solve(heads, **more):
    head = heads[0]
    fields = np.stack([h.local_field_hz / h.centre_frequency_mhz for h in heads])
    directions = np.array([h.b0_direction for h in heads])
    given = Orientations(fields, head.brain_mask, head.voxel_size_mm, directions)
    r2primes = np.stack([h.r2prime for h in heads])
    return chisep_cosmos(given, r2primes=r2primes, constants=Constants(114.0, 114.0), **more)


def test_both_sources_come_back_without_regularisation(heads):
    found, condition = solve(heads)
    inside = heads[0].brain_mask
    for image, truth in ((found.chi_para, heads[0].chi_para), (found.chi_dia, heads[0].chi_dia)):
        assert image.min() >= 0
        assert np.linalg.norm((image - truth)[inside]) < 0.35 * np.linalg.norm(truth[inside])
    assert condition > 1
    assert found.convergence.converged


def test_orientations_alike_are_refused(heads):
    with pytest.raises(ValueError, match="Chi-separation COSMOS"):
        solve([heads[0]] * 3)


def test_torch_gives_the_same_sources(heads):
    one, other = (solve(heads, device=device)[0] for device in ("cpu", "torch:cpu"))
    assert np.abs(one.chi_para - other.chi_para).max() < 2e-3
    assert np.abs(one.chi_dia - other.chi_dia).max() < 2e-3
