"""Methods that work by a network: what they hand to it and make of its answer, with networks whose answer is known."""

import numpy as np
import pytest
from documents import told
from torch import nn

from qsmprep import registry, settings
from qsmprep.nets.rates import RATE_PER_PPM_3T, rate_per_ppm
from qsmprep.nets.spec import TASKS
from qsmprep.phantom.tissues import RELAXOMETRIC_CONSTANT_3T
from qsmprep.relaxometry.r2primenet import r2primenet
from qsmprep.scan import Scan

# A mask network sees a magnitude, and has its own tests.
METHODS = tuple(method for method in registry.METHODS if method.needs_network() and method.stage != "mask")
DEFAULTS = settings.build({})
FREQUENCY = 3 * 42.577478
SCAN = Scan((1.0, 1.0, 1.0), echo_times_s=(0.004, 0.010), centre_frequency_mhz=FREQUENCY)


@pytest.fixture(scope="module")
def scan():
    """Random images in a box: field in ppm, rates in 1/s."""
    random = np.random.default_rng(3)
    mask = np.zeros((26, 24, 22), bool)
    mask[3:22, 4:20, 3:18] = True
    field = (0.02 * random.standard_normal(mask.shape)).astype(np.float32)
    chi = (0.05 * random.standard_normal(mask.shape)).astype(np.float32)
    r2star = (20 + 5 * random.random(mask.shape)).astype(np.float32)
    return {"field": field, "chi": chi, "r2star": r2star, "mask": mask}


def inputs_of(scan):
    """Everything a method of any stage may ask for."""
    field, mask = scan["field"], scan["mask"]
    return {
        "field_ppm": field, "total_field_ppm": field, "total_mask": mask, "total_field": field * np.float32(FREQUENCY),
        "mask": mask, "chi_ppm": scan["chi"] * mask, "r2star": scan["r2star"], "r2prime": 0.3 * scan["r2star"],
        "scan": SCAN,
    }  # fmt: skip


def run(stage, name, network, images, **changes):
    method = registry.find(stage, name)
    return method.run(DEFAULTS.options_of(stage, name), network=network, **(inputs_of(images) | changes))


@pytest.fixture
def loaded(tiny_weights):
    """The small network that a method asks for by default, for voxels of 1 mm so that nothing is interpolated."""
    import dataclasses

    from qsmprep.weights.store import load_network

    def load(stage, name):
        network = load_network(tiny_weights / f"{DEFAULTS.options_of(stage, name).weights}.safetensors")
        domain = dataclasses.replace(network.spec.domain, voxel_size_mm=1.0)
        return dataclasses.replace(network, spec=dataclasses.replace(network.spec, domain=domain))

    return load


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_network_method_runs_and_refuses_another_network(method, loaded, scan):
    network = loaded(method.stage, method.name)
    result = run(method.stage, method.name, network, scan)
    inside = result.mask
    names = ("chi_ppm", "tissue_field", "chi_para", "chi_dia")
    for image in (getattr(result, name) for name in names if hasattr(result, name)):
        assert np.isfinite(image).all()
        assert not image[~inside].any()
    assert told(result)["network_grid"] == "as acquired"
    other = loaded("inversion", "lpcnn" if method.name != "lpcnn" else "qsmnet")
    with pytest.raises(ValueError, match=f"--{method.name}-weights"):
        run(method.stage, method.name, other, scan)
    with pytest.raises(ValueError, match="needs network"):
        run(method.stage, method.name, None, scan)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_roles_name_tasks_that_exist(method):
    assert method.options_type().role.task in TASKS


def test_inversions_scale_ppm_by_nothing(loaded, scan):
    field, mask = scan["field"], scan["mask"]
    found = run("inversion", "qsmnet", loaded("inversion", "qsmnet"), scan)
    assert np.allclose(found.chi_ppm[mask], 2 * field[mask], atol=1e-6)
    centred = field[mask] - field[mask].mean()
    found = run("inversion", "autoqsm", loaded("inversion", "autoqsm"), scan)
    assert np.allclose(found.chi_ppm[mask], 0.5 * centred, atol=1e-6)


