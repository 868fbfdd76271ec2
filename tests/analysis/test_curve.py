"""The L-curve finds a corner that is known, and its two axes are what they say."""

import numpy as np
import pytest
from scipy.optimize import brentq

from qsmprep.analysis.curve import data_misfit, l_curve, penalty
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan

VALUES = np.geomspace(1e-4, 1e2, 25)


def hyperbola(values, corner=0.05, sharpness=1.0):
    """ln misfit rises only beyond the corner, ln penalty falls only before it; the sharpest bend is at the corner."""
    s = np.log(values / corner)
    rise = (s + np.sqrt(s**2 + sharpness**2)) / 2
    return np.exp(rise), np.exp(5 + rise - s)


def test_the_corner_of_a_hyperbola_is_found():
    curve = l_curve(VALUES, *hyperbola(VALUES))
    assert curve.corner == pytest.approx(0.05, rel=0.15)
    assert curve.warnings == ()


def test_a_weight_of_the_data_has_its_corner_where_the_weight_of_the_penalty_has():
    misfits, penalties = hyperbola(VALUES)
    curve = l_curve(1 / VALUES, misfits, penalties)
    assert curve.corner == pytest.approx(1 / 0.05, rel=0.15)
    np.testing.assert_allclose(curve.curvatures, l_curve(VALUES, misfits, penalties).curvatures[::-1], atol=1e-6)


def test_the_curvature_of_a_circle_is_one_over_its_radius():
    angle = np.linspace(np.pi + 0.2, 1.5 * np.pi - 0.2, 25)  # the lower left quarter: bends towards the origin
    curve = l_curve(np.exp(angle), np.exp(3 * np.cos(angle)), np.exp(3 * np.sin(angle)))
    np.testing.assert_allclose(curve.curvatures[3:-3], 1 / 3, rtol=0.02)


def test_the_inflection_lies_on_the_side_of_the_weaker_penalty():
    s = np.log(VALUES)
    misfits = np.exp(np.logaddexp(0, s))
    penalties = np.exp(3 - 0.4 * s - 0.8 * np.tanh(2 * (s + 1)))

    def bend(s):
        """Curvature but for a positive factor: rho' omega'' - rho'' omega'."""
        rate, turn = 1 / (1 + np.exp(-s)), 1 / np.cosh(2 * (s + 1)) ** 2
        return rate * 6.4 * turn * np.tanh(2 * (s + 1)) + rate * (1 - rate) * (0.4 + 1.6 * turn)

    curve = l_curve(VALUES, misfits, penalties)
    assert curve.inflection is not None
    assert curve.inflection < curve.corner
    assert curve.inflection == pytest.approx(np.exp(brentq(bend, -1.4, 0)), rel=0.1)
    backwards = l_curve(1 / VALUES, misfits, penalties)
    assert backwards.inflection == pytest.approx(1 / curve.inflection, rel=0.03)


def test_a_curve_that_bends_one_way_alone_has_no_inflection():
    """Where a spline ends its second derivative is nought but for rounding, which is no turn."""
    s = np.log(VALUES)
    curve = l_curve(VALUES, np.exp(np.logaddexp(0, s)), np.exp(3 - 0.4 * s - 0.8 * np.tanh(s + 3)))
    assert curve.curvatures[1:-1].min() > 0
    assert curve.inflection is None


def test_roughness_of_unfinished_iterations_does_not_move_the_corner():
    misfits, penalties = hyperbola(VALUES)
    noise = np.random.default_rng(0).normal(scale=0.03, size=(2, VALUES.size))
    curve = l_curve(VALUES, misfits * np.exp(noise[0]), penalties * np.exp(noise[1]))
    assert 0.02 < curve.corner < 0.125
    assert curve.warnings[0].code == "curve-unsteady"


def test_a_corner_at_the_end_of_the_range_is_doubted():
    inside = VALUES > 0.1
    curve = l_curve(VALUES[inside], *hyperbola(VALUES[inside]))
    assert curve.warnings[0].code == "corner-at-end"


