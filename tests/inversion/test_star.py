"""STAR-like inversion: strong sources first, so that their streaks do not spoil the rest."""

import numpy as np
import pytest

from qsmprep.inversion.star import StarOptions, star
from qsmprep.inversion.tv import TvOptions, tv
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn


def test_without_a_strong_source_it_is_total_variation(head):
    options = StarOptions(strong_susceptibility=5.0)
    found = star(head.field, head.mask, scan=head.scan, options=options)
    expected = tv(head.field, head.mask, scan=head.scan, options=TvOptions(regularisation=options.regularisation))
    np.testing.assert_allclose(found.chi_ppm, expected.chi_ppm, atol=1e-6)


def test_a_bleed_is_found_with_its_strength_and_its_surroundings_are_kept(head):
    r = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in head.mask.shape), indexing="ij"), -1)
    bleed = ((r - (-2, -2, 10)) ** 2).sum(-1) < 9
    chi = np.where(bleed, 1.0, head.chi).astype(np.float32)
    wide = fast_shape(tuple(2 * n for n in chi.shape))
    added = np.zeros(wide, np.float32)
    added[tuple(slice(0, n) for n in chi.shape)] = chi - head.chi
    added = irfftn(rfftn(added) * dipole_kernel(wide, (1, 1, 1), kind="greens"), wide)
    field = head.field + added[tuple(slice(0, n) for n in chi.shape)] * head.mask
    result = star(field, head.mask, scan=head.scan)
    assert result.convergence.converged
    found = result.chi_ppm - result.chi_ppm[head.mask].mean() + chi[head.mask].mean()
    assert found[bleed].mean() == pytest.approx(1.0, abs=0.1)
    rest = head.mask & ~bleed
    error = np.linalg.norm((found - chi)[rest]) / np.linalg.norm((chi - chi[rest].mean())[rest])
    assert error < 0.6


def test_two_steps_are_counted_together(head):
    calls = []
    options = StarOptions(max_iterations=4, tolerance=0)
    result = star(head.field, head.mask, scan=head.scan, options=options, progress=lambda *call: calls.append(call))
    assert calls == [(i, 8) for i in range(1, 9)]
    assert result.convergence.iterations == 8 and not result.convergence.converged


@pytest.mark.parametrize("name", ["strong_regularisation", "regularisation", "strong_susceptibility"])
def test_negative_options_are_refused(name, head):
    with pytest.raises(ValueError, match=name):
        star(head.field, head.mask, scan=head.scan, options=StarOptions(**{name: -1.0}))
