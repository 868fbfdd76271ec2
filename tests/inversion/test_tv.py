"""Plain total variation: its minimum, its weights, what it recovers."""

import numpy as np
import pytest

from qsmprep.inversion.inputs import unit_weights
from qsmprep.inversion.linear import LinearInput, linear_total_variation
from qsmprep.inversion.tkd import tkd
from qsmprep.inversion.tv import TvOptions, tv
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.operators import gradient
from qsmprep.numerics.spectral import spectra
from qsmprep.scan import Scan


def cost(x, field, weights, dipole, h, lam):
    """Of the minimisation problem, in double precision."""
    residual = irfftn(dipole * rfftn(x), x.shape) - field
    return 0.5 * ((weights * residual) ** 2).sum() + lam * np.abs(gradient(x, h)).sum()


def primal_dual(field, weights, dipole, h, lam, iterations=2500):
    """The minimum by the algorithm of Chambolle and Pock, in double precision."""
    from qsmprep.numerics.operators import gradient_adjoint

    def forward(x):
        return irfftn(dipole * rfftn(x), x.shape)

    tau = sigma = 0.99 / np.sqrt(4 * sum(1 / s**2 for s in h) + (weights * weights).max())
    x = over = np.zeros(field.shape)
    p, q = np.zeros((3, *field.shape)), np.zeros(field.shape)
    for _ in range(iterations):
        p = np.clip(p + sigma * gradient(over, h), -lam, lam)
        q = (q + sigma * (weights * (forward(over) - field))) / (1 + sigma)
        after = x - tau * (gradient_adjoint(p, h) + forward(weights * q))
        over, x = 2 * after - x, after
    return x


@pytest.mark.parametrize("weighted", [True, False])
def test_reaches_the_minimum_of_an_independent_solver(weighted):
    shape, h, lam = (12, 11, 10), (1.0, 1.0, 1.5), 2e-3
    random = np.random.default_rng(3)
    truth = np.zeros(shape)
    truth[3:8, 3:7, 3:7] = 0.2
    dipole = dipole_kernel(shape, h, (0.2, 0.1, 0.9)).astype(float)
    field = irfftn(dipole * rfftn(truth), shape) + 5e-3 * random.standard_normal(shape)
    weights = random.uniform(0.3, 1, shape) if weighted else np.ones(shape)
    expected = cost(primal_dual(field, weights, dipole, h, lam), field, weights, dipole, h, lam)
    x, history, converged = linear_total_variation(
        LinearInput(
            None, field.astype(np.float32), weights.astype(np.float32) if weighted else None,
            spectra(shape, h, (0.2, 0.1, 0.9), kernel="continuous"), h,
        ),
        regularisation=lam, tolerance_percent=1e-3, max_iterations=2000,
    )  # fmt: skip
    assert converged and len(history) < 2000
    assert cost(x.astype(float), field, weights, dipole, h, lam) == pytest.approx(expected, rel=1e-3)


def test_noise_free_piecewise_constant_sources_come_back():
    shape = (64, 60, 54)
    r = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"), -1)
    mask = ((r / (26, 24, 22)) ** 2).sum(-1) < 1
    chi = np.zeros(shape, np.float32)
    for value, radius, centre in ((0.1, 5, (9, 3, 0)), (-0.05, 7, (-8, -4, 3)), (0.2, 3, (0, 10, -8))):
        chi[((r - centre) ** 2).sum(-1) < radius**2] = value
    field = irfftn(rfftn(chi) * dipole_kernel(shape, (1, 1, 1)), shape) * mask

    def error(x):
        return 100 * np.linalg.norm((x - chi - (x - chi)[mask].mean())[mask]) / np.linalg.norm(chi)

    options = TvOptions(padding=0, kernel="continuous", regularisation=2e-5, tolerance=0.05)
    assert error(tv(field, mask, scan=Scan((1, 1, 1)), options=options).chi_ppm) < 5


def test_weights_keep_the_outside_from_counting(head):
    """Outside the mask the field is 0 because nobody measured it: with no weights, that is believed."""
    division = head.error(tkd(head.field, head.mask, scan=head.scan).chi_ppm)
    errors = {
        kind: head.error(tv(head.field, head.mask, scan=head.scan, options=TvOptions(data_weights=kind)).chi_ppm)
        for kind in ("mask", "none")
    }
    assert errors["mask"] < 0.6 * division
    assert errors["mask"] < errors["none"] < division


def test_a_region_without_weight_is_filled_from_around_it(head):
    spoiled, weights = head.field.copy(), head.mask.astype(np.float32)
    spoiled[15:18, 25:28, 20:23] += 0.4
    weights[15:18, 25:28, 20:23] = 0
    plain = head.error(tv(spoiled, head.mask, scan=head.scan).chi_ppm)
    weighted = head.error(tv(spoiled, head.mask, weights=weights, scan=head.scan).chi_ppm)
    assert weighted < 0.5 * plain


def test_scale_of_the_weights_does_not_matter(head):
    random = np.random.default_rng(0)
    weights = (head.mask * random.uniform(0.5, 1, head.mask.shape)).astype(np.float32)
    options = TvOptions(max_iterations=10)
    maps = [tv(head.field, head.mask, weights=f * weights, scan=head.scan, options=options).chi_ppm for f in (1, 64)]
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-6)
    assert unit_weights(weights, head.mask).max() == 1


def test_negative_regularisation_is_refused(head):
    with pytest.raises(ValueError, match="regularisation"):
        tv(head.field, head.mask, scan=head.scan, options=TvOptions(regularisation=-1e-3))
