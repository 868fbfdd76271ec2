"""L1-QSM: its proximal step, its minimum, and its indifference to wrong voxels."""

import numpy as np
import pytest

from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.inversion.l1qsm import L1QsmOptions, l1qsm
from qsmprep.inversion.tv import TvOptions, tv
from qsmprep.numerics import proximal
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient, gradient_adjoint
from qsmprep.numerics.proximal import fit_phase_l1, threshold_rows
from qsmprep.numerics.spectral import spectra


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("nonlinear", [True, False])
@pytest.mark.parametrize("mu", [0.3, 1.0, 20.0])
def test_data_step_finds_the_global_minimum(mu, nonlinear, kind, monkeypatch):
    monkeypatch.setattr(proximal, "RELAXATION", 1.0)
    random = np.random.default_rng(1)
    shape = (500, 1, 1)
    weights = random.uniform(0, 1, shape).astype(np.float32)
    phase = random.uniform(-7, 7, shape).astype(np.float32)
    wanted = (phase + random.uniform(-3.1, 3.1, shape)).astype(np.float32)
    data, dual = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    arrays = [wanted, data, dual, phase, weights]
    if kind == "torch":
        torch = pytest.importorskip("torch")
        arrays = [torch.as_tensor(a) for a in arrays]
    fit_phase_l1(*arrays, mu, nonlinear=nonlinear)
    z = wanted.astype(float) - np.asarray(arrays[2], float)

    def cost(z):
        miss = 2 * np.abs(np.sin((z - phase) / 2)) if nonlinear else np.abs(z - phase)
        return weights * miss + mu / 2 * (z - wanted) ** 2

    best = np.min([cost(phase + offset) for offset in np.linspace(-np.pi, np.pi, 1001)], axis=0)
    assert np.all(cost(z) <= best + 1e-5)


def test_linear_l1_reaches_the_minimum_of_an_independent_solver():
    shape, h, alpha = (12, 10, 9), (1.0, 1.0, 1.0), 0.05
    random = np.random.default_rng(3)
    truth = np.zeros(shape)
    truth[3:8, 3:7, 3:7] = 0.5
    dipole = dipole_kernel(shape, h).astype(float)

    def forward(x):
        return irfftn(dipole * rfftn(x), shape)

    field = forward(truth) + 0.01 * random.standard_normal(shape)
    weights = random.uniform(0.3, 1, shape)

    def cost(x):
        return np.abs(weights * (forward(x) - field)).sum() + alpha * np.abs(gradient(x, h)).sum()

    tau = sigma = 0.99 / np.sqrt(13)
    x = over = np.zeros(shape)
    p, q = np.zeros((3, *shape)), np.zeros(shape)
    for _ in range(3000):  # Chambolle and Pock
        p = np.clip(p + sigma * gradient(over, h), -alpha, alpha)
        q = np.clip(q + sigma * (forward(over) - field), -weights, weights)
        after = x - tau * (gradient_adjoint(p, h) + forward(q))
        over, x = 2 * after - x, after
    phase = field.astype(np.float32)
    problem = PhaseProblem(phase, weights.astype(np.float32), threshold_rows(0.01, None, shape, phase), None,
                           spectra(shape, h, (0, 0, 1), kernel="continuous"), h)  # fmt: skip
    found, _, _ = minimise_total_variation(
        problem, Penalties(alpha / 0.01, 20.0, nonlinear=False, robust=True), tolerance_percent=0, max_iterations=600
    )
    assert cost(found.astype(float)) == pytest.approx(cost(x), rel=2e-3)


def test_a_few_wrong_voxels_do_not_pull(head):
    """Salt in the field: L1 ignores it, the square of TV believes it."""
    random = np.random.default_rng(4)
    salted = head.field.copy()
    salted[head.mask & (random.random(head.mask.shape) < 0.01)] += 0.2
    robust = l1qsm(salted, head.mask, scan=head.scan, options=L1QsmOptions(nonlinear=False))
    square = tv(salted, head.mask, scan=head.scan, options=TvOptions())
    assert head.error(robust.chi_ppm) < 0.6 * head.error(square.chi_ppm)


def test_nonlinear_data_term_is_blind_to_phase_wraps(head):
    turn = 2 * np.pi / radians_per_ppm(head.scan)
    wrapped = head.field.copy()
    wrapped[18:26, 28:34, 20:24] += turn
    maps = [l1qsm(field, head.mask, scan=head.scan).chi_ppm for field in (head.field, wrapped)]
    assert np.linalg.norm(maps[1] - maps[0]) < 0.02 * np.linalg.norm(maps[0])


def test_negative_weight_of_total_variation_is_refused(head):
    with pytest.raises(ValueError, match="alpha1"):
        l1qsm(head.field, head.mask, scan=head.scan, options=L1QsmOptions(alpha1=-1.0))
