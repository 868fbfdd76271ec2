"""Which transform tells B0, how grids differ, and that files carry both transforms on."""

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.checks import check_run, errors
from qsmprep.bids.grid import assumption_of, b0_notes, grid_difference, grid_of
from qsmprep.bids.outputs import write_image
from qsmprep.bids.query import find_runs
from qsmprep.interfaces.images import read_grid, write_volume

SHAPE = (6, 7, 5)
STRAIGHT = np.diag([2.0, 2.0, 3.0, 1.0])


def turned(degrees):
    """An affine whose head is turned about x."""
    t = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    return turn @ STRAIGHT


def image(qform, q_code, sform, s_code):
    made = nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4))
    made.set_qform(qform, q_code)
    made.set_sform(sform, s_code)
    return made


def tilt(grid):
    return np.rad2deg(np.arccos(grid.b0_direction[2]))


@pytest.mark.parametrize(
    ("q_code", "s_code", "expected"),
    [(1, 2, 0), (1, 4, 0), (1, 0, 0), (2, 1, 20), (0, 1, 20), (1, 1, 20), (2, 2, 20), (0, 2, 20), (2, 0, 0)],
)
def test_b0_comes_from_the_transform_of_the_scanner(q_code, s_code, expected):
    qform = STRAIGHT if q_code else None
    grid = grid_of(image(qform, q_code, turned(20) if s_code else None, s_code))
    assert tilt(grid) == pytest.approx(expected, abs=0.1)
    assert grid.superior_direction == grid.b0_direction


@pytest.mark.parametrize(
    ("q_code", "s_code", "degrees", "told"),
    [
        (1, 2, 20, "20.0 degrees (qform_code 1, sform_code 2); the qform was taken"),
        (1, 1, 5, "5.0 degrees (qform_code 1, sform_code 1); the sform was taken"),
        (2, 4, 5, "5.0 degrees (qform_code 2, sform_code 4); the sform was taken"),
        (1, 2, 0.5, ""),
        (1, 1, 0, ""),
        (0, 2, 0, "B0 was taken from the sform as if it did"),
        (2, 0, 0, "B0 was taken from the qform as if it did"),
    ],
)
def test_what_a_header_leaves_open_about_b0_is_told(q_code, s_code, degrees, told):
    found = assumption_of(image(STRAIGHT if q_code else None, q_code, turned(degrees) if s_code else None, s_code)).text
    assert told in found
    assert bool(found) == bool(told)


def test_an_assumed_b0_is_a_note_with_its_remedy():
    (note,) = b0_notes(image(None, 0, STRAIGHT, 2), "a.nii")
    assert "a.nii" in note.text
    assert "--b0-direction" in note.text


def spoil(path, qform, q_code, sform, s_code):
    found = nib.load(path)
    made = nib.Nifti1Image(np.asarray(found.dataobj), found.affine)
    made.set_qform(qform, q_code)
    made.set_sform(sform, s_code)
    nib.save(made, path)


def test_transforms_that_contradict_each_other_are_one_warning_unless_b0_is_given(dataset):
    paths = dataset.add_run(shape=SHAPE)
    for path in paths:
        spoil(path, STRAIGHT, 1, turned(20), 2)
    (run,) = find_runs(dataset.folder).runs
    warned = [p for p in check_run(run) if p.code == "b0-direction-contradicted"]
    assert len(warned) == 1
    assert "20.0 degrees" in str(warned[0])
    assert "--b0-direction" in warned[0].remedy
    assert not [p for p in check_run(run, b0_direction=(0, 0, 1)) if p.code == "b0-direction-contradicted"]


def test_echoes_that_lie_otherwise_in_the_scanner_are_an_error(dataset):
    paths = dataset.add_run(shape=SHAPE)
    for path in paths:
        spoil(path, STRAIGHT, 1, STRAIGHT, 2)
    spoil(paths[-1], turned(3), 1, STRAIGHT, 2)
    (run,) = find_runs(dataset.folder).runs
    (problem,) = errors(check_run(run))
    assert problem.code == "affine-differs"
    assert "3.0 degrees" in str(problem)


@pytest.mark.parametrize("codes", [(1, 2), (1, 1), (0, 2), (3, 0), (0, 0)])
def test_files_between_nodes_and_outputs_carry_both_transforms_and_codes(tmp_path, codes):
    q_code, s_code = codes
    made = image(STRAIGHT if q_code else None, q_code, turned(20) if s_code else None, s_code)
    nib.save(made, tmp_path / "raw.nii")
    raw, grid = nib.load(tmp_path / "raw.nii"), read_grid(tmp_path / "raw.nii")
    write_volume(tmp_path / "node.nii", np.ones((2, *SHAPE), np.float32), grid)
    write_image(tmp_path / "out.nii.gz", np.ones(SHAPE), read_grid(tmp_path / "node.nii"))
    for name in ("node.nii", "out.nii.gz"):
        written = nib.load(tmp_path / name)
        for field in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z"):
            assert np.array_equal(written.header[field], raw.header[field]), (name, field)
        assert np.array_equal(written.affine, raw.affine)
        assert read_grid(tmp_path / name).b0_direction == grid.b0_direction


def test_one_tolerance_of_a_tenth_of_a_voxel_and_a_message_with_mm_and_voxels():
    def shifted(mm):
        affine = STRAIGHT.copy()
        affine[2, 3] = mm
        return grid_of(image(affine, 1, affine, 1))

    first = shifted(0)
    assert grid_difference(first, shifted(0.19)) == ""
    assert "0.3 mm (0.15 voxels)" in grid_difference(first, shifted(0.3))


def test_a_mask_that_kept_the_scanners_transform_alone_lies_on_the_grid():
    first = grid_of(image(STRAIGHT, 1, turned(20), 2))
    assert grid_difference(first, grid_of(image(STRAIGHT, 1, STRAIGHT, 1))) == ""
    assert grid_difference(first, grid_of(image(turned(20), 1, turned(20), 2))) == ""
    assert grid_difference(first, grid_of(image(turned(10), 1, turned(10), 1)))
