"""The template of regions finds its place on a head that turned and changed its shape, and says where it does not."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from qsmprep.analysis import brain_registration, brain_template
from qsmprep.analysis.brain_template import LAST_NUCLEUS, NAMES, check_whole_brain, lay_brain_template
from qsmprep.analysis.deformation import register_deformable, warp
from qsmprep.interfaces.template import load_brain_template

VOXEL_MM = 4.0
SHAPE = (48, 60, 48)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A grid on which a registration takes seconds; the head's voxels are as large."""
    monkeypatch.setattr(brain_registration, "FINE_MM", VOXEL_MM)


@cache
def deformed_head(degrees=12.0):
    """Magnitude, susceptibility, brain, labels and affine of the template, nodded, scaled and bent."""
    template = load_brain_template()
    affine = np.diag([-VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])  # the first axis towards the left
    affine[:3, 3] = (np.array(SHAPE) / 2 * VOXEL_MM) * (1, -1, -1) + (9, -14, 11)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    places = places - (9, -14, 11)
    bend = 3 * np.sin(places[..., ::-1] / 25)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    places = (places @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T) * (1.05, 0.97, 1.02) + bend

    def taken(volume, grid, order):
        inverse = np.linalg.inv(grid)
        at = np.moveaxis(places @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        return map_coordinates(np.asarray(volume, np.float32), at, order=order)

    images = [taken(image, template.affine, 1) for image in (template.magnitude, template.chi_ppm, template.mask)]
    brain = images[2] > 0.5
    shade = 1 + 0.3 * np.arange(SHAPE[1])[None, :, None] / SHAPE[1]
    return (
        images[0] * brain * shade,
        images[1] * brain,
        brain,
        taken(template.labels, template.labels_affine, 0),
        affine,
    )


def dice(found, truth, name):
    numbers = [number for number, region in NAMES.items() if region.endswith(name)]
    first, second = np.isin(found, numbers), np.isin(truth, numbers)
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_regions_follow_a_head_that_nods_and_has_another_shape():
    magnitude, chi, brain, truth, affine = deformed_head()
    laid = lay_brain_template(load_brain_template(), magnitude, chi, brain, affine)
    assert min(dice(laid.labels, truth, name) for name in ("putamen", "thalamus", "caudate")) > 0.75
    assert dice(laid.labels, truth, "white_matter") > 0.75
    assert laid.correlation > 0.8
    left = np.argwhere(laid.labels == 5)[:, 0].mean()  # the left putamen
    right = np.argwhere(laid.labels == 6)[:, 0].mean()
    assert NAMES[5] == "left_putamen"
    assert left > right  # the first axis runs towards the left


def test_where_there_are_no_nuclei_the_correlation_tells_so():
    magnitude, chi, brain, _, affine = deformed_head()
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.5) * brain
    noise *= chi[brain].std() / noise[brain].std()
    laid = lay_brain_template(load_brain_template(), magnitude, noise.astype(np.float32), brain, affine)
    assert laid.correlation < brain_template.SMALLEST_CORRELATION


@pytest.mark.parametrize(
    ("brain", "words"),
    [
        (np.ones((20, 20, 20), bool), "512 ml, while a whole brain"),
        (np.ones((40, 40, 15), bool), "only 56 mm long from foot to head"),
        (np.zeros((20, 20, 20), bool), "holds 0 ml"),
    ],
)
def test_an_animal_a_slab_and_nothing_are_refused(brain, words):
    affine = np.diag([VOXEL_MM] * 3 + [1])
    with pytest.raises(ValueError, match=words):
        check_whole_brain(brain, affine)


def test_an_image_without_contrast_is_refused():
    magnitude, chi, brain, _, affine = deformed_head()
    with pytest.raises(ValueError, match="no contrast"):
        lay_brain_template(load_brain_template(), np.zeros_like(magnitude), chi, brain, affine)


def test_a_deformation_is_found_whatever_sign_and_shade_the_contrast_has():
    random = np.random.default_rng(1)
    image = gaussian_filter(random.standard_normal((24, 24, 24)), 2).astype(np.float32)
    grid = np.stack(np.meshgrid(*(np.arange(24.0),) * 3, indexing="ij")).astype(np.float32)
    shift = np.zeros_like(grid)
    shift[0] = 1.5 * np.sin(grid[1] / 5)
    fixed = -2 * warp(image, grid + shift) * (1 + grid[2] / 20)
    inside = np.zeros((24, 24, 24), bool)
    inside[3:-3, 3:-3, 3:-3] = True
    everywhere = np.ones((24, 24, 24), bool)
    found, reached = register_deformable(
        [fixed], [image], mask=inside, moving_mask=everywhere, coordinates=grid, weights=[1.0], iterations=30
    )
    core = (slice(6, -6),) * 3
    assert reached > 0.9
    assert np.abs(found[0] - shift[0])[core].mean() < 0.3 * np.abs(shift[0])[core].mean()


def test_both_sides_of_every_nucleus_are_in_the_template():
    template = load_brain_template()
    assert set(np.unique(template.labels)) == {0, *NAMES}
    centres = {n: (np.argwhere(template.labels == n) @ template.labels_affine[:3, :3].T).mean(0) for n in NAMES}
    for number in range(1, LAST_NUCLEUS, 2):
        left, right = (centres[n] + template.labels_affine[:3, 3] for n in (number, number + 1))
        assert NAMES[number].startswith("left")
        assert left[0] < 0 < right[0]
        assert left[1:] == pytest.approx(right[1:], abs=1.5)
