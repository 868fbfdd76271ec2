"""TKD against published constants and a plain reference; RTS's first step against LSMR in image space."""

import numpy as np
import pytest

from qsmprep.dipole import dipole_kernel
from qsmprep.fourier import irfftn, rfftn
from qsmprep.inversion.rts import lsmr_filter
from qsmprep.inversion.tkd import TkdOptions, division_filter, tkd
from qsmprep.solvers import lsmr


def plain_division(field, mask, voxel_size_mm, b, threshold):
    """TKD in double precision with a full complex transform, after Shmueli 2009 and Schweser 2013."""
    k = np.meshgrid(*(np.fft.fftfreq(n, h) for n, h in zip(field.shape, voxel_size_mm, strict=True)), indexing="ij")
    with np.errstate(invalid="ignore"):
        dipole = 1 / 3 - sum(kd * bd for kd, bd in zip(k, b, strict=True)) ** 2 / sum(kd**2 for kd in k)
    dipole[0, 0, 0] = 0
    inverse = np.where(np.abs(dipole) > threshold, 1 / np.where(dipole == 0, 1, dipole), 1 / threshold)
    inverse[(dipole < 0) & (np.abs(dipole) <= threshold)] *= -1
    inverse[0, 0, 0] = 0
    return np.fft.ifftn(np.fft.fftn(field * mask) * inverse).real * mask / np.mean(dipole * inverse)


@pytest.mark.parametrize(
    ("threshold", "constant"),
    [(0.05, 0.939), (0.10, 0.879), (0.15, 0.820), (0.19, 0.773), (0.20, 0.761), (0.25, 0.704)],
)
def test_correction_factor_is_the_published_one(threshold, constant):
    shape = (128, 128, 128)
    assert division_filter(dipole_kernel(shape, (1, 1, 1)), threshold, 128)[1] == pytest.approx(constant, abs=1e-3)


@pytest.mark.parametrize("threshold", [0.1, 0.15, 0.2])
def test_agrees_with_a_plain_formula(head_factory, threshold):
    b = np.array([0.1, 0.2, 1.0]) / np.linalg.norm([0.1, 0.2, 1.0])
    # sizes that need no padding, so that both see the same grid; no Nyquist index off the axis of a product
    head = head_factory((45, 45, 45), (1.0, 1.0, 1.0), tuple(b))
    mask = np.ones_like(head.mask)
    result = tkd(head.field, mask, **head.geometry, options=TkdOptions(threshold=threshold, padding=0))
    expected = plain_division(head.field.astype(float), mask, head.voxel_size_mm, b, threshold)
    assert np.linalg.norm(result.chi_ppm - expected) < 0.01 * np.linalg.norm(expected)


def test_small_threshold_returns_the_source_away_from_the_cone():
    random = np.random.default_rng(3)
    shape = (32, 36, 30)
    chi = random.standard_normal(shape).astype(np.float32) * 0.1
    dipole = dipole_kernel(shape, (1, 1, 2))
    field = irfftn(rfftn(chi) * dipole, shape)
    options = TkdOptions(threshold=0.02, correct=False, padding=0)
    result = tkd(field, np.ones(shape, bool), voxel_size_mm=(1, 1, 2), b0_direction=(0, 0, 1), options=options)
    away = np.abs(dipole) > 0.02
    np.testing.assert_allclose(rfftn(result.chi_ppm)[away], rfftn(chi)[away], atol=2e-3)
    assert abs(result.chi_ppm.mean()) < 1e-6


@pytest.mark.parametrize("shape", [(16, 18, 15), (15, 12, 16)])
def test_first_step_of_rts_is_lsmr(shape):
    random = np.random.default_rng(4)
    field = random.standard_normal(shape)
    dipole = dipole_kernel(shape, (1, 1, 1), (0.3, 0.1, 0.9)).astype(float)

    def apply(x):
        return irfftn(rfftn(x) * dipole, shape)

    for iterations in (2, 4, 8):
        expected = lsmr(apply, apply, field, max_iterations=iterations).x
        spectrum = rfftn(field)
        found = irfftn(spectrum * lsmr_filter(dipole, spectrum, shape[2], iterations), shape)
        assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)
