"""Brain extraction on heads of ellipsoids, and on real ones where they are at hand."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from qsmprep.masking.bet import BetOptions, bet, brain_image
from qsmprep.masking.head import estimate_head
from qsmprep.masking.morphology import fill_holes, largest_component
from qsmprep.masking.plausibility import doubts
from qsmprep.masking.surface import tessellated_sphere, winding_numbers
from qsmprep.masking.tissue import decay_rate, find_tissue
from qsmprep.options import check_options
from qsmprep.scan import Scan

DATA = Path(os.environ.get("QSMPREP_TEST_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@lru_cache
def simple_head(voxel=(3.0, 3.0, 3.0)):
    """Magnitude and brain of a head with scalp, skull, cerebrospinal fluid, brain and neck, up along the last axis."""
    shape = tuple(int(length / size) for length, size in zip((180, 216, 210), voxel, strict=True))
    x, y, z = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * d for n, d in zip(shape, voxel, strict=True)), indexing="ij", sparse=True
    )

    def ellipsoid(a, b, c):
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1

    image = np.zeros(shape)
    image[((x / 50) ** 2 + ((y + 15) / 55) ** 2 < 1) & (z < -40)] = 0.8
    for size, signal in ((13, 1.1), (8, 0.05), (3, 0.5), (0, 0.9), (-4, 1.0)):
        image[ellipsoid(68 + size, 82 + size, 66 + size)] = signal
    random = np.random.default_rng(7)
    noise = random.standard_normal((2, *shape)) * 0.03
    return np.hypot(image + noise[0], noise[1]).astype(np.float32), ellipsoid(68, 82, 66)


@lru_cache
def mask_of_simple_head():
    return bet(simple_head()[0], scan=Scan((3, 3, 3)))


def test_the_same_head_of_an_animals_size_gives_the_same_brain(smaller=12.0):
    image, brain = simple_head()
    mask = bet(image, scan=Scan((3 / smaller,) * 3))
    assert dice(mask, mask_of_simple_head()) > 0.99
    assert dice(mask, brain) > 0.95


@pytest.mark.parametrize("slices", [(22, 44), (30, 40)])
def test_the_brain_of_a_slab_is_found_up_to_its_cut_ends(slices):
    image, brain = simple_head()
    mask, brain = bet(image[:, :, slice(*slices)], scan=Scan((3, 3, 3))), brain[:, :, slice(*slices)]
    assert dice(mask, brain) > 0.95
    for end in (0, -1):
        assert (mask & brain)[:, :, end].sum() >= 0.95 * brain[:, :, end].sum()


def real_file(*names):
    path = DATA.joinpath(*names)
    if not path.exists():
        pytest.skip(f"real data not here: {path} (set QSMPREP_TEST_DATA)")
    return path


def test_it_finds_the_brain_as_one_piece_without_holes():
    mask, brain = mask_of_simple_head(), simple_head()[1]
    assert mask.dtype == bool and mask.shape == brain.shape
    assert dice(mask, brain) > 0.96
    assert np.array_equal(mask, largest_component(mask)) and np.array_equal(mask, fill_holes(mask))


def test_voxel_size_does_not_matter():
    image, brain = simple_head((2.0, 3.0, 4.5))
    mask = bet(image, scan=Scan((2, 3, 4.5)))
    assert dice(mask, brain) > 0.95
    litres = mask.sum() * 27, mask_of_simple_head().sum() * 27
    assert litres[0] == pytest.approx(litres[1], rel=0.04)


def test_axis_order_and_direction_do_not_matter():
    turned = bet(simple_head()[0].transpose(2, 0, 1)[::-1, :, ::-1], scan=Scan((3, 3, 3)))
    assert dice(turned[::-1, :, ::-1].transpose(1, 2, 0), mask_of_simple_head()) > 0.99


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0)])
def test_a_head_gives_the_same_mask_in_whatever_order_its_axes_are_stored(order):
    """Coronal and sagittal slices: voxel by voxel."""
    image, _ = simple_head()
    superior, anterior = (tuple(float(axis == own) for axis in order) for own in (2, 1))
    turned = bet(
        np.ascontiguousarray(image.transpose(order)), scan=Scan((3, 3, 3)), superior_direction=superior,
        anterior_direction=anterior,
    )  # fmt: skip
    assert np.array_equal(turned, mask_of_simple_head().transpose(order))


def test_intensity_scale_does_not_matter():
    scaled = (simple_head()[0] * 2**20).astype(np.int64)
    assert dice(bet(scaled, scan=Scan((3, 3, 3))), mask_of_simple_head()) > 0.999


def test_same_input_gives_the_same_mask():
    assert np.array_equal(bet(simple_head()[0], scan=Scan((3, 3, 3))), mask_of_simple_head())


def test_the_last_digits_of_a_geometry_do_not_matter():
    """A head tilted in the scanner, whose affine went through single precision and decimal text."""
    image, _ = simple_head()
    tilted = np.array([0.0, np.sin(0.3), np.cos(0.3)])
    exact = bet(image, scan=Scan((3, 3, 3)), superior_direction=tuple(tilted))
    rounded = (2.9999995, 3.0000004, 3.0000002)
    other = bet(image, scan=Scan(rounded), superior_direction=tuple(tilted + 7e-7))
    assert np.array_equal(other, exact)


def test_values_that_are_not_finite_do_no_harm():
    image = simple_head()[0].copy()
    image[:5] = np.nan
    image[-5:] = np.inf
    image[30, 36, 60] = -np.inf
    assert dice(bet(image, scan=Scan((3, 3, 3))), mask_of_simple_head()) > 0.99


def test_a_smaller_fraction_gives_a_larger_brain():
    volumes = [
        bet(simple_head()[0], scan=Scan((3, 3, 3)), options=BetOptions(fractional_intensity=f)).sum()
        for f in (0.1, 0.5, 0.9)
    ]
    assert volumes[0] > volumes[1] > volumes[2] > 0


@pytest.mark.parametrize("axis", [0, 2])
def test_a_vertical_gradient_follows_the_superior_direction(axis):
    image = np.swapaxes(simple_head()[0], axis, 2)
    direction = np.eye(3)[axis]
    options = BetOptions(vertical_gradient=0.3)
    mask = bet(image, scan=Scan((3, 3, 3)), superior_direction=direction, options=options)
    mask = np.swapaxes(mask, axis, 2)
    middle = mask.shape[2] // 2
    plain = mask_of_simple_head()
    assert mask[..., :middle].sum() > plain[..., :middle].sum()
    assert mask[..., middle:].sum() < plain[..., middle:].sum()


def test_a_head_cut_by_the_field_of_view_keeps_its_brain():
    image, brain = simple_head()
    slab = slice(25, 52)
    mask = bet(np.ascontiguousarray(image[..., slab]), scan=Scan((3, 3, 3)))
    assert dice(mask, brain[..., slab]) > 0.95


@pytest.mark.parametrize(
    ("image", "message"),
    [(np.ones((8, 8, 8)), "constant"), (np.full((8, 8, 8), np.nan), "constant"), (np.ones((2, 8, 8, 8)), "3D")],
)
def test_an_image_without_a_head_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        bet(image, scan=Scan((1, 1, 1)))


def test_options_out_of_range_are_named():
    with pytest.raises(ValueError, match="fractional_intensity"):
        check_options(BetOptions(fractional_intensity=1.5))


def test_the_image_is_the_first_echo_or_the_root_sum_of_squares():
    echoes = np.array([3.0, 4.0])[:, None, None, None] * np.ones((2, 2, 3, 4))
    assert np.all(brain_image(echoes) == 3)
    assert np.all(brain_image(echoes, options=BetOptions(image="root-sum-of-squares")) == 5)
    assert brain_image(echoes[0]).shape == (2, 3, 4)


def test_a_sphere_encloses_its_volume_once():
    sphere = tessellated_sphere(4)
    assert len(sphere.vertices) == 2562 and len(sphere.faces) == 5120
    centre = np.array([30.0, 32.0, 28.0])
    winding = winding_numbers(20 * sphere.vertices + centre, sphere.faces, (60, 62, 58))
    assert set(np.unique(winding)) == {0, 1}
    radius = np.sqrt(((np.indices(winding.shape).T - centre) ** 2).sum(-1)).T
    assert winding[radius < 19.9].all() and not winding[radius > 20].any()


def test_a_surface_that_leaves_the_volume_is_cut_off():
    sphere = tessellated_sphere(2)
    whole = winding_numbers(12 * sphere.vertices + 15, sphere.faces, (30, 30, 30))
    part = winding_numbers(12 * sphere.vertices + 15 - 9, sphere.faces, (10, 11, 12))
    assert np.array_equal(part, whole[9:19, 9:20, 9:21])


def test_a_fold_shows_in_the_winding_number():
    sphere = tessellated_sphere(3)
    folded = 20 * sphere.vertices
    cap = sphere.vertices[:, 2] > 0.8
    folded[cap, 2] -= 60
    winding = winding_numbers(folded + 50, sphere.faces, (100, 100, 100))
    assert (winding < 0).any() and (winding == 1).any()


@pytest.mark.parametrize("image", ["first-echo", "root-sum-of-squares"])
def test_the_real_head_agrees_with_the_reference_mask(image):
    nibabel = pytest.importorskip("nibabel")
    reference = nibabel.load(real_file("invivo-siemens-reference", "sub-01_desc-bet_mask.nii.gz")).get_fdata() > 0
    folder = real_file("invivo-siemens", "sub-01", "anat")
    echoes = [nibabel.load(folder / f"sub-01_acq-epi_echo-{echo}_part-mag_MEGRE.nii.gz") for echo in (1, 2, 3)]
    options = BetOptions(image=image)
    magnitude = brain_image(np.stack([echo.get_fdata(dtype=np.float32) for echo in echoes]), options=options)
    mask = bet(magnitude, scan=Scan(echoes[0].header.get_zooms()[:3]), options=options)
    assert dice(mask, reference) >= 0.93


def test_orbits_and_neck_of_a_real_head_stay_outside():
    nibabel = pytest.importorskip("nibabel")
    folder = real_file("dicom-philips", "reference-nifti")
    image = nibabel.load(folder / "2001_WIP_fcMRI_Field_Mapping_cl_e1.nii.gz")
    voxel = image.header.get_zooms()[:3]
    mask = bet(image.get_fdata(dtype=np.float32), scan=Scan(voxel))
    assert 1.3e6 < mask.sum() * np.prod(voxel) < 1.75e6


def test_the_simulated_head_gives_its_brain():
    from qsmprep.phantom import simulate_head
    from qsmprep.phantom.options import SimulationOptions

    head = simulate_head(SimulationOptions(voxel_size="2.5,2.5,3", tilt_x=20, peak_snr=40))
    mask = bet(brain_image(head.magnitude), scan=Scan(head.voxel_size_mm))
    assert dice(mask, head.brain_mask) > 0.96
    assert mask[head.brain_mask].mean() > 0.99


@lru_cache
def head_that_leaks(voxel=3.0):
    """A head whose brain opens by a canal into a neck as bright as it, with bright marrow behind a thin dark table.

    Returns the magnitude of five echoes, their times, and the brain.
    """
    shape = tuple(int(length / voxel) for length in (198, 222, 276))
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * voxel for n in shape), indexing="ij", sparse=True)
    z = z - 40

    def ellipsoid(grown):
        return (x / (66 + grown)) ** 2 + (y / (82 + grown)) ** 2 + (z / (64 + grown)) ** 2 < 1

    image, decay = np.zeros(shape), np.full(shape, 20.0)
    image[((x / 66) ** 2 + (y / 70) ** 2 < 1) & (z < -20)] = 0.95
    for grown, signal, rate in ((20, 1.5, 45), (13, 0.05, 300), (11, 0.95, 110), (4, 0.5, 20), (0, 1.0, 20)):
        image[ellipsoid(grown)], decay[ellipsoid(grown)] = signal, rate
    canal = (x**2 + (y + 10) ** 2 < 10**2) & (z < -55)
    image[canal & ~ellipsoid(0)], decay[canal] = 0.95, 20
    times = np.array([0.005, 0.011, 0.017, 0.023, 0.029])
    echoes = image * np.exp(-times[:, None, None, None] * decay)
    random = np.random.default_rng(3)
    noise = random.standard_normal((2, *echoes.shape)) * 0.02
    return np.hypot(echoes + noise[0], noise[1]).astype(np.float32), times, ellipsoid(0)


def test_a_leak_into_neck_and_marrow_is_closed():
    magnitude, times, brain = head_that_leaks()
    decay = decay_rate(magnitude, times)
    mask = bet(magnitude[0], scan=Scan((3, 3, 3)), decay=decay)
    assert dice(mask, brain) > 0.95
    assert mask[brain].mean() > 0.98
    once = bet(magnitude[0], scan=Scan((3, 3, 3)), options=BetOptions(robust=False))
    assert np.mean(~brain[once]) > 2 * np.mean(~brain[mask])
    assert doubts(once, (3, 3, 3), (0, 0, 1), (1, 0, 0)) and not doubts(mask, (3, 3, 3), (0, 0, 1), (1, 0, 0))


def test_the_neck_does_not_draw_the_start_down():
    magnitude, _, brain = head_that_leaks()
    voxel = np.full(3, 3.0)
    height = 3 * np.argwhere(brain)[:, 2].mean()
    with_top = estimate_head(magnitude[0], voxel, np.array([0.0, 0.0, 1.0])).centre_mm[2]
    assert abs(with_top - height) < abs(estimate_head(magnitude[0], voxel).centre_mm[2] - height) / 2


def test_fast_decay_beside_the_brain_is_no_tissue():
    magnitude, times, brain = head_that_leaks()
    decay = decay_rate(magnitude, times)
    bright = (magnitude[0] > 0.4) & binary_dilation(brain, iterations=4)  # a guess that takes in the marrow
    blind, seeing = (
        find_tissue(bright, magnitude[0], known, np.full(3, 3.0), (0.02, 0.9)).coarse for known in (None, decay)
    )
    marrow = bright & (decay > 90)
    assert blind[marrow].mean() > 0.9 and seeing[marrow].mean() < 0.1
    assert seeing[brain].mean() > 0.99


def test_decay_of_an_exponential_is_its_rate():
    times = np.array([0.004, 0.009, 0.014])
    signal = np.exp(-times[:, None, None, None] * np.array([10.0, 150.0]).reshape(1, 1, 2))
    assert decay_rate(signal, times).ravel() == pytest.approx([10, 150], rel=1e-4)
    assert decay_rate(signal[:1], times[:1]) is None and decay_rate(signal, ()) is None
    assert np.isfinite(decay_rate(np.zeros((3, 2, 2, 2)), times)).all()


def test_a_mask_of_one_side_is_doubted():
    brain = simple_head()[1]
    half = brain.copy()
    half[:25, :40] = False
    assert not doubts(brain, (3, 3, 3), (0, 0, 1), (1, 0, 0))
    assert "mirror" in doubts(half, (3, 3, 3), (0, 0, 1), (1, 0, 0))[0]


def test_a_decay_map_of_another_shape_is_named():
    with pytest.raises(ValueError, match="decay map"):
        bet(np.ones((8, 8, 8)), scan=Scan((1, 1, 1)), decay=np.ones((8, 8, 7)))
