"""Networks applied to scans: units, grid, patches, precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from documents import told

from qsmprep.background.vsharp import vsharp
from qsmprep.background.vsharp_channel import vsharp_channel
from qsmprep.inversion.tkd import TkdOptions, tkd
from qsmprep.nets import precision
from qsmprep.nets.channels.tkd import THRESHOLD, tkd_channel
from qsmprep.nets.channels.total_field import total_field_channel
from qsmprep.nets.inference import predict
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

STRAIGHT = Scan((1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def scan():
    """A smooth field in ppm in a ball, and a mean that is not 0."""
    axes = np.meshgrid(*(np.arange(n) - n / 2 for n in (44, 40, 36)), indexing="ij")
    field = 0.02 * np.sin(axes[0] / 4) * np.cos(axes[1] / 5) * np.cos(axes[2] / 6) + 0.01
    mask = sum(x**2 for x in axes) < 15**2
    return field.astype(np.float32), mask


@pytest.fixture
def double(linear_network):
    return linear_network("inversion", {"tissue-field": 2.0}, ("chi",), voxel_size_mm=1.0, largest_tilt_degrees=0.0)


@pytest.fixture(scope="module")
def random_network():
    """A U-net of random weights, whose field of view is far smaller than the ball."""
    torch.manual_seed(1)
    spec = NetworkSpec("random", "inversion", UnetSpec(width=4, levels=1), (Channel("tissue-field", 0, 0.02),),
                       (Channel("chi", 0, 0.03),))  # fmt: skip
    return Network(spec, build_module(spec).eval())


def test_the_map_is_in_ppm_of_the_right_sign_and_zero_outside(double, scan):
    field, mask = scan
    calls = []
    found = predict(double, {"tissue-field": field}, mask, scan=STRAIGHT, progress=lambda *done: calls.append(done))
    chi = found.maps["chi"]
    assert chi.dtype == np.float32
    assert np.allclose(chi[mask], 2 * field[mask], atol=1e-6)
    assert not chi[~mask].any()
    assert calls[-1][0] == calls[-1][1]
    assert told(found)["network_grid"] == "as acquired"


@pytest.mark.parametrize(
    "geometry",
    [
        {"voxel_size_mm": (0.7, 0.7, 0.7)},
        {"voxel_size_mm": (0.5, 0.5, 1.0)},
        {"b0_direction": (0.1, -0.3, 0.95)},
        {"b0_direction": (0.95, 0.2, 0.1)},
        {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.0, 0.25, -0.97)},
    ],
)
def test_a_linear_network_gives_the_same_on_every_grid(double, scan, geometry):
    field, mask = scan
    smooth = field * np.exp(-sum((np.arange(n).reshape([-1 if a == i else 1 for a in range(3)]) - n / 2) ** 2
                                 for i, n in enumerate(field.shape)) / 30)  # fmt: skip
    found = predict(double, {"tissue-field": smooth}, mask, scan=replace(STRAIGHT, **geometry))
    assert np.abs(found.maps["chi"] - 2 * smooth * mask).max() < 0.01 * np.abs(2 * smooth).max()
    assert told(found)["network_grid"] != "as acquired"


def test_patches_equal_the_whole_volume(double, random_network, scan):
    field, mask = scan
    for network in (double, random_network):
        whole, parts = (
            predict(network, {"tissue-field": field}, mask, scan=STRAIGHT, options=InferenceOptions(patch=edge))
            for edge in (0, 32)
        )
        difference = parts.maps["chi"] - whole.maps["chi"]
        if network is double:
            assert np.abs(difference).max() < 1e-6
        # What a patch does not see beyond its border is blended away.
        size = whole.maps["chi"][mask].std() * mask.sum() ** 0.5
        assert np.linalg.norm(difference) < 0.08 * size
        assert "32" in told(parts)["network_patches"]


def test_too_little_memory_makes_patches(double, scan):
    field, mask = scan
    found = predict(double, {"tissue-field": field}, mask, scan=STRAIGHT, memory_gb=2e-3)
    assert "edge" in told(found)["network_patches"]
    assert np.allclose(found.maps["chi"][mask], 2 * field[mask], atol=1e-6)


def test_threads_change_nothing_and_are_given_back(random_network, scan):
    field, mask = scan
    before = torch.get_num_threads()
    maps = []
    for threads in (1, 2):
        with use_threads(threads):
            maps.append(predict(random_network, {"tissue-field": field}, mask, scan=STRAIGHT).maps["chi"])
    assert np.allclose(*maps, atol=1e-7)
    assert torch.get_num_threads() == before


def test_bfloat16_is_refused_where_it_moves_the_map(random_network, scan, monkeypatch):
    field, mask = scan
    monkeypatch.setattr(precision, "bfloat16_is_fast", lambda device: True)
    monkeypatch.setattr(precision, "LARGEST_DIFFERENCE_PERCENT", 1e-9)
    options = InferenceOptions(precision="auto")
    refused = predict(random_network, {"tissue-field": field}, mask, scan=STRAIGHT, options=options)
    plain = predict(random_network, {"tissue-field": field}, mask, scan=STRAIGHT)
    assert told(refused)["network_precision"].startswith("float32")
    assert "differs" in told(refused)["network_precision"]
    assert np.array_equal(refused.maps["chi"], plain.maps["chi"])
    monkeypatch.setattr(precision, "LARGEST_DIFFERENCE_PERCENT", 100.0)
    taken = predict(random_network, {"tissue-field": field}, mask, scan=STRAIGHT, options=options)
    assert told(taken)["network_precision"].startswith("bfloat16")
    assert not np.array_equal(taken.maps["chi"], plain.maps["chi"])


def test_difference_is_that_of_the_worst_channel_without_its_mean():
    expected = torch.stack([torch.tensor([1.0, 3.0]), torch.tensor([100.0, 102.0])]).view(1, 2, 1, 1, 2)
    found = expected + torch.tensor([0.0, 0.1]).view(1, 2, 1, 1, 1)
    assert precision.difference_percent(expected, found) == pytest.approx(10.0, rel=1e-4)


def test_truncated_division_is_that_of_the_inversion():
    random = np.random.default_rng(0)
    field = random.standard_normal((31, 28, 25)).astype(np.float32)
    mask = np.zeros(field.shape, bool)
    mask[4:27, 3:25, 2:20] = True
    geometry = {"voxel_size_mm": (1.0, 1.2, 2.0), "b0_direction": (0.1, 0.2, 0.97)}
    expected = tkd(field, mask, scan=Scan(**geometry), options=TkdOptions(threshold=THRESHOLD)).chi_ppm
    expected[mask] -= expected[mask].mean()
    assert np.allclose(tkd_channel(field, mask, scan=Scan(**geometry)), expected, atol=1e-5)


def test_truncated_division_enters_as_the_second_channel(linear_network, scan):
    field, mask = scan
    network = linear_network("inversion", {"tissue-field": 0.0, "tkd": 1.0}, ("chi",), voxel_size_mm=1.0)
    found = predict(network, {"tissue-field": field}, mask, scan=STRAIGHT)
    expected = tkd_channel(field, mask, scan=STRAIGHT)
    assert np.allclose(found.maps["chi"], expected, atol=1e-6)


def test_vsharp_and_its_truncated_division_enter_as_channels_of_a_total_field(linear_network, scan):
    field, mask = scan
    valid = vsharp(field, mask, scan=STRAIGHT)
    inputs = {"total-field": 0.0, "v-sharp": 1.0}
    network = linear_network("background", inputs, ("tissue-field",), voxel_size_mm=1.0)
    found = predict(network, {"total-field": field}, mask, scan=STRAIGHT, vsharp=vsharp_channel).maps["tissue-field"]
    assert np.allclose(found, valid.tissue_field, atol=1e-6)
    inputs = {"total-field": 0.0, "v-sharp": 0.0, "tkd": 1.0}
    network = linear_network("total-inversion", inputs, ("chi",), voxel_size_mm=1.0)
    found = predict(network, {"total-field": field}, mask, scan=STRAIGHT, vsharp=vsharp_channel).maps["chi"]
    assert np.allclose(found, tkd_channel(valid.tissue_field, valid.mask, scan=STRAIGHT), atol=1e-5)


def test_the_offset_of_a_total_field_does_not_matter(linear_network, scan):
    field, mask = scan
    network = linear_network("background", {"total-field": 1.0}, ("tissue-field",), voxel_size_mm=1.0)
    once, shifted = (predict(network, {"total-field": field + c}, mask, scan=STRAIGHT).maps for c in (0, 1.5))
    assert np.allclose(once["tissue-field"], shifted["tissue-field"], atol=1e-5)
    assert np.allclose(once["tissue-field"], total_field_channel(field, mask), atol=1e-6)


def test_sources_are_never_negative(linear_network, scan):
    field, mask = scan
    network = linear_network("separation", {"chi": 1.0}, ("chi-para", "chi-dia"), voxel_size_mm=1.0)
    for geometry in (STRAIGHT, Scan((0.8, 0.8, 1.3))):
        found = predict(network, {"chi": field}, mask, scan=geometry)
        assert min(values.min() for values in found.maps.values()) >= 0
        assert found.maps["chi-para"][mask].any()
        assert found.maps["chi-dia"][mask].any()


def test_an_unrolled_network_gets_the_kernel_of_the_scan(linear_network, scan):
    field, mask = scan
    b0 = (0.3, -0.4, 0.86)
    network = linear_network("inversion", {"tissue-field": 1.0}, ("chi",), kind="lpcnn", voxel_size_mm=1.0)
    network.module.nets[0] = torch.nn.Identity()  # leaves gradient descent on the misfit
    network.module.step.data.fill_(1.0)
    found = predict(network, {"tissue-field": field}, mask, scan=Scan((1, 1, 1), b0))
    assert told(found)["network_grid"] == "as acquired"
    wrong = predict(network, {"tissue-field": field}, mask, scan=STRAIGHT)
    # two steps of the linear data term from 0, on a far larger grid
    shape = (96, 96, 96)
    dipole = dipole_kernel(shape, (1, 1, 1), b0)
    inside = np.zeros(shape, np.float32)
    given = np.zeros(shape, np.float32)
    box = tuple(slice(0, n) for n in field.shape)
    inside[box], given[box] = mask, field * mask

    def convolve(x):
        return irfftn(rfftn(x) * dipole, shape)

    x = np.zeros(shape, np.float32)
    for _ in range(2):
        x = (x - convolve(inside * (convolve(x) - given))) * inside
    errors = [np.linalg.norm(result.maps["chi"] - x[box]) / np.linalg.norm(x) for result in (found, wrong)]
    assert errors[0] < 0.05
    assert errors[1] > 0.2


def test_adaptation_sees_what_the_network_sees_and_replaces_it(double, linear_network, scan):
    field, mask = scan
    seen = []

    def adapt(network, given):
        seen.append(given)
        return linear_network("inversion", {"tissue-field": -1.0}, ("chi",), voxel_size_mm=1.0)

    found = predict(double, {"tissue-field": field}, mask, scan=STRAIGHT, adapt=adapt)
    assert len(seen) == 1
    assert np.allclose(seen[0].inputs_ppm[0], field * mask)
    assert np.allclose(found.maps["chi"], -field * mask, atol=1e-6)


def test_what_cannot_work_is_said_clearly(double, linear_network, scan):
    field, mask = scan
    with pytest.raises(ValueError, match="mask is empty"):
        predict(double, {"tissue-field": field}, mask & False, scan=STRAIGHT)
    with pytest.raises(ValueError, match="one shape"):
        predict(double, {"tissue-field": field[1:]}, mask, scan=STRAIGHT)
    with pytest.raises(ValueError, match="needs tissue-field"):
        predict(double, {"total-field": field}, mask, scan=STRAIGHT)
    with pytest.raises(ValueError, match="20 ppm"):
        predict(double, {"tissue-field": 2000 * field}, mask, scan=STRAIGHT)
    with pytest.raises(ValueError, match="shown V-SHARP"):
        shown = linear_network("background", {"v-sharp": 1.0}, ("tissue-field",), voxel_size_mm=1.0)
        predict(shown, {"total-field": field}, mask, scan=STRAIGHT)
    with pytest.raises(ValueError, match="leave patch at 0"):
        unrolled = linear_network("inversion", {"tissue-field": 1.0}, ("chi",), kind="lpcnn", voxel_size_mm=1.0)
        predict(unrolled, {"tissue-field": field}, mask, scan=STRAIGHT, options=InferenceOptions(patch=32))


def test_voxels_without_a_number_do_not_spread(double, scan):
    field, mask = scan
    spoiled = field.copy()
    spoiled[20, 20, 18] = np.nan
    assert np.isfinite(predict(double, {"tissue-field": spoiled}, mask, scan=STRAIGHT).maps["chi"]).all()


def test_a_mask_too_thin_for_the_grid_is_refused(double):
    mask = np.zeros((30, 30, 30), bool)
    mask[15, 15, 15] = True
    with pytest.raises(ValueError, match="too thin"):
        predict(double, {"tissue-field": np.zeros(mask.shape)}, mask, scan=Scan((0.3, 0.3, 0.3)))


def test_domains_differ_in_the_grid(scan):
    spec = NetworkSpec("wide", "inversion", UnetSpec(width=2, levels=1, shortcut=True), (Channel("tissue-field"),),
                       (Channel("chi"),), Domain(1.0, largest_tilt_degrees=30.0))  # fmt: skip
    network = Network(spec, build_module(spec).eval())
    field, mask = scan
    found = predict(network, {"tissue-field": field}, mask, scan=Scan((1, 1, 1), (0, 0.3, 0.95)))
    assert told(found)["network_grid"] == "as acquired"
    assert found.warnings == ()
