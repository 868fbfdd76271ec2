"""TGV-QSM: its operators, its minimum, and what it makes of wrapped phase."""

import dataclasses
import itertools
from types import MappingProxyType

import numpy as np
import pytest

from qsmprep.inversion.tgv import TgvOptions, field_gradients, tgv
from qsmprep.numerics.tgv_primal_dual import dual_step, make_grid, primal_step, stencils, zero_state
from qsmprep.numerics.threads import use_threads
from qsmprep.scan import Scan

TIMES = np.array([0.006, 0.013, 0.02])
FREQUENCY = 127.7
OPTIONS = TgvOptions(erosions=1, max_iterations=300)


def measure(head, noise=0.01):
    """Wrapped phase and magnitude of a head with a strong background field of sources outside of it."""
    x, y, z = np.meshgrid(
        *((np.arange(n) - n / 2) * h for n, h in zip(head.mask.shape, head.voxel_size_mm, strict=True)), indexing="ij"
    )
    background = 0.01 * z + 0.004 * x + 2e-4 * (2 * z * z - x * x - y * y)
    random = np.random.default_rng(2)
    angle = 2 * np.pi * FREQUENCY * TIMES[:, None, None, None] * (head.field + background)
    magnitude = (np.exp(-25 * TIMES)[:, None, None, None] * head.magnitude).astype(np.float32)
    phase = angle + noise * random.standard_normal(angle.shape)
    return np.angle(np.exp(1j * phase)).astype(np.float32), magnitude


def scan_of(head, **changes):
    return dataclasses.replace(head.scan, **{"echo_times_s": TIMES, "centre_frequency_mhz": FREQUENCY} | changes)


def run(head, noise=0.01, scan=MappingProxyType({}), **changes):
    """`scan` changes the scan, all others the inputs beside it."""
    phase, magnitude = measure(head, noise)
    inputs = dict(
        phase=phase, total_mask=head.mask, magnitude=magnitude, options=OPTIONS, scan=scan_of(head, **scan),
    ) | changes  # fmt: skip
    with use_threads(1):  # threads would wait for each other on grids this small
        return tgv(**inputs)


@pytest.fixture(scope="module")
def head(head_factory):
    return head_factory((32, 37, 32), (1.5, 1.5, 1.5))


@pytest.fixture(scope="module")
def result(head):
    calls = []
    return run(head, progress=lambda done, total: calls.append(done)), calls


def test_nuclei_come_back_from_wrapped_phase_with_a_strong_background(head, result):
    found, calls = result
    assert 0.85 < head.slope(found.chi_ppm, found.mask) < 1.2
    assert found.chi_ppm.dtype == np.float32 and found.mask.dtype == bool
    assert not found.chi_ppm[~found.mask].any() and not np.any(found.mask & ~head.mask)
    assert calls == list(range(1, found.convergence.iterations + 1))


def test_same_map_whatever_the_number_of_threads(head):
    phase, magnitude = measure(head)
    few = TgvOptions(erosions=1, max_iterations=10)
    maps = []
    for threads in (1, 2):
        with use_threads(threads):
            maps.append(tgv(phase, head.mask, magnitude=magnitude, options=few,
                            scan=scan_of(head)).chi_ppm)  # fmt: skip
    assert np.array_equal(*maps)


def test_whole_turns_do_not_matter(head, result):
    phase, _ = measure(head)
    turns = np.random.default_rng(3).integers(-2, 3, phase.shape)
    np.testing.assert_allclose(run(head, phase=phase + 2 * np.pi * turns).chi_ppm, result[0].chi_ppm, atol=2e-4)


def test_differences_are_unwrapped_along_the_echoes():
    field = np.cumsum(np.full((6, 4, 4), 0.25), axis=0)  # 1.3 turns between neighbours at the last echo
    phase = np.angle(np.exp(2j * np.pi * FREQUENCY * TIMES[:, None, None, None] * field)).astype(np.float32)
    gradients = field_gradients(phase, None, Scan((2.0, 1.0, 1.0), (0, 0, 1), TIMES, FREQUENCY))
    np.testing.assert_allclose(gradients[0, :-1], 0.125, rtol=1e-4)
    assert np.abs(gradients[1:]).max() < 1e-4


