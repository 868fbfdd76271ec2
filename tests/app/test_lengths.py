"""Lengths made for human heads, and objects that are much smaller."""

import nibabel as nib
import numpy as np
import pytest

import qsmprep
from qsmprep.app.lengths import check_lengths
from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phase.mcpc3ds import Mcpc3dsOptions
from qsmprep.settings import build

SMALLER = 12
FOR_SMALL = {
    "phase-offset": {"method": "mcpc-3d-s", "mcpc-3d-s": {"sigma_mm": Mcpc3dsOptions().sigma_mm / SMALLER}},
    "background": {"method": "v-sharp", "v-sharp": {"radius_unit": "voxel"}},
    "inversion": {"method": "fansi", "fansi": {"gradient_per": "voxel"}},
}


def view(voxel_mm):
    return nib.Nifti1Image(np.zeros((40, 50, 45), np.float32), np.diag([voxel_mm] * 3 + [1]))


def test_lengths_of_human_heads_are_refused_for_small_objects_with_those_that_fit():
    human, small = build({}), build(FOR_SMALL)
    check_lengths("sub-01", human, view(4.0), echoes=5)
    with pytest.raises(ValueError, match=r"16\.7 mm long") as refused:
        check_lengths("sub-01", human, view(4.0 / SMALLER), echoes=5)
    for flag in ("--mcpc-3d-s-sigma-mm 0.58", "--v-sharp-radius-unit voxel", "--fansi-gradient-per voxel"):
        assert flag in str(refused.value)
    check_lengths("sub-01", small, view(4.0 / SMALLER), echoes=5)
    with pytest.raises(ValueError, match="mcpc-3d-s-sigma-mm") as refused:
        check_lengths("sub-01", build({**FOR_SMALL, "phase-offset": {}}), view(4.0 / SMALLER), echoes=5)
    assert "v-sharp" not in str(refused.value)


def test_a_head_of_an_animals_size_gives_the_map_of_the_same_head_of_human_size():
    head = simulate_head(SimulationOptions(voxel_size="5"))
    frame = {
        "b0_direction": b0_direction_from_affine(head.affine),
        "echo_times_s": tuple(map(float, head.echo_times_s)),
        "centre_frequency_mhz": head.centre_frequency_mhz,
    }
    document = {"separation": {"method": "none"}, **FOR_SMALL}
    small_scan = qsmprep.Scan((5.0 / SMALLER,) * 3, **frame)
    small = qsmprep.reconstruct(head.magnitude, head.phase, small_scan, options=document)
    document["phase-offset"] = {"method": "mcpc-3d-s"}
    human = qsmprep.reconstruct(head.magnitude, head.phase, qsmprep.Scan((5.0,) * 3, **frame), options=document)
    both = small.masks.qsm & human.masks.qsm
    assert both.sum() > 0.98 * human.masks.qsm.sum()
    error = np.linalg.norm((small.chi_ppm - human.chi_ppm)[both]) / np.linalg.norm(human.chi_ppm[both])
    assert error < 0.02
