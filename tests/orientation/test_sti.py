"""Susceptibility tensor imaging: known tensors come back, and an isotropic head has no anisotropy."""

import numpy as np
import pytest

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.orientation.directions import PAIRS
from qsmprep.orientation.inputs import Orientations
from qsmprep.orientation.sti import StiOptions, sti, tensor_field, unit_frequencies

SHAPE, VOXEL = (15, 9, 15), (1.0, 1.2, 0.9)  # odd sizes: no Nyquist index
DIRECTIONS = np.random.default_rng(5).standard_normal((12, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1)[:, None]
EVERYWHERE = np.ones(SHAPE, bool)
PLAIN = StiOptions(padding=0)


def forward(tensor, directions=DIRECTIONS, shape=SHAPE, voxel=VOXEL):
    k, spectra = unit_frequencies(shape, voxel), [rfftn(part) for part in tensor]
    return np.stack([irfftn(tensor_field(spectra, b, k), shape) for b in directions])


def solve(fields, mask=EVERYWHERE, directions=DIRECTIONS, weights=None, options=PLAIN, **keywords):
    return sti(Orientations(fields, mask, VOXEL, directions, weights), options=options, **keywords)


@pytest.fixture
def tensor():
    image = np.random.default_rng(0).standard_normal((6, *SHAPE)).astype(np.float32) * 0.05
    return image - image.mean(axis=(1, 2, 3), keepdims=True)


def test_known_tensors_come_back(tensor):
    result = solve(forward(tensor))
    assert np.abs(result.tensor_ppm - tensor).max() < 2e-5
    assert np.abs(result.mean_ppm - tensor[:3].mean(axis=0)).max() < 2e-5


def test_lsmr_comes_to_the_same_tensors(tensor):
    options = StiOptions(padding=0, tolerance=1e-6, max_iterations=400)
    result = solve(forward(tensor), weights=np.ones((12, *SHAPE)), options=options)
    assert result.convergence.converged
    assert np.linalg.norm(result.tensor_ppm - tensor) < 5e-3 * np.linalg.norm(tensor)


def test_an_isotropic_tensor_has_the_dipole_field_and_no_anisotropy():
    chi = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32) * 0.05
    chi -= chi.mean()
    fields = np.stack([irfftn(rfftn(chi) * dipole_kernel(SHAPE, VOXEL, tuple(b)), SHAPE) for b in DIRECTIONS])
    result = solve(fields)
    assert np.abs(result.mean_ppm - chi).max() < 1e-5
    assert np.abs(result.anisotropy_ppm).max() < 1e-5
    assert np.abs(result.offdiagonal_ppm).max() < 1e-5


def test_the_field_is_that_of_chi33_plus_that_of_the_offdiagonal_components(tensor):
    fields = forward(tensor)
    result = solve(fields)
    dipole = dipole_kernel(SHAPE, VOXEL, tuple(DIRECTIONS[0]))
    whole = irfftn(rfftn(result.chi33_ppm) * dipole, SHAPE) + result.offdiagonal_ppm
    assert np.abs(whole - fields[0]).max() < 1e-4


def test_laboratory_components_follow_the_given_axes(tensor):
    axes = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    result = solve(forward(tensor), laboratory_axes=axes)
    full = np.empty((*SHAPE, 3, 3))
    for part, (m, n) in zip(tensor, PAIRS, strict=True):
        full[..., m, n] = full[..., n, m] = part
    turned = axes @ full @ axes.T
    for m, n in PAIRS:
        assert np.abs(getattr(result, f"chi{m + 1}{n + 1}_ppm") - turned[..., m, n]).max() < 5e-5
    assert np.allclose(result.laboratory_axes, axes)


def test_the_closed_form_is_the_dense_least_squares():
    shape, voxel = (3, 5, 3), (1.0, 1.0, 1.0)
    fields = np.random.default_rng(4).standard_normal((12, *shape)).astype(np.float32) * 0.01
    columns = [forward(unit, shape=shape, voxel=voxel).ravel()
               for unit in np.eye(270, dtype=np.float32).reshape(270, 6, *shape)]  # fmt: skip
    dense = np.linalg.lstsq(np.array(columns, float).T, fields.ravel().astype(float), rcond=1e-5)[0].reshape(6, *shape)
    found = sti(Orientations(fields, np.ones(shape, bool), voxel, DIRECTIONS), options=PLAIN).tensor_ppm
    assert np.linalg.norm(found - dense) < 1e-3 * np.linalg.norm(dense)


def test_anisotropy_is_the_largest_eigenvalue_less_the_mean_of_the_others():
    from qsmprep.orientation.sti import anisotropy

    axes = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    full = axes @ np.diag([0.01, -0.02, 0.04]) @ axes.T
    image = np.array([full[m, n] for m, n in PAIRS]).reshape(6, 1, 1, 1)
    assert anisotropy(image, np.ones((1, 1, 1), bool))[0, 0, 0] == pytest.approx(0.045, abs=1e-7)


def test_model_and_its_adjoint_agree():
    """<A x, y> = <x, A'y>, seen from outside: LSMR's first step is along the steepest descent of the least squares."""
    shape, voxel = (3, 5, 3), (1.0, 1.0, 1.0)
    random = np.random.default_rng(6)
    fields = random.standard_normal((12, *shape)).astype(np.float32) * 0.01
    weights = random.uniform(0.3, 1, (12, *shape))
    weights /= weights.max()
    columns = np.array([(forward(unit, shape=shape, voxel=voxel) * weights).ravel()
                        for unit in np.eye(270, dtype=np.float32).reshape(270, 6, *shape)]).T  # fmt: skip
    scale = np.repeat([1, 1, 1, np.sqrt(0.5), np.sqrt(0.5), np.sqrt(0.5)], 45)
    steepest = (columns * scale).T @ (fields * weights).ravel() * scale
    found = sti(Orientations(fields, np.ones(shape, bool), voxel, DIRECTIONS, weights),
                options=StiOptions(padding=0, max_iterations=1)).tensor_ppm.ravel()  # fmt: skip
    assert found @ steepest / np.linalg.norm(found) / np.linalg.norm(steepest) == pytest.approx(1, abs=1e-5)


def test_orientations_too_much_alike_or_too_few_are_refused(tensor):
    nearly = np.array([(0, 0, 1)] * 12) + 0.02 * DIRECTIONS
    with pytest.raises(ValueError, match="too much alike for susceptibility tensor imaging"):
        solve(forward(tensor, nearly), directions=nearly)
    with pytest.raises(ValueError, match="needs 6 or more orientations; there are 5"):
        solve(forward(tensor)[:5], directions=DIRECTIONS[:5])


def test_torch_gives_the_same(tensor):
    pytest.importorskip("torch")
    fields = forward(tensor)
    for extra in ({}, {"weights": np.ones(fields.shape)}):
        one, other = solve(fields, **extra), solve(fields, device="torch:cpu", **extra)
        assert np.abs(one.tensor_ppm - other.tensor_ppm).max() < 2e-5