def test_stencil_is_the_laplacian_of_the_dipole_field():
    """Of any quadratic chi, with B0 and voxels askew: 1/3 laplacian - b' H b."""
    h, b = (1.0, 1.5, 0.8), np.array([0.3, -0.5, 0.81])
    random = np.random.default_rng(4)
    hessian = random.standard_normal((3, 3))
    hessian = hessian + hessian.T
    s = stencils(h, b).astype(float)
    b = b / np.linalg.norm(b)
    x = np.stack(np.meshgrid(*((np.arange(3) - 1) * d for d in h), indexing="ij"), -1)
    chi = 0.5 * np.einsum("...i,ij,...j", x, hessian, x)
    found = sum(s[6 + d] * (chi.take(2, d) + chi.take(0, d) - 2 * chi.take(1, d))[1, 1] for d in range(3))
    for (i, j), mixed in zip(((0, 1), (0, 2), (1, 2)), s[9:], strict=True):
        plane = chi.take(1, 3 - i - j)
        found += mixed * (plane[2, 2] - plane[2, 0] - plane[0, 2] + plane[0, 0])
    assert found == pytest.approx(np.trace(hessian) / 3 - b @ hessian @ b, rel=1e-5)


def small_grid(device="cpu"):
    random = np.random.default_rng(5)
    data = np.zeros((11, 10, 12), bool)
    data[2:-2, 2:-2, 2:-2] = random.uniform(size=(7, 6, 8)) < 0.9
    penalised = np.zeros_like(data)
    penalised[2:-2, 2:-2, 2:-2] = True
    source = random.standard_normal(data.shape).astype("f4") * 0.01
    return make_grid(source, data, penalised, voxel_size_mm=(1.0, 1.2, 0.9), b0_direction=(0.2, -0.4, 0.9),
                     alpha1=1e-4, alpha0=1.5e-4, device=device)  # fmt: skip


def advance(grid, count, device="cpu"):
    state = zero_state((11, 10, 12), device)
    for _ in range(count):
        primal_step(state, grid)
        dual_step(state, grid)
    return state


def test_torch_takes_the_same_steps():
    pytest.importorskip("torch")
    expected, found = advance(small_grid(), 60), advance(small_grid("torch:cpu"), 60, "torch:cpu")
    for field in dataclasses.fields(expected):
        np.testing.assert_allclose(getattr(found, field.name).numpy(), getattr(expected, field.name), atol=2e-5)


