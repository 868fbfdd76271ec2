"""A finer head by interleaved lattices: each frequency was divided by a wrong kernel, which is known."""

import numpy as np
import pytest
from documents import told

from qsmprep.nets import inference
from qsmprep.nets.compensation import compensate_lattices
from qsmprep.nets.geometry import network_grid
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.units import hz_to_ppm
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.scan import Scan


@pytest.fixture(scope="module")
def head():
    """A head at 3 mm with a peak signal-to-noise ratio of 100, whose tissue field has the noise of its field map."""
    head = simulate_head(SimulationOptions(voxel_size="3", oversampling=1, tilt_x=10.0))
    mask = head.brain_mask
    noise = 0.5 * np.random.default_rng(0).standard_normal(mask.shape)  # Hz
    field = hz_to_ppm((head.local_field_hz + noise) * mask, head.centre_frequency_mhz).astype(np.float32)
    return field, mask, head.chi_ppm, head.b0_direction


def error(found, chi, mask):
    found, chi = (image[mask] - image[mask].mean() for image in (found, chi))
    return np.linalg.norm(found - chi) / np.linalg.norm(chi)


def test_it_lowers_the_error_of_a_linear_network_trained_on_twice_the_voxel(head, linear_network, monkeypatch):
    """The network gives thresholded division, which it makes of each lattice."""
    field, mask, chi, b0 = head
    network = linear_network("inversion", {"tissue-field": 0.0, "tkd": 1.0}, ("chi",), voxel_size_mm=6.0,
                             largest_tilt_degrees=45.0)  # fmt: skip
    scan = Scan((3.0, 3.0, 3.0), b0)
    with_it = inference.predict(network, {"tissue-field": field}, mask, scan=scan)
    assert "8 interleaved lattices; dipole compensation" in told(with_it)["network_grid"]
    monkeypatch.setattr(inference, "compensate_lattices", lambda chi, **_: chi)
    without = inference.predict(network, {"tissue-field": field}, mask, scan=scan)
    errors = [error(found.maps["chi"], chi, mask) for found in (with_it, without)]
    assert errors[0] < 0.8 * errors[1], errors
    assert not with_it.maps["chi"][~mask].any()


def test_frequencies_that_the_lattices_hold_are_not_touched():
    smooth = np.zeros((40, 36, 32), np.float32)
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in smooth.shape), indexing="ij")
    smooth = np.exp(-(x**2 + y**2 + z**2) / (2 * 4.0**2)).astype(np.float32)
    found = compensate_lattices(smooth, combs=(2, 2, 2), scan=Scan((0.5, 0.5, 0.5)))
    assert np.allclose(found, smooth, atol=1e-4)
    random = np.random.default_rng(0).standard_normal(smooth.shape).astype(np.float32)
    same = compensate_lattices(random, combs=(1, 1, 1), scan=Scan((0.5, 0.5, 0.5)))
    assert np.allclose(same, random, atol=1e-5)


@pytest.mark.parametrize("combs", [(2, 2, 2), (2, 1, 1), (1, 2, 3)])
def test_exact_division_on_each_lattice_becomes_that_of_the_fine_grid(combs):
    """Where both kernels are large, and the network divides by its own, nothing is left of the folding."""
    shape, b0 = (48, 48, 48), (0.2, 0.0, 0.98)
    b0 = tuple(np.array(b0) / np.linalg.norm(b0))
    fine = dipole_kernel(shape, (1.0, 1.0, 1.0), b0)
    chi = np.zeros(shape, np.float32)
    chi[16:32, 16:32, 16:32] = np.random.default_rng(1).standard_normal((16, 16, 16))
    field = irfftn(rfftn(chi) * fine, shape)
    found = np.zeros(shape, np.float32)
    for start in np.ndindex(*combs):
        part = tuple(slice(s, None, n) for s, n in zip(start, combs, strict=True))
        lattice = field[part]
        kernel = dipole_kernel(lattice.shape, tuple(float(n) for n in combs), b0)
        inverse = np.where(np.abs(kernel) > 0.15, 1 / np.where(kernel == 0, 1, kernel), np.sign(kernel) / 0.15)
        found[part] = irfftn(rfftn(lattice) * inverse, lattice.shape)
    done = compensate_lattices(found, combs=combs, scan=Scan((1.0, 1.0, 1.0), b0))
    middle = tuple(slice(16, 32) for _ in range(3))
    before, after = (np.linalg.norm(image[middle] - chi[middle]) for image in (found, done))
    assert after < 0.85 * before


def test_combs_are_given_in_the_order_of_the_scan():
    grid = network_grid((40, 40, 40), scan=Scan((0.5, 1.0, 0.25), (1.0, 0.0, 0.0)), wanted_mm=1.0)
    assert grid.order != (0, 1, 2)
    assert grid.combs_of_axes == (2, 1, 4)
