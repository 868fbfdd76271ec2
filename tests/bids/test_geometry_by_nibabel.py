"""What we compute of an affine ourselves, against nibabel, for every order of the axes and oblique ones."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from qsmprep.bids.grid import angle_deg, grid_of, largest_shift_mm
from qsmprep.orientation.registration import resample
from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.montage import canonical, patient_axes, plan

SHAPE = (5, 7, 6)
SIZES = (0.9765625, 1.25, 3.0)
CODES = [
    "".join(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in permutations(("RL", "AP", "SI"))
    for sides in product((0, 1), repeat=3)
]
ANGLES = ((0, 0, 0), (0.2, -0.15, 0.1), (-0.35, 0.3, 0.25))  # about x, y, z in radians; nearest axes stay the same


def affine_of(codes, angles):
    """Voxels of `SIZES` in this order of axes, turned as a whole."""
    axes = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), SHAPE)[:3, :3]
    turn = nib.eulerangles.euler2mat(*angles[::-1])
    return nib.affines.from_matvec(turn @ np.linalg.inv(axes) @ np.diag(SIZES), [-31.0, 12.5, 7.25])


def image_of(codes, angles):
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return nib.Nifti1Image(values, affine_of(codes, angles))


CASES = pytest.mark.parametrize("angles", ANGLES, ids=["straight", "oblique", "more oblique"])


@CASES
def test_axes_sizes_and_ends_are_nibabels(angles):
    names = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}
    for codes in CODES:
        image = image_of(codes, angles)
        assert "".join(nib.aff2axcodes(image.affine)) == codes
        grid = grid_of(image)
        assert grid.voxel_size_mm == pytest.approx(tuple(nib.affines.voxel_sizes(image.affine)), rel=1e-5)
        assert [grid.end_name(axis, 1) for axis in range(3)] == [names[code] for code in codes]


@CASES
def test_volumes_are_turned_to_the_patients_axes_as_by_nibabel(angles):
    for codes in CODES:
        image = image_of(codes, angles)
        turned = canonical(np.asarray(image.dataobj), *patient_axes(image.affine))
        np.testing.assert_array_equal(turned, np.asarray(nib.as_closest_canonical(image).dataobj))


@CASES
def test_b0_is_the_scanners_z_in_the_axes_of_the_quaternion(angles):
    for codes in CODES:
        image = image_of(codes, angles)
        image.set_qform(image.affine, 1)
        image.set_sform(None, 0)
        rotation = nib.quaternions.quat2mat(image.header.get_qform_quaternion())
        rotation[:, 2] *= image.header["pixdim"][0]  # qfac: left-handed voxels
        found = grid_of(nib.Nifti1Image.from_bytes(image.to_bytes())).b0_direction
        assert found == pytest.approx(tuple(rotation[2]), abs=1e-5)


@CASES
def test_the_report_tells_nibabels_obliquity(angles):
    straight = affine_of("RAS", ANGLES[0])
    for codes in CODES:
        affine = affine_of(codes, angles)
        oblique = np.rad2deg(nib.affines.obliquity(affine))
        slab = describe_acquisition({}, affine=affine, shape=SHAPE, echo_times_s=[0.01])["slab_orientation"]["value"]
        assert slab["oblique"] == bool(oblique[2] >= 0.5)
        assert (
            slab["plane"]
            == {"R": "sagittal", "A": "coronal", "S": "axial"}[codes[2].translate(str.maketrans("LPI", "RAS"))]
        )
        if slab["plane"] == "axial":
            assert slab["degrees_from_b0"] == pytest.approx(oblique[2], abs=0.051)
        if codes == "RAS":
            assert angle_deg(straight, affine) == pytest.approx(oblique[2], abs=1e-6)


@CASES
def test_places_of_slices_and_corners_are_nibabels(angles):
    for codes in CODES[::5]:
        affine = affine_of(codes, angles)
        axes, flips = patient_axes(affine)
        for tile in plan(SHAPE, affine).tiles:
            index = (np.array(SHAPE) - 1) / 2
            axis = axes[tile.plane.through]
            index[axis] = SHAPE[axis] - 1 - tile.index if flips[tile.plane.through] else tile.index
            place = nib.affines.apply_affine(affine, index)[tile.plane.through]
            assert tile.place == f"{('LPI' if place < 0 else 'RAS')[tile.plane.through]} {abs(place):.0f}"
        corners = np.array(list(product(*((0, n - 1) for n in SHAPE))))
        other = affine_of(codes, (0.1, 0, 0))
        apart = nib.affines.apply_affine(affine, corners) - nib.affines.apply_affine(other, corners)
        assert largest_shift_mm(SHAPE, affine, other) == pytest.approx(np.linalg.norm(apart, axis=1).max())


def test_images_are_laid_onto_another_grid_as_by_nibabel():
    """Trilinear interpolation between an oblique and a straight grid of other voxels."""
    moving = image_of("PSR", ANGLES[2])
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    moving = nib.Nifti1Image(values, moving.affine)
    shape, affine = (6, 5, 7), affine_of("LAS", ANGLES[1])
    middles = [nib.affines.apply_affine(*grid) for grid in ((moving.affine, [2, 3, 2.5]), (affine, [2.5, 2, 3]))]
    affine[:3, 3] += middles[0] - middles[1]
    theirs = np.asarray(resample_from_to(moving, (shape, affine), order=1).dataobj)
    ours = resample(values, moving.affine, np.eye(4), affine, shape)
    inside = resample_from_to(nib.Nifti1Image(np.ones(SHAPE, np.float32), moving.affine), (shape, affine), order=1)
    whole = np.asarray(inside.dataobj) > 0.999
    assert whole.sum() > 20
    np.testing.assert_allclose(ours[whole], theirs[whole], atol=1e-4)
