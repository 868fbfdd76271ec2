"""Adaptation reached through the options of an inversion, as the command line gives them."""

import dataclasses

import numpy as np
import pytest
import torch
from documents import told

from qsmprep import registry, settings
from qsmprep.numerics.data_return import returned_to_field
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan
from qsmprep.training.synthetic import synthetic_pairs

SCAN = Scan((1.0, 1.0, 1.0), echo_times_s=(0.005, 0.011), centre_frequency_mhz=127.7)


@pytest.fixture(scope="module")
def scan():
    """A few sources and their field in ppm, in a box."""
    mask = np.zeros((28, 28, 28), bool)
    mask[2:26, 2:26, 2:26] = True
    chi = np.zeros(mask.shape, np.float32)
    chi[8:12, 9:15, 10:13], chi[16:20, 15:19, 12:18] = 0.1, -0.08
    field = irfftn(rfftn(chi) * dipole_kernel(chi.shape, (1.0, 1.0, 1.0)), chi.shape) * mask
    return chi, field.astype(np.float32), mask


def run(network, scan, **changes):
    _, field, mask = scan
    method = registry.find("inversion", "qsmnet")
    options = dataclasses.replace(settings.build({}).options_of("inversion", "qsmnet"), **changes)
    return method.run(options, network=network, field_ppm=field, mask=mask, scan=SCAN)


@pytest.fixture
def network(linear_network):
    made = linear_network("inversion", {"tissue-field": 1.0}, ("chi",), voxel_size_mm=1.0)
    with torch.no_grad():  # so that the U-net itself can learn
        made.module.out.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(1))
    return made


def misfit(chi, scan):
    _, field, mask = scan
    return np.linalg.norm((irfftn(rfftn(chi) * dipole_kernel(chi.shape, (1.0, 1.0, 1.0)), chi.shape) - field)[mask])


def test_fine_lowers_the_misfit_and_leaves_the_network_alone(network, scan):
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    plain = run(network, scan)
    adapted = run(network, scan, adapt="fine", adapt_iterations=12, adapt_learning_rate=1e-2, adapt_tolerance=0.0)
    assert misfit(adapted.chi_ppm, scan) < 0.9 * misfit(plain.chi_ppm, scan)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())
    assert adapted.convergence.iterations == 12 and len(adapted.convergence.history) == 12
    assert told(adapted)["network_adapted_by"] == "fine"
    assert "network_adapted_by" not in told(plain)


def test_an_adaptation_that_diverges_is_not_used_and_told(network, scan):
    found = run(network, scan, adapt="fine", adapt_iterations=12, adapt_learning_rate=0.1, adapt_tolerance=0.0)
    assert not found.convergence.converged and max(found.convergence.history) > 10 * found.convergence.history[0]
    (warning,) = [warning for warning in found.warnings if warning.code == "adaptation-rose"]
    assert "--qsmnet-adapt-learning-rate" in warning.remedy
    assert told(found)["network_adapted_by"] == "nothing, as the loss of fine rose"
    assert np.array_equal(found.chi_ppm, run(network, scan).chi_ppm)


def test_the_same_case_gives_the_same_map(network, scan):
    words = {"adapt": "fine", "adapt_iterations": 3, "adapt_tolerance": 0.0}
    assert np.array_equal(run(network, scan, **words).chi_ppm, run(network, scan, **words).chi_ppm)


def test_dann_without_simulated_pairs_is_refused(network, scan):
    with pytest.raises(ValueError, match="synthetic pairs"):
        run(network, scan, adapt="dann", adapt_iterations=1)


def test_unrolled_networks_have_no_dann(linear_network):
    unrolled = linear_network("inversion", {"tissue-field": 1.0}, ("chi",), kind="lpcnn")
    with pytest.raises(ValueError, match="take fine"):
        synthetic_pairs(unrolled.spec)


def test_a_network_that_is_only_shown_an_iterated_inversion_has_pairs(linear_network):
    shown = linear_network("inversion", {"tissue-field": 0.0, "iterated": 1.0}, ("chi",))
    assert shown.spec.knows_kernel
    synthetic_pairs(shown.spec)


def test_a_map_that_returns_to_the_field_explains_it_and_the_default_does_not(network, scan):
    chi, _, mask = scan
    plain, returned = run(network, scan), run(network, scan, returns=3)
    assert misfit(returned.chi_ppm, scan) < 0.3 * misfit(plain.chi_ppm, scan)
    assert not returned.chi_ppm[~mask].any()
    wrong = [np.linalg.norm((found.chi_ppm - chi)[mask]) for found in (plain, returned)]
    assert wrong[1] < 0.8 * wrong[0]


def test_voxels_without_weight_are_not_returned_to(network, scan):
    _, field, mask = scan
    weights = mask.astype(np.float32)
    weights[10:13, 10:13, 10:13] = 0
    spoiled = np.where(weights > 0, field, 1.0).astype(np.float32) * mask
    clean, trusted, believed = (
        returned_to_field(np.zeros_like(field), data, mask, scan=SCAN, times=3, weights=given)
        for data, given in ((field, weights), (spoiled, weights), (spoiled, None))
    )
    assert np.array_equal(clean, trusted)
    assert not np.allclose(clean, believed, atol=0.05)
