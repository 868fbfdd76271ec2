"""The steps of unrolled networks that the published ones do not have: start, data term, shortcut."""

import pytest
import torch

from qsmprep.inversion.tkd import tkd
from qsmprep.nets.unrolled import Unrolled, convolve, truncated_division
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.scan import Scan

SHAPE = (24, 24, 24)


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 4:20, 4:20, 4:20] = 1
    chi = torch.zeros_like(mask)
    chi[..., 8:12, 9:14, 7:11], chi[..., 14:17, 12:16, 12:17] = 0.1, -0.06
    dipole = torch.from_numpy(dipole_kernel(SHAPE, (1.0, 1.0, 1.0)))
    return chi, convolve(chi, dipole) * mask, dipole, mask


def untrained(**words):
    torch.manual_seed(1)
    return Unrolled(UnrolledSpec("modl", width=2, blocks=1, dropout=0.0, norm="none", residual=True, **words)).eval()


def test_a_residual_network_starts_as_its_data_term_alone(case):
    _, field, dipole, mask = case
    found = untrained(start="division", iterations=1, first_step=1.0)(field, dipole, mask)
    assert torch.allclose(found[:, :1], truncated_division(field, dipole) * mask, atol=1e-6)
    assert not found[:, 1:].any()


def test_the_division_is_that_of_the_closed_form(case):
    _, field, dipole, mask = case
    found = (truncated_division(field, dipole) * mask)[0, 0].numpy()
    inside = mask[0, 0].numpy() > 0
    scan = Scan((1.0, 1.0, 1.0))
    padded = tkd(field[0, 0].numpy(), inside, scan=scan).chi_ppm
    # The padding differs, so the maps do so a little.
    assert abs(found - padded)[inside].max() < 0.25 * abs(padded).max()


def test_exact_returns_to_the_data_explain_the_field_better_each_time(case):
    chi, field, dipole, mask = case
    misfits, errors = [], []
    for iterations in (1, 3, 10):
        module = untrained(start="division", data_term="proximal", iterations=iterations, first_step=0.02)
        assert module.step.numel() == iterations
        found = module(field, dipole, mask)[:, :1]
        misfits.append(((convolve(found, dipole) - field) * mask).norm() / field.norm())
        errors.append((found - chi).norm() / chi.norm())
    assert misfits[0] > misfits[1] > misfits[2]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("words", [{"start": "x"}, {"data_term": "x"}, {"norm": "x"}])
def test_unknown_words_are_refused(words):
    with pytest.raises(ValueError, match="choose one of"):
        UnrolledSpec(**words)


def test_a_kernel_of_a_larger_grid_pads_and_a_smaller_one_is_refused(case):
    chi, _, _, _ = case
    large = torch.from_numpy(dipole_kernel((36, 36, 36), (1.0, 1.0, 1.0)))
    wide = torch.nn.functional.pad(chi, (0, 12) * 3)
    assert torch.allclose(convolve(chi, large), convolve(wide, large)[..., :24, :24, :24], atol=1e-7)
    with pytest.raises(ValueError, match="smaller"):
        convolve(wide, torch.from_numpy(dipole_kernel(SHAPE, (1.0, 1.0, 1.0))))
