"""Closed forms against published constants, plain references and each other; RTS's first step against LSMR."""

import numpy as np
import pytest

from qsmprep.inversion.closed_form import mean_response
from qsmprep.inversion.l2 import L2Options, l2, smooth_inverse
from qsmprep.inversion.rts import lsmr_filter
from qsmprep.inversion.tikhonov import TikhonovOptions, tikhonov
from qsmprep.inversion.tkd import TkdOptions, division_filter, tkd
from qsmprep.inversion.tsvd import TsvdOptions, truncated_inverse, tsvd
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.krylov import lsmr
from qsmprep.numerics.operators import gradient
from qsmprep.scan import Scan


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
    result = tkd(head.field, mask, scan=head.scan, options=TkdOptions(threshold=threshold, padding=0))
    expected = plain_division(head.field.astype(float), mask, head.voxel_size_mm, b, threshold)
    assert np.linalg.norm(result.chi_ppm - expected) < 0.01 * np.linalg.norm(expected)


def test_small_threshold_returns_the_source_away_from_the_cone():
    random = np.random.default_rng(3)
    shape = (32, 36, 30)
    chi = random.standard_normal(shape).astype(np.float32) * 0.1
    dipole = dipole_kernel(shape, (1, 1, 2))
    field = irfftn(rfftn(chi) * dipole, shape)
    options = TkdOptions(threshold=0.02, correct=False, padding=0)
    result = tkd(field, np.ones(shape, bool), scan=Scan((1, 1, 2)), options=options)
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


@pytest.mark.parametrize(
    ("threshold", "constant", "left_out"),
    [
        (0.05, 0.879, 0.121),
        (0.10, 0.759, 0.241),
        (0.15, 0.642, 0.358),
        (0.19, 0.552, 0.449),
        (0.20, 0.529, 0.471),
        (0.25, 0.418, 0.582),
    ],
)
def test_truncation_leaves_out_the_published_fraction(threshold, constant, left_out):
    dipole = dipole_kernel((128, 128, 128), (1, 1, 1))
    inverse = truncated_inverse(dipole, threshold)
    assert mean_response(dipole, inverse, 128) == pytest.approx(constant, abs=1e-3)
    assert mean_response((np.abs(dipole) <= threshold).astype(float), np.ones(dipole.shape), 128) == pytest.approx(
        left_out, abs=1e-3
    )


@pytest.mark.parametrize("shape", [(10, 12, 14), (11, 9, 13)])
def test_mean_response_is_the_point_spread_function_at_its_origin(shape):
    dipole = dipole_kernel(shape, (1, 1.5, 2), (0.3, 0.1, 0.9))
    inverse = smooth_inverse(dipole, shape, (1, 1.5, 2), 0.01)
    point = np.zeros(shape)
    point[0, 0, 0] = 1
    spread = irfftn(rfftn(point) * dipole * inverse, shape)
    assert mean_response(dipole, inverse, shape[2]) == pytest.approx(spread[0, 0, 0], rel=1e-5)


@pytest.mark.parametrize("method", [tikhonov, l2])
def test_penalised_fits_are_stationary(method):
    """The map is where the gradient of misfit plus penalty vanishes; without padding, over the whole volume."""
    shape, voxel, b, weight = (12, 15, 10), (1.0, 1.5, 2.0), (0.3, -0.2, 0.933), 0.02
    field = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    field -= field.mean()
    options = {"regularisation": weight, "correct": False, "padding": 0}
    options = TikhonovOptions(**options) if method is tikhonov else L2Options(**options)
    chi = method(field, np.ones(shape, bool), scan=Scan(voxel, b), options=options).chi_ppm
    dipole = dipole_kernel(shape, voxel, b)

    def cost(x):
        size = x if method is tikhonov else gradient(x, voxel)
        misfit = irfftn(rfftn(x) * dipole, shape) - field
        return np.sum(misfit**2, dtype=float) + weight * np.sum(size**2, dtype=float)

    rng = np.random.default_rng(2)
    for _ in range(3):
        step = rng.standard_normal(shape).astype(np.float32)
        uphill, downhill = cost(chi + 0.1 * step), cost(chi - 0.1 * step)
        assert uphill > cost(chi) < downhill
        assert abs(uphill - downhill) < 1e-3 * (uphill + downhill - 2 * cost(chi))


