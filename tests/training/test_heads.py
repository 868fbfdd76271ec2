"""Training data obey the physics that the networks shall learn."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from qsmprep.background.vsharp_channel import vsharp_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.network import normalised, physical
from qsmprep.nets.spec import Channel
from qsmprep.nets.unrolled import convolve
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.phantom.options import ANATOMIES, SimulationOptions
from qsmprep.scan import Scan
from qsmprep.training import heads
from qsmprep.training.anatomy import random_options
from qsmprep.training.deformation import deformed
from qsmprep.training.fibres import fibre_tensor, off_diagonal_field
from qsmprep.training.heads import VOLUMES, generator_of, training_head
from qsmprep.training.patches import _blur, _Reader, make_batch, turned
from qsmprep.training.pool import Head
from qsmprep.training.recipe import parse_recipe
from qsmprep.training.shapes import random_shapes

SIZE_MM = (2.0, 2.0, 2.0)  # of the head here: an eighth of the voxels of a training head


@pytest.fixture(scope="module")
def made():
    def coarser(anatomy, random, *, textured):
        return dataclasses.replace(random_options(anatomy, random, textured=textured), voxel_size="2")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "VOXEL_SIZE_MM", SIZE_MM)
        patch.setattr(heads, "random_options", coarser)
        return training_head(2, 5, anatomy="ellipsoids")  # tilted


@pytest.fixture(scope="module")
def pool(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("head")
    volumes, facts = made
    for name, image in volumes.items():
        np.save(folder / f"{name}.npy", image)
    np.save(folder / "chi-found.npy", volumes["chi"])
    return (Head(folder, tuple(facts["b0_direction"]), volumes["mask"].shape),)


def test_a_head_holds_every_volume_and_its_number_tells_it(made):
    volumes, facts = made
    assert set(volumes) == set(VOLUMES)
    assert facts["b0_direction"][2] < np.cos(np.deg2rad(4))
    mask = volumes["mask"]
    for name, image in volumes.items():
        assert np.isfinite(image).all() and not image[~mask].any(), name


def test_the_tissue_field_is_that_of_the_susceptibility(made):
    volumes, facts = made
    mask, chi = volumes["mask"], volumes["chi"]
    padded = tuple(2 * n for n in chi.shape)
    wide = np.zeros(padded, np.float32)
    wide[tuple(slice(0, n) for n in chi.shape)] = chi
    kernel = dipole_kernel(padded, SIZE_MM, facts["b0_direction"], kind="integrated")
    field = irfftn(rfftn(wide) * kernel, padded)[tuple(slice(0, n) for n in chi.shape)]
    assert np.abs(field - volumes["tissue-field"])[mask].max() < 2e-3 * np.abs(field).max()


@pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn, which carries the template")
@pytest.mark.parametrize("removal", ["v-sharp", "iharperella"])
def test_a_head_from_the_template_obeys_the_same_physics(removal, monkeypatch):
    coarse = SimulationOptions(anatomy="icbm152", voxel_size="5", variation=0.05, texture=0.01, seed=1)
    monkeypatch.setattr(heads, "VOXEL_SIZE_MM", (5.0, 5.0, 5.0))
    monkeypatch.setattr(heads, "REMOVALS", (removal,))
    monkeypatch.setattr(heads, "random_options", lambda *drawn, textured: coarse)
    volumes, facts = training_head(2, 5, anatomy="icbm152")
    assert set(volumes) == set(VOLUMES) and (facts["generator"], facts["removal"]) == ("icbm152", removal)
    mask = volumes["mask"]
    assert 1.2 < 0.125 * mask.sum() / 1000 < 2.5  # litres
    for name, image in volumes.items():
        assert np.isfinite(image).all() and not image[~mask].any(), name
    inner = binary_erosion(mask, iterations=3) & (volumes["tissue-field-removal"] != 0)
    total = volumes["total-field"] - volumes["total-field"][mask].mean()
    left = (volumes["tissue-field-removal"] + volumes["background-removal"])[inner]
    # the background is far stronger than the tissue's field, and is gone
    assert volumes["tissue-field"][inner].std() < 0.5 * total[inner].std()
    assert np.corrcoef(left, volumes["tissue-field"][inner])[0, 1] > 0.6


def test_each_generator_makes_half_of_the_heads_in_every_direction_of_b0():
    made = [generator_of(number, "all") for number in range(12)]
    assert made.count("icbm152") == 6 and generator_of(0, "icbm152") == "icbm152"
    assert {made[n] for n in range(2, 12, 3)} == {made[n] for n in range(0, 12, 3)} == set(ANATOMIES)


def test_the_background_field_is_harmonic_in_the_brain(made):
    volumes, _ = made
    background = (volumes["total-field"] - volumes["tissue-field"]).astype(float)
    inside = volumes["mask"].copy()
    for axis in range(3):
        for shift in (-6, 6):
            inside &= np.roll(volumes["mask"], shift, axis)

    def roughness(image):
        rough = sum(np.roll(image, s, a) for a in range(3) for s in (-1, 1)) - 6 * image
        return np.abs(rough[inside]).mean()

    # A polynomial shim has a constant Laplacian; what is left must be small beside that of the tissue field.
    assert roughness(background) < 0.2 * roughness(volumes["tissue-field"].astype(float))


def test_rates_follow_the_sources(made):
    volumes, _ = made
    mask = volumes["mask"]
    total = (volumes["chi-para"] + volumes["chi-dia"])[mask]
    assert np.median(np.abs(volumes["r2prime"][mask] - total)) < 1e-3
    assert (volumes["r2star"] >= volumes["r2prime"])[mask].all()


def test_off_diagonal_elements_of_a_tensor_make_the_field_of_a_turned_dipole():
    # Of a small ball with only chi13, from afar: 3 x z / (4 pi r^5) times its volume.
    axis = np.arange(48) - 24
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    chi13 = np.exp(-(x**2 + y**2 + z**2) / 8).astype(np.float32)
    field = off_diagonal_field(chi13, np.zeros_like(chi13))
    for offset in ((10, 0, 10), (9, 6, -10), (-12, 2, 9)):
        a, b, c = offset
        expected = chi13.sum() * 3 * a * c / (4 * np.pi * (a * a + b * b + c * c) ** 2.5)
        assert field[24 + a, 24 + b, 24 + c] == pytest.approx(expected, rel=0.06)


def test_fibres_are_traceless_along_any_direction():
    random = np.random.default_rng(0)
    chi33, chi13, chi23 = fibre_tensor(np.ones((24, 24, 24), np.float32), 0.015, random)
    assert chi33.min() >= -0.015 / 3 - 1e-6 and chi33.max() <= 0.01 + 1e-6
    assert np.abs(chi13).max() <= 0.0075 + 1e-6 and np.abs(chi23).max() <= 0.0075 + 1e-6


def test_an_elastic_deformation_moves_but_does_not_scale():
    image = np.zeros((30, 40, 30), np.float32)
    image[10:20, 15:25, 10:20] = 1
    random = np.random.default_rng(1)
    moved = deformed({"a": image, "b": 2 * image}, 2.0, random)
    assert np.allclose(2 * moved["a"], moved["b"])
    assert moved["a"].max() == pytest.approx(1) and not np.allclose(moved["a"], image)
    assert np.allclose(deformed({"a": image}, 0.0, random)["a"], image, atol=1e-4)


def test_shapes_and_their_field():
    chi, field = random_shapes(32, np.random.default_rng(3))
    assert chi.std() > 0.01 and field.std() < chi.std()
    again, _ = random_shapes(32, np.random.default_rng(3))
    assert np.array_equal(chi, again)


RECIPE = """
[network]
name = "x"
task = "{task}"
inputs = {inputs}
outputs = {outputs}
[network.architecture]
{architecture}
[data]
heads = 1
validation_heads = 1
patch = 32
shapes = 0.0
filtered = 0.5
"""


def recipe(task, inputs, outputs, architecture='family = "unet"\nwidth = 2\nlevels = 2'):
    text = RECIPE.format(task=task, inputs=list(inputs), outputs=list(outputs), architecture=architecture)  # fmt: skip
    return parse_recipe(text.replace("'", '"'))


@pytest.mark.parametrize(
    ("task", "inputs", "outputs"),
    [
        ("inversion", ("tissue-field", "tkd"), ("chi",)),
        ("total-inversion", ("total-field", "v-sharp", "tkd"), ("chi",)),
        ("background", ("total-field", "v-sharp"), ("tissue-field",)),
        ("r2prime", ("r2star",), ("r2prime",)),
        ("separation", ("chi", "tissue-field", "r2prime"), ("chi-para", "chi-dia")),
        ("separation", ("chi", "tissue-field", "r2star"), ("chi-para", "chi-dia")),
    ],
)
def test_a_batch_is_a_function_of_its_key(pool, task, inputs, outputs):
    made = recipe(task, inputs, outputs)
    a, b, other = (make_batch(made.network, made.data, pool, 2, key) for key in ((0, 0, 1), (0, 0, 1), (0, 0, 2)))
    assert a.inputs.shape == (2, len(inputs), 32, 32, 32) and a.labels.shape == (2, len(outputs), 32, 32, 32)
    assert torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)
    assert not torch.equal(a.inputs, other.inputs)
    assert not (a.inputs * (1 - a.mask)).any() and not (a.labels * (1 - a.mask)).any()


def test_a_network_that_returns_to_the_data_is_shown_a_field_that_its_sources_make(pool):
    made = recipe(
        "inversion", ("tissue-field", "tkd"), ("chi",), 'family = "unet"\nwidth = 2\nlevels = 2\nconsistency = 0.01'
    )
    data = dataclasses.replace(made.data, filtered=0.0, smallest_snr=1e4, largest_snr=1e4, tilted=True)
    batch = make_batch(made.network, data, pool, 3, (0, 0, 5))
    explained = convolve(batch.labels * batch.mask, batch.dipole) * batch.mask
    off = (explained - batch.inputs[:, :1]) * batch.mask
    assert off.norm() < 0.25 * batch.inputs[:, :1].norm()  # by which kernel a field was made is drawn
    assert torch.isfinite(batch.inputs).all() and batch.inputs[:, 1:].abs().max() > 0


def test_labels_of_separation_make_the_susceptibility_that_goes_in(pool):
    made = recipe("separation", ("chi", "tissue-field", "r2prime"), ("chi-para", "chi-dia"))
    batch = make_batch(made.network, made.data, pool, 4, (0, 0, 3))
    total = batch.labels[:, :1] - batch.labels[:, 1:]
    wrong = (batch.inputs[:, :1] - total) * batch.mask
    assert wrong.abs().max() < 0.0105 + 2e-3 * total.abs().max()  # the unknown constant, and half precision
    assert (batch.labels >= 0).all()


def test_a_coarser_patch_keeps_field_and_susceptibility_together(pool):
    head = pool[0]
    edge = max(head.shape)
    read, fine = (_Reader(head, (slice(0, edge),) * 3, edge, blur) for blur in ((0.5, 0.8, 0.6), None))
    chi, field = read("chi"), read("tissue-field")
    kernel = dipole_kernel((2 * edge,) * 3, SIZE_MM, head.b0_direction, kind="integrated")
    wide = np.pad(chi, (0, edge))
    expected = irfftn(rfftn(wide) * kernel, wide.shape)[:edge, :edge, :edge]
    inner = binary_erosion(fine("mask") > 0, iterations=8)
    assert np.corrcoef(expected[inner], field[inner])[0, 1] > 0.99
    assert (np.diff(chi, axis=1) ** 2).mean() < 0.8 * (np.diff(fine("chi"), axis=1) ** 2).mean()
    assert np.array_equal(read("noise"), fine("noise"))


def test_half_of_the_patches_lose_resolution(pool):
    made = recipe("background", ("total-field",), ("tissue-field",))
    coarse = dataclasses.replace(made.data, coarsest=2.0)
    drawn = [_blur(coarse, np.random.default_rng(i)) for i in range(200)]
    assert 70 < sum(blur is not None for blur in drawn) < 130
    assert max(max(blur) for blur in drawn if blur) <= 0.5
    assert _blur(made.data, np.random.default_rng(0)) is None


def test_the_channel_of_vsharp_is_what_the_network_will_be_given(pool):
    """Of a whole head without noise, background as simulated: patches hold what V-SHARP makes of the total field."""
    head = pool[0]
    mask = np.asarray(head.volume("mask"))
    scan = Scan(SIZE_MM, head.b0_direction)
    field, valid = vsharp_channel(np.asarray(head.volume("total-field")), mask, scan)
    stored = head.volume("tissue-field-v-sharp").astype(np.float32) + head.volume("background-v-sharp")
    assert np.abs(stored - field)[valid].max() < 2e-3 * np.abs(field).max()
    chi = tkd_channel(field, valid, scan=scan)
    stored = head.volume("tkd-v-sharp").astype(np.float32) + head.volume("tkd-background")
    assert np.abs(stored - chi)[valid].max() < 5e-3 * np.abs(chi).max()


def test_turning_a_patch_keeps_field_and_susceptibility_together():
    chi = np.zeros((24, 24, 24), np.float32)
    chi[9:13, 10:16, 8:11] = 1
    b = np.array([0.3, -0.2, 0.9])
    b /= np.linalg.norm(b)

    def field_of(image, direction):
        return irfftn(rfftn(image) * dipole_kernel(image.shape, (1.0, 1.0, 1.0), direction), image.shape)

    for seed in range(6):
        random = np.random.default_rng(seed)
        patch = (field_of(chi, b)[None], chi[None], np.ones((1, *chi.shape), np.float32), chi[None], tuple(b))
        turned_field, turned_chi, _, _, direction = turned(patch, random, all_axes=True)
        assert np.allclose(field_of(turned_chi[0], direction), turned_field[0], atol=2e-3)


def test_normalisation_is_undone_exactly():
    channels = (Channel("chi", -0.02, 0.05), Channel("tissue-field", 0.001, 0.02))
    images = torch.randn(2, 2, 4, 4, 4)
    mask = (torch.rand(2, 1, 4, 4, 4) > 0.3).float()
    assert torch.allclose(physical(channels, normalised(channels, images, mask), mask), images * mask, atol=1e-6)