def test_where_the_curve_stands_still_there_is_no_corner():
    misfits, penalties = hyperbola(VALUES)
    rest = np.exp(1e-4 * np.random.default_rng(0).normal(size=(2, 10)))
    values = np.concatenate([VALUES, VALUES[-1] * 2.0 ** np.arange(1, 11)])
    curve = l_curve(values, np.append(misfits, misfits[-1] * rest[0]), np.append(penalties, penalties[-1] * rest[1]))
    assert 0.02 < curve.corner < 0.125
    still = l_curve(np.arange(1.0, 11.0), rest[0], rest[1])
    assert "curve-short" in [warning.code for warning in still.warnings]


@pytest.mark.parametrize(
    ("values", "needle"), [([1, 2, 3, 4], "five"), ([1, 2, 2, 3, 4], "different"), ([-1, 1, 2, 3, 4], "positive")]
)
def test_what_is_no_curve_is_refused(values, needle):
    numbers = np.linspace(1, 2, len(values))
    with pytest.raises(ValueError, match=needle):
        l_curve(np.array(values, float), numbers, numbers)


def test_a_map_whose_field_was_measured_has_no_misfit():
    rng = np.random.default_rng(0)
    shape, voxel, b0 = (24, 20, 18), (1.0, 1.0, 2.0), (0.0, 0.3, 0.95)
    mask = np.zeros(shape, bool)
    mask[4:-4, 4:-4, 4:-4] = True
    chi = np.where(mask, rng.normal(scale=0.05, size=shape), 0).astype(np.float32)
    wide = tuple(4 * n for n in shape)
    padded = np.zeros(wide, np.float32)
    padded[: shape[0], : shape[1], : shape[2]] = chi
    field = irfftn(rfftn(padded) * dipole_kernel(wide, voxel, b0), wide)[: shape[0], : shape[1], : shape[2]]
    scan = Scan(voxel, b0)
    exact = data_misfit(chi, field, mask, padding=60, scan=scan)
    assert exact < 1e-3 * (field[mask] ** 2).sum()
    assert data_misfit(chi, field + np.float32(0.3), mask, padding=60, scan=scan) == pytest.approx(exact, rel=1e-2)
    noise = rng.normal(scale=0.1, size=shape).astype(np.float32)
    expected = np.count_nonzero(mask) * 0.1**2
    assert data_misfit(chi, field + noise, mask, padding=60, scan=scan) == pytest.approx(expected, rel=0.1)
    spoilt = field.copy()
    spoilt[8, 8, 8] = np.nan
    assert np.isfinite(data_misfit(chi, spoilt, mask, scan=scan))


def test_voxels_without_weight_do_not_count():
    mask = np.ones((8, 8, 8), bool)
    field = np.zeros((8, 8, 8), np.float32)
    field[2, 2, 2] = 5
    weights = (field == 0).astype(np.float32)
    chi = np.zeros_like(field)
    assert data_misfit(chi, field, mask, scan=Scan((1, 1, 1)), weights=weights) == 0


def test_the_penalty_of_a_ramp_is_its_slope_and_the_rim_does_not_count():
    mask = np.zeros((10, 10, 10), bool)
    mask[2:8, 2:8, 2:8] = True
    ramp = np.where(mask, 5 + 0.1 * np.arange(10)[:, None, None], 0).astype(np.float32)
    pairs = 5 * 36
    assert penalty(ramp, mask, voxel_size_mm=(2, 1, 1), norm="l1") == pytest.approx(pairs * 0.05, rel=1e-4)
    assert penalty(ramp, mask, voxel_size_mm=(2, 1, 1), norm="l2") == pytest.approx(pairs * 0.05**2, rel=1e-4)
    spread = 36 * sum((0.1 * (n - 2.5)) ** 2 for n in range(6))
    assert penalty(ramp, mask, voxel_size_mm=(2, 1, 1), norm="image") == pytest.approx(spread, rel=1e-4)
    with pytest.raises(ValueError, match="l1"):
        penalty(ramp, mask, voxel_size_mm=(1, 1, 1), norm="l0")
