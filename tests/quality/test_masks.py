"""Quality numbers of the masks state facts about masks of known errors."""

import numpy as np
import pytest

from qsmprep.quality.masks import brain_outside, holes, mask_numbers

SIZE = (3.0, 3.0, 3.0)
X, Y, Z = np.indices((40, 40, 36)) - np.array([19.5, 19.5, 17.5]).reshape(3, 1, 1, 1)
RADIUS = np.sqrt(X**2 + Y**2 + Z**2)
BRAIN = RADIUS < 12
HEAD = (np.where(BRAIN, 1.0, 0.05) + ((RADIUS > 14) & (RADIUS < 16))).astype(np.float32)  # brain, skull, scalp


def numbers(brain=BRAIN, magnitude=HEAD, **more):
    given = {"magnitude": magnitude, "brain": brain, "reliable": None, "qsm": None}
    return mask_numbers(SIZE, **(given | more))


def test_a_mask_that_fits_has_nothing_to_tell():
    found = numbers()
    assert found["mask_volume"] == pytest.approx(BRAIN.sum() * 0.027)
    assert found["brain_outside_mask"] == 0
    assert found["air_in_mask"] == 0
    assert np.isnan(found["mask_lost"])


def test_brain_left_out_is_found_and_scalp_is_not():
    small = RADIUS < 8
    outside = brain_outside(HEAD, small, SIZE)
    assert not (outside & ~BRAIN).any()
    assert outside.sum() > 0.9 * (BRAIN & ~small).sum()
    assert numbers(small)["brain_outside_mask"] > 100


def test_a_part_cut_off_is_found():
    assert numbers(BRAIN & (Z > -6))["brain_outside_mask"] > 10


def test_air_in_the_mask_is_its_share_and_veins_are_not_air():
    air = (np.abs(X) < 4) & (np.abs(Z) < 4) & (Y > 12) & (Y < 18)
    found = numbers(BRAIN | air, np.where(air, 0.02, HEAD).astype(np.float32))
    assert found["air_in_mask"] == pytest.approx(100 * (air & ~BRAIN).sum() / (BRAIN | air).sum(), rel=0.2)
    vein = BRAIN & (np.abs(X) < 1) & (np.abs(Y) < 1)
    assert numbers(magnitude=np.where(vein, 0.02, HEAD).astype(np.float32))["air_in_mask"] == 0


def test_losses_and_holes_are_shares_of_the_brain_mask():
    qsm = (RADIUS < 10) & (RADIUS > 2)
    found = numbers(qsm=qsm, reliable=X > -100)
    assert found["mask_lost"] == pytest.approx(100 * (1 - qsm.sum() / BRAIN.sum()))
    assert found["mask_holes"] == pytest.approx(100 * (RADIUS <= 2).sum() / BRAIN.sum())
    assert found["unreliable"] == 0


def test_an_opening_to_the_outside_is_no_hole():
    tunnel = BRAIN & ~((np.abs(X) < 1) & (np.abs(Y) < 1) & (Z > 0))
    assert holes(tunnel) == 0