def test_modl_gives_chi33_and_tells_of_the_other_field(loaded, scan):
    network = loaded("inversion", "modl")
    network.module.nets[0].out.bias.data[:] = 1.0  # answers a constant: 1 deviation, 0.05 ppm
    found = run("inversion", "modl", network, scan)
    assert np.allclose(found.chi_ppm[scan["mask"]], 0.05, atol=1e-6)
    assert "sd_of_off_diagonal_field" in told(found)


def test_lpcnn_looks_at_the_field_inside_the_mask_and_gives_what_its_network_answers(loaded, scan):
    network = loaded("inversion", "lpcnn")
    network.module.nets[0].out.bias.data[:] = 1.0  # answers a constant: 1 deviation, 0.05 ppm
    found = run("inversion", "lpcnn", network, scan)
    assert np.allclose(found.chi_ppm[scan["mask"]], 0.05, atol=1e-6)
    network.module.nets[0] = nn.Identity()  # leaves gradient descent on the misfit
    once = run("inversion", "lpcnn", network, scan)
    outside = np.where(scan["mask"], scan["field"], 5).astype(np.float32)
    assert np.array_equal(once.chi_ppm, run("inversion", "lpcnn", network, scan, field_ppm=outside).chi_ppm)
    turned = run("inversion", "lpcnn", network, scan, scan=Scan((1.0, 1.0, 1.0), (1.0, 0.0, 0.0)))
    assert told(turned)["network_grid"] == "as acquired"
    spread = once.chi_ppm[scan["mask"]].std()
    assert np.abs(once.chi_ppm - turned.chi_ppm).max() > 0.1 * spread > 0


def test_background_removal_takes_and_gives_hertz(loaded, scan):
    field, mask = scan["field"] * FREQUENCY, scan["mask"]
    found = run("background", "sharqnet", loaded("background", "sharqnet"), scan)
    expected = 0.25 * (field[mask] - field[mask].mean())
    assert np.allclose(found.tissue_field[mask], expected, atol=1e-4)
    again = run("background", "sharqnet", loaded("background", "sharqnet"), scan, total_field=field + 200)
    assert np.allclose(again.tissue_field, found.tissue_field, atol=1e-3)


@pytest.mark.parametrize("field_strength", [3.0, 7.0])
def test_rates_enter_in_ppm_of_the_field_strength(loaded, scan, field_strength):
    mask, frequency = scan["mask"], field_strength * 42.577478
    at_strength = Scan((1.0, 1.0, 1.0), centre_frequency_mhz=frequency)
    rate = 0.3 * scan["r2star"] / (114 * field_strength / 3)
    found = run("separation", "chi-sepnet-r2p", loaded("separation", "chi-sepnet-r2p"), scan,
                scan=at_strength)  # fmt: skip
    assert np.allclose(found.chi_para[mask], np.maximum(0.5 * (scan["chi"] + rate), 0)[mask], atol=1e-6)
    assert np.allclose(found.chi_dia[mask], np.maximum(0.5 * (rate - scan["chi"]), 0)[mask], atol=1e-6)
    found = run("separation", "chi-sepnet-r2s", loaded("separation", "chi-sepnet-r2s"), scan,
                scan=at_strength)  # fmt: skip
    rate = 0.2 * scan["r2star"] / (114 * field_strength / 3)
    assert np.allclose(found.chi_para[mask], np.maximum(0.5 * scan["chi"] + rate, 0)[mask], atol=1e-6)
    assert rate_per_ppm(frequency) == pytest.approx(114 * field_strength / 3)


def test_r2prime_lies_between_zero_and_r2star(linear_network, scan):
    for factor, expected in ((0.4, 0.4), (-1.0, 0.0), (3.0, 1.0)):
        network = linear_network("r2prime", {"r2star": factor}, ("r2prime",), voxel_size_mm=1.0)
        found = r2primenet(scan["r2star"], scan["mask"], network=network, scan=SCAN)
        assert np.allclose(found.r2prime, expected * scan["r2star"] * scan["mask"], atol=1e-4)


def test_the_constant_is_the_one_of_the_training():
    assert RATE_PER_PPM_3T == RELAXOMETRIC_CONSTANT_3T


def test_options_are_read_without_loading_torch():
    import subprocess
    import sys

    code = "import sys; from qsmprep import settings; settings.build({}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
