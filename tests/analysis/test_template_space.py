"""A head finds its place in a template: known motions come back, sides stay sides, images go there and back."""

from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from qsmprep.analysis import brain_registration
from qsmprep.analysis.brain_registration import Deformation, grid_places, mapped
from qsmprep.analysis.brain_template import SMALLEST_CORRELATION
from qsmprep.analysis.displacement import field_of, grid_over, inverse_field, resample_by
from qsmprep.analysis.template_space import (
    BY_MAPS,
    BY_T1W,
    OWN_FIRST_MM,
    OWN_SHAPE,
    SMALLEST_OVERLAP,
    lay_in_template,
    own_affine,
    own_space,
    space_of_t1w,
)
from qsmprep.bids.outputs import write_displacement
from qsmprep.interfaces.template import load_brain_template
from qsmprep.numerics.threads import use_threads

VOXEL_MM = 4.0
SHAPE = (48, 58, 48)
SHIFT_MM = np.array([7.0, -12.0, 9.0])
SCALE = np.array([1.04, 0.97, 1.02])


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A grid on which a registration takes a second."""
    monkeypatch.setattr(brain_registration, "FINE_MM", VOXEL_MM)


def head_affine() -> np.ndarray:
    """Voxels of a head that is stored from right to left."""
    affine = np.diag([-VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = np.array([VOXEL_MM, -VOXEL_MM, -VOXEL_MM]) * np.array(SHAPE) / 2 + SHIFT_MM
    return affine


def to_template(points: np.ndarray) -> np.ndarray:
    """Where a point of the head lies in the template: moved, turned, scaled and bent."""
    c, s = np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10))
    moved = points - SHIFT_MM.reshape(3, 1, 1, 1)
    turned = np.tensordot(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), moved, 1) * SCALE.reshape(3, 1, 1, 1)
    return turned + 2 * np.sin(turned[::-1] / 25) + np.array([0.0, -17.0, 0.0]).reshape(3, 1, 1, 1)


@cache
def head() -> dict[str, np.ndarray]:
    """Images of the package's template as a head has them."""
    template = load_brain_template()
    points = to_template(mapped(head_affine(), grid_places(SHAPE)))

    def taken(volume):
        at = mapped(np.linalg.inv(own_affine(template.affine)), points)
        return map_coordinates(np.asarray(volume, np.float32), at, order=1)

    mask = taken(template.mask) > 0.5
    shade = 1 + 0.3 * np.arange(SHAPE[1])[None, :, None] / SHAPE[1]
    return {"magnitude": taken(template.magnitude) * mask * shade, "chi_ppm": taken(template.chi_ppm) * mask,
            "mask": mask, "affine": head_affine()}  # fmt: skip


def errors_mm(found: Deformation, inside: np.ndarray) -> np.ndarray:
    """How far from its true place in the template each point of it is taken."""
    shape = found.displacement.shape[1:]
    places = mapped(found.affine, grid_places(shape))
    there = found.moved(grid_places(shape), found.affine, np.eye(4))
    return np.linalg.norm(to_template(there) - places, axis=0)[inside]


def test_a_known_motion_is_recovered():
    space = own_space(load_brain_template())
    found = lay_in_template(space, **head())
    errors = errors_mm(found.deformation, space.images.mask)
    before = np.linalg.norm(SHIFT_MM)
    assert errors.mean() < 2.0 < before  # half a voxel
    assert np.percentile(errors, 95) < VOXEL_MM
    assert found.by == BY_MAPS
    assert found.overlap > SMALLEST_OVERLAP
    assert found.nuclei_correlation > SMALLEST_CORRELATION
    assert found.smallest_jacobian > 0


def test_threads_change_no_bit():
    space, images = own_space(load_brain_template()), head()
    found = []
    for count in (1, 2):
        with use_threads(count):
            found.append(lay_in_template(space, **images).deformation)
    assert np.array_equal(found[0].displacement, found[1].displacement)
    assert np.array_equal(found[0].world, found[1].world)


def test_a_t1w_image_decides_where_there_is_one():
    template, images = load_brain_template(), head()
    space = space_of_t1w(-template.magnitude + 2 * template.magnitude.max(), template.mask,
                         own_affine(template.affine), template)  # fmt: skip
    t1w = np.where(images["mask"], -images["magnitude"] + 2 * images["magnitude"].max(), 0)
    found = lay_in_template(space, **images, t1w=t1w)
    assert found.by == BY_T1W
    assert errors_mm(found.deformation, space.images.mask).mean() < 2.0
    assert found.nuclei_correlation > SMALLEST_CORRELATION


