"""HD-QSM: the weights of its second stage, and what the first is good for."""

import numpy as np
import pytest

from qsmprep.inversion.hdqsm import HdQsmOptions, discounted, hdqsm
from qsmprep.inversion.tkd import tkd
from qsmprep.inversion.tv import TvOptions, tv
from qsmprep.numerics.spectral import spectra


def test_weights_fall_with_the_residual_and_vanish_where_it_is_largest():
    shape = (8, 9, 10)
    field, weights = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    field[4, 4, 4], field[1, 1, 1], weights[0] = 0.2, -0.1, 0
    found = discounted(
        weights, field, np.zeros(shape, np.float32), spectra(shape, (1, 1, 1), (0, 0, 1), kernel="greens")
    )
    assert found[4, 4, 4] == 0 and found[1, 1, 1] == pytest.approx(0.5) and found[2, 2, 2] == 1
    assert np.all(found[0] == 0)


def test_a_few_wrong_voxels_count_less_than_in_plain_total_variation(head):
    random = np.random.default_rng(4)
    salted = head.field.copy()
    salted[head.mask & (random.random(head.mask.shape) < 0.005)] += 0.3
    hybrid = hdqsm(salted, head.mask, scan=head.scan)
    plain = tv(salted, head.mask, scan=head.scan, options=TvOptions(regularisation=HdQsmOptions().alpha))
    assert head.error(hybrid.chi_ppm) < 0.6 * head.error(plain.chi_ppm)


def test_clean_field_gives_far_less_error_than_division(head):
    result = hdqsm(head.field, head.mask, scan=head.scan)
    assert result.convergence.converged
    assert head.error(result.chi_ppm) < 0.6 * head.error(tkd(head.field, head.mask, scan=head.scan).chi_ppm)


def test_both_stages_count_and_the_second_reaches_its_own_minimum(head):
    calls = []
    options = HdQsmOptions(l1_iterations=5, max_iterations=7, tolerance=0)
    result = hdqsm(head.field, head.mask, scan=head.scan, options=options, progress=lambda *call: calls.append(call))
    assert calls == [(i, 12) for i in range(1, 13)]
    assert result.convergence.iterations == 12 and not result.convergence.converged


def test_negative_weight_of_total_variation_is_refused(head):
    with pytest.raises(ValueError, match="alpha"):
        hdqsm(head.field, head.mask, scan=head.scan, options=HdQsmOptions(alpha=-1.0))
