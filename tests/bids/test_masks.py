"""Masks made elsewhere: what counts as inside, what is refused, and that check and node decide alike."""

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.checks import check_mask
from qsmprep.bids.masks import binary_mask, edge_warning
from qsmprep.bids.query import find_runs
from qsmprep.interfaces.images import read_grid, read_mask
from qsmprep.interfaces.masking import ImportMask

SHAPE = (6, 7, 5)
AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])
BRAIN = np.zeros(SHAPE, bool)
BRAIN[1:5, 1:6, 1:4] = True


@pytest.mark.parametrize(
    "values",
    [
        BRAIN,
        BRAIN.astype(np.uint8) * 255,
        BRAIN.astype(np.int16) * 1000,
        BRAIN.astype(np.float32) * np.float32(0.00392157),
        np.where(BRAIN, 1, np.nan),
        np.where(BRAIN, np.nextafter(np.float32(1), 2), 0),
    ],
)
def test_one_value_beside_zero_or_nan_is_the_inside(values):
    assert np.array_equal(binary_mask(values).mask, BRAIN)


def test_nan_is_outside_and_told():
    (note,) = binary_mask(np.where(BRAIN, 1, np.nan)).notes
    assert str(np.count_nonzero(~BRAIN)) in note.text


def test_a_smoothed_mask_is_cut_at_one_half_and_told():
    smooth = np.where(BRAIN, 0.8, 0.2)
    smooth[2, 2, 2] = 1
    given = binary_mask(smooth)
    assert np.array_equal(given.mask, BRAIN)
    assert [note.code for note in given.notes] == ["mask-threshold"]
    assert f"{BRAIN.size - 1} voxels" in given.notes[0].text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.where(BRAIN, 2, 1), "1, 2"),
        (BRAIN * np.arange(SHAPE[2]), "0, 1, 2, 3"),
        (np.where(BRAIN, 1.0, -1.0), "-1, 1"),
        (np.where(BRAIN, -1, 0), "-1, 0"),
        (np.where(BRAIN, np.inf, 0), "infinite"),
        (np.arange(BRAIN.size, dtype=np.float32).reshape(SHAPE), "210 values from 0 to 209"),
        (np.zeros(SHAPE), "empty"),
        (np.full(SHAPE, np.nan), "empty"),
        (np.where(BRAIN, 0.4, 0.1), "reach 0.4"),
    ],
)
def test_what_is_no_mask_is_refused_with_what_was_found(values, told):
    with pytest.raises(ValueError, match=told):
        binary_mask(values)


def on_disk(path, values, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(values), affine), path)
    return path


def import_mask(folder, mask, like):
    """The mask that the node makes, or its message."""
    folder.mkdir()
    node = ImportMask(in_file=str(mask), like=str(like), origin="made up")
    try:
        record = node._compute(folder)
    except ValueError as error:
        return str(error)
    return read_mask(node._results["mask"]), record


@pytest.mark.parametrize(
    ("values", "shift_voxels", "usable"),
    [
        (np.where(BRAIN, 1, np.nan).astype(np.float32), 0, True),
        (BRAIN.astype(np.float32) * 0.7 + 0.1, 0, True),
        (BRAIN.astype(np.uint8), 0.09, True),
        (BRAIN.astype(np.uint8), 0.12, False),
        (BRAIN.astype(np.uint8) + 1, 0, False),
        (np.zeros(SHAPE, np.uint8), 0, False),
        (np.ones((*SHAPE[:2], 9), np.uint8), 0, False),
    ],
)
def test_check_and_node_decide_alike_and_say_the_same(dataset, tmp_path, values, shift_voxels, usable):
    dataset.add_run(shape=SHAPE)
    (run,) = find_runs(dataset.folder).runs
    affine = AFFINE.copy()
    affine[0, 3] += shift_voxels  # of the shortest edge, 1 mm
    path = on_disk(tmp_path / "mask.nii.gz", values, affine)
    problems, made = check_mask(path, run), import_mask(tmp_path / "node", path, run.files[0])
    if usable:
        assert not problems
        assert np.array_equal(made[0], BRAIN)
    else:
        assert [str(problem) for problem in problems] == [made]


def test_a_shifted_mask_is_told_by_how_much(dataset, tmp_path):
    dataset.add_run(shape=SHAPE)
    (run,) = find_runs(dataset.folder).runs
    affine = AFFINE.copy()
    affine[0, 3] += 0.25
    (problem,) = check_mask(on_disk(tmp_path / "mask.nii.gz", BRAIN.astype(np.uint8), affine), run)
    assert "0.25 mm (0.25 voxels)" in str(problem)
    assert "Resample" in problem.remedy


def test_a_mask_of_the_whole_volume_is_warned_of(dataset, tmp_path):
    dataset.add_run(shape=SHAPE)
    (run,) = find_runs(dataset.folder).runs
    path = on_disk(tmp_path / "mask.nii.gz", np.ones(SHAPE, np.uint8))
    _, record = import_mask(tmp_path / "node", path, run.files[0])
    assert "mask-touches-edges" in [warning.code for warning in record.warnings]


@pytest.mark.parametrize(("faces", "warned"), [(2, False), (4, False), (5, True), (6, True)])
def test_a_slab_may_touch_both_ends_but_no_head_touches_five_faces(faces, warned):
    mask = BRAIN.copy()
    ends = [(0, 0), (0, -1), (1, 0), (1, -1), (2, 0), (2, -1)]
    for axis, end in ends[:faces]:
        place = [3, 3, 2]
        place[axis] = end
        mask[tuple(place)] = True
    assert (edge_warning(mask) is not None) == warned


def test_nan_in_a_mask_between_nodes_is_outside(tmp_path):
    path = on_disk(tmp_path / "mask.nii", np.where(BRAIN, 1, np.nan).astype(np.float32))
    assert np.array_equal(read_mask(path), BRAIN)
    assert read_grid(path).shape == SHAPE
