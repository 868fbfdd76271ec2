"""Background removal once more, from what a quick susceptibility map leaves, comes nearer to the tissue field."""

import numpy as np
import pytest

from qsmprep.background import BackgroundRemoval
from qsmprep.background.iharperella import iharperella
from qsmprep.background.refinement import RefinementOptions, field_of, refine_background
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions


@pytest.fixture(scope="module")
def head():
    return simulate_head(SimulationOptions(voxel_size="4", oversampling=2, peak_snr=0))


@pytest.fixture(scope="module")
def person():
    pytest.importorskip("nilearn", reason="carries the template")
    options = SimulationOptions(
        anatomy="icbm152", voxel_size="3", oversampling=2, peak_snr=0, texture=0.01, tilt_x=15.0
    )
    return simulate_head(options)


def removal(head):
    return lambda field: iharperella(field, head.brain_mask, scan=head.scan)


def error(found, head):
    mask = found.mask
    left, truth = (image[mask] - image[mask].mean() for image in (found.tissue_field, head.local_field_hz))
    return np.linalg.norm(left - truth) / np.linalg.norm(truth)


def test_a_pass_comes_nearer_to_the_tissue_field(person):
    remove = removal(person)
    first = remove(person.total_field_hz)
    found = refine_background(
        person.total_field_hz, first, remove, scan=person.scan, options=RefinementOptions(passes=1)
    )
    assert error(found, person) < 0.95 * error(first, person)


def test_without_a_pass_nothing_changes(head):
    first = removal(head)(head.total_field_hz)
    found = refine_background(head.total_field_hz, first, removal(head), scan=head.scan)
    assert found is first


def test_what_the_map_explains_is_not_taken_for_background(head):
    """A removal that takes everything leaves the map's own field after one pass."""

    def take_all(field):
        return BackgroundRemoval(np.zeros_like(field), head.brain_mask)

    first = BackgroundRemoval(head.local_field_hz, head.brain_mask)
    found = refine_background(head.total_field_hz, first, take_all, scan=head.scan, options=RefinementOptions(passes=1))
    inside = head.brain_mask
    assert np.corrcoef(found.tissue_field[inside], head.local_field_hz[inside])[0, 1] > 0.9


def test_the_field_of_a_map_is_that_of_the_dipole_kernel(head):
    chi = np.where(head.brain_mask, head.chi_ppm, 0).astype(np.float32)
    field = field_of(chi, head.scan) * head.centre_frequency_mhz
    inside = head.brain_mask
    assert np.corrcoef(field[inside], head.local_field_hz[inside])[0, 1] > 0.95