def test_minimum_agrees_with_an_independent_solver():
    """Chambolle-Pock in double precision, one step size for all, on a matrix put together voxel by voxel."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import norm as spectral

    grid = small_grid()
    shape, flags = grid.source.shape, grid.flags
    strides, size = (shape[1] * shape[2], shape[2], 1), grid.source.size
    s = grid.stencil.astype(float)
    exists = [((flags.ravel() >> bit) & 1).astype(bool) for bit in range(11)]
    rows, columns, values, kinds = [], [], [], []

    def relation(kind, terms):
        for column, value in terms:
            rows.append(len(kinds))
            columns.append(column)
            values.append(value)
        kinds.append(kind)

    pairs = ((0, 1), (0, 2), (1, 2))
    for v in range(size):
        phi, chi = v, size + v
        if exists[9][v]:
            terms = []
            for d, t in enumerate(strides):
                terms += [(phi + t, -s[3 + d]), (phi - t, -s[3 + d]), (phi, 2 * s[3 + d])]
                terms += [(chi + t, s[6 + d]), (chi - t, s[6 + d]), (chi, -2 * s[6 + d])]
            for (i, j), m in zip(pairs, s[9:], strict=True):
                for a, b in itertools.product((1, -1), repeat=2):
                    terms.append((chi + a * strides[i] + b * strides[j], m * a * b))
            relation(("eta", v, 1), terms)
        for d, t in enumerate(strides):
            if exists[d][v]:
                relation(("p", v, 1), [(chi + t, s[d]), (chi, -s[d]), ((2 + d) * size + v, -1.0)])
        for d, t in enumerate(strides):
            if exists[3 + d][v]:
                relation(("q", v, 1), [((2 + d) * size + v, s[d]), ((2 + d) * size + v - t, -s[d])])
        for bit, (i, j) in enumerate(pairs):
            if exists[6 + bit][v]:
                w, u, root = (2 + i) * size + v, (2 + j) * size + v, np.sqrt(0.5)
                relation(("q", v, 1), [(w, root * s[j]), (w - strides[j], -root * s[j]), (u, root * s[i]),
                                       (u - strides[i], -root * s[i])])  # fmt: skip
    matrix = coo_array((values, (rows, columns)), shape=(len(kinds), 5 * size)).tocsr()
    names, voxels = np.array([k[0] for k in kinds]), np.array([k[1] for k in kinds])
    step = 0.95 / np.sqrt(spectral(matrix, np.inf) * spectral(matrix, 1))
    tau, sigma = step * 30, step / 30
    weight = np.zeros(5 * size)
    weight[:size] = exists[10]
    wanted = np.where(names == "eta", grid.source.ravel().astype(float)[voxels], 0)
    x = x_bar = np.zeros(5 * size)
    y = np.zeros(len(kinds))
    for _ in range(20000):
        y = y + sigma * (matrix @ x_bar - wanted)
        for name, bound in (("p", grid.alpha1), ("q", grid.alpha0)):
            mine = names == name
            length = np.sqrt(np.bincount(voxels[mine], y[mine] ** 2, size))
            y[mine] *= (bound / np.maximum(bound, length))[voxels[mine]]
        new = (x - tau * (matrix.T @ y)) / (1 + tau * weight)
        x, x_bar = new, 2 * new - x
    with use_threads(1):
        state = advance(grid, 10000)
    inside = exists[10]
    expected, found = x[size : 2 * size][inside], state.chi.ravel()[inside]
    expected, found = expected - expected.mean(), found - found.mean()
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_order_of_the_axes_does_not_matter(head_factory):
    head = head_factory((40, 49, 30), (1.0, 1.0, 1.5), (0.2, -0.3, 0.93))
    phase, magnitude = measure(head)
    few = TgvOptions(erosions=1, tolerance=0.0, max_iterations=60)
    expected = run(head, options=few).chi_ppm
    for order in ((1, 2, 0), (2, 1, 0)):
        images = (0, *(a + 1 for a in order))
        axes = head.turned_scan(order)
        turned = run(
            head, phase=phase.transpose(images), magnitude=magnitude.transpose(images), options=few,
            total_mask=head.mask.transpose(order),
            scan={"voxel_size_mm": axes.voxel_size_mm, "b0_direction": axes.b0_direction},
        ).chi_ppm  # fmt: skip
        np.testing.assert_allclose(turned.transpose(np.argsort(order)), expected, atol=1e-5)


def test_unreliable_voxels_and_missing_numbers_do_not_count(head, result):
    phase, _ = measure(head)
    residual = np.zeros(head.mask.shape, np.float32)
    residual[11:14, 18:21, 14:17] = 0.9
    spoiled = phase.copy()
    spoiled[:, residual > 0.3] = np.random.default_rng(6).uniform(-3, 3, (3, 27))
    plain = run(head, phase=spoiled)
    excluded = run(head, phase=spoiled, relative_residual=residual)
    spoiled[:, residual > 0.3] = np.nan
    absent = run(head, phase=spoiled)
    assert np.array_equal(excluded.mask, result[0].mask)
    assert head.error(excluded.chi_ppm, excluded.mask) < 0.7 * head.error(plain.chi_ppm, plain.mask)
    np.testing.assert_allclose(absent.chi_ppm, excluded.chi_ppm, atol=1e-6)


def test_wrong_input_is_refused_by_name(head):
    phase, magnitude = measure(head)
    for message, changes in (
        ("one shape", {"total_mask": head.mask[1:]}),
        ("mask is empty", {"total_mask": np.zeros_like(head.mask)}),
        ("erosions", {"options": TgvOptions(erosions=30)}),
        ("milliseconds", {"scan": {"echo_times_s": TIMES * 1000}}),
        ("echo times", {"scan": {"echo_times_s": TIMES[:2]}}),
        ("centre frequency", {"scan": {"centre_frequency_mhz": 0.0}}),
        ("scanner units", {"phase": phase * 1000}),
        ("not be negative", {"magnitude": -magnitude}),
        ("alpha1", {"options": TgvOptions(alpha1=-1.0)}),
    ):
        with pytest.raises(ValueError, match=message):
            run(head, **changes)