def test_left_stays_left_in_an_image_stored_from_right_to_left():
    space, images = own_space(load_brain_template()), head()
    found = lay_in_template(space, **images).deformation
    at = mapped(head_affine(), grid_places(SHAPE))
    left = (at[0] - SHIFT_MM[0] < -20) & images["mask"]  # x runs to the patient's right
    shape, affine = grid_over(OWN_SHAPE, np.diag([1.0, 1, 1, 1]) + np.pad(np.array([OWN_FIRST_MM]).T, ((0, 1), (3, 0))),
                              VOXEL_MM)  # fmt: skip
    laid = resample_by(left, None, head_affine(), field_of(found, shape, affine), affine, shape, affine) > 0.5
    x = mapped(affine, grid_places(shape))[0][laid]
    assert laid.any()
    assert x.max() < -10


def test_a_head_without_contrast_and_an_animal_are_refused():
    space, images = own_space(load_brain_template()), head()
    with pytest.raises(ValueError, match="no contrast"):
        lay_in_template(space, **{**images, "magnitude": np.zeros(SHAPE, np.float32)})
    with pytest.raises(ValueError, match="no contrast"):
        space_of_t1w(np.zeros(SHAPE), images["mask"], images["affine"], load_brain_template())
    with pytest.raises(ValueError, match="whole brain of an adult"):
        lay_in_template(space, **{**images, "affine": images["affine"] * 0.3})


@pytest.fixture
def smooth() -> Deformation:
    """A deformation on a grid of 3 mm, turned and moved besides."""
    random = np.random.default_rng(0)
    field = np.stack([gaussian_filter(random.standard_normal((20, 22, 18)), 4) * 30 for _ in range(3)])
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -30, -33, -27
    world = np.eye(4)
    world[:3, :3] = [[0.98, 0.1, 0], [-0.1, 1.02, 0.05], [0, -0.05, 1.01]]
    world[:3, 3] = 4, -6, 2
    return Deformation(field.astype(np.float32), affine, world)


def test_the_inverse_leads_back(smooth):
    shape, affine = (24, 26, 22), np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -32, -40, -30
    core = np.zeros(shape, bool)
    core[5:-5, 5:-5, 5:-5] = True
    back, error = inverse_field(smooth, shape, affine, core)
    assert error < 0.01
    points = mapped(affine, grid_places(shape))
    there = smooth.moved(mapped(np.linalg.inv(smooth.affine), points + back), smooth.affine, np.eye(4))
    assert np.abs(there - points)[:, core].max() < 0.05


def test_the_written_field_is_read_by_itk_as_it_is_meant(smooth, tmp_path):
    random = np.random.default_rng(1)
    image = gaussian_filter(random.standard_normal((30, 32, 28)), 2).astype(np.float32)
    affine = np.diag([-2.5, 2.5, 2.5, 1.0])  # stored from right to left
    affine[:3, 3] = 36, -42, -34
    grid = smooth.affine
    shape = smooth.displacement.shape[1:]
    field = field_of(smooth, shape, grid)
    ours = resample_by(image, None, affine, field, grid, shape, grid)
    write_displacement(tmp_path / "xfm.nii.gz", field, grid, code=4)
    moving = sitk.GetImageFromArray(image.T)
    moving.SetSpacing([2.5] * 3)
    moving.SetDirection(np.diag([1.0, -1.0, 1.0]).ravel())  # LPS
    moving.SetOrigin((-36.0, 42.0, -34.0))
    read = sitk.ReadImage(str(tmp_path / "xfm.nii.gz"), sitk.sitkVectorFloat64)
    assert read.GetNumberOfComponentsPerPixel() == 3
    reference = sitk.Image(*shape, sitk.sitkFloat32)
    reference.CopyInformation(read)
    transform = sitk.DisplacementFieldTransform(read)
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, reference, transform, sitk.sitkLinear, 0.0)).T
    core = (slice(3, -3),) * 3
    assert np.abs(ours).max() > 0.05
    assert ours[core] == pytest.approx(theirs[core], abs=1e-3)


def test_values_beyond_a_mask_do_not_reach_into_it():
    volume = np.full((8, 8, 8), 5.0)
    valid = np.zeros((8, 8, 8), bool)
    valid[2:6, 2:6, 2:6] = True
    volume[~valid] = 1000
    shift = np.zeros((3, 2, 2, 2), np.float32)
    shift[0] = 0.25
    laid = resample_by(volume, valid, np.eye(4), shift, np.eye(4) * [4, 4, 4, 1], (8, 8, 8), np.eye(4))
    assert set(np.unique(laid)) == {0, 5}
    assert laid.any(axis=(1, 2)).tolist() == [False, False, True, True, True, True, False, False]


def test_a_grid_of_two_millimetres_is_that_of_templateflow():
    affine = np.eye(4)
    affine[:3, 3] = -96, -132, -78  # MNI152NLin2009cAsym, res-01
    shape, twice = grid_over((193, 229, 193), affine, 2.0)
    assert shape == (97, 115, 97)
    assert twice[:3, 3] == pytest.approx([-96, -132, -78])