def noise_free_sources(shape=(72, 68, 60)):
    """Spheres of even susceptibility in an ellipsoid of zero, and their field in it."""
    r = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"), -1)
    mask = ((r / (26, 24, 22)) ** 2).sum(-1) < 1
    chi = np.zeros(shape, np.float32)
    for value, radius, centre in (
        (0.1, 5, (9, 3, 0)),
        (-0.05, 7, (-8, -4, 3)),
        (0.2, 3, (0, 10, -8)),
        (0.15, 4, (0, -9, -9)),
    ):
        chi[((r - centre) ** 2).sum(-1) < radius**2] = value
    return chi, irfftn(rfftn(chi) * dipole_kernel(shape, (1, 1, 1)), shape) * mask, mask


def test_errors_on_noise_free_sources_are_the_recorded_ones():
    chi, field, mask = noise_free_sources()

    def error(method, options):
        x = method(field, mask, scan=Scan((1, 1, 1)), options=options).chi_ppm
        return 100 * np.linalg.norm((x - chi - (x - chi)[mask].mean())[mask]) / np.linalg.norm(chi)

    assert error(tkd, TkdOptions(threshold=0.15, correct=False)) == pytest.approx(25.8, rel=0.3)
    assert error(tkd, TkdOptions(threshold=0.1, correct=False)) == pytest.approx(22.1, rel=0.3)
    assert error(l2, L2Options(regularisation=1e-3)) == pytest.approx(20.6, rel=0.3)


@pytest.mark.parametrize(
    ("method", "options_type"), [(tkd, TkdOptions), (tsvd, TsvdOptions), (tikhonov, TikhonovOptions), (l2, L2Options)]
)
def test_correction_only_scales_the_map(method, options_type, head):
    maps = [
        method(head.field, head.mask, scan=head.scan, options=options_type(correct=correct)).chi_ppm
        for correct in (True, False)
    ]
    factor = np.vdot(maps[0], maps[1]) / np.vdot(maps[0], maps[0])
    assert 0.4 < factor < 1
    np.testing.assert_allclose(maps[1], factor * maps[0], atol=1e-5)
    assert options_type().correct == (method in (tkd, tikhonov))


def test_less_is_left_out_as_regularisation_falls(head):
    for method, kind, name, values in (
        (tsvd, TsvdOptions, "threshold", (0.3, 0.2, 0.1)),
        (tikhonov, TikhonovOptions, "regularisation", (0.1, 0.01, 0.001)),
        (l2, L2Options, "regularisation", (0.1, 0.01, 0.001)),
    ):
        slopes = [
            head.slope(method(head.field, head.mask, scan=head.scan,
                              options=kind(**{name: value, "correct": False})).chi_ppm)
            for value in values
        ]  # fmt: skip
        assert slopes == sorted(slopes) and slopes[-1] < 1.1


@pytest.mark.parametrize(
    "call",
    [
        lambda field, mask, **geometry: tsvd(field, mask, options=TsvdOptions(threshold=-0.1), **geometry),
        lambda field, mask, **geometry: tikhonov(field, mask, options=TikhonovOptions(regularisation=-1), **geometry),
        lambda field, mask, **geometry: l2(field, mask, options=L2Options(regularisation=0), **geometry),
    ],
    ids=["tsvd", "tikhonov", "l2"],
)
def test_options_out_of_range_are_refused(call, head):
    with pytest.raises(ValueError, match=r"threshold|regularisation"):
        call(head.field, head.mask, scan=head.scan)
