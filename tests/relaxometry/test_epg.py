"""Echo trains of imperfect refocusing, and R2 from them."""

import numpy as np
import pytest

from qsmprep.relaxometry.dictionary import (
    DictionaryOptions,
    dictionary_match,
    make_dictionary,
    match,
    train_positions,
)
from qsmprep.relaxometry.epg import echo_train, sinc_profile
from qsmprep.relaxometry.loglinear import loglinear
from qsmprep.relaxometry.monoexponential import monoexponential

TIMES = np.arange(1, 7) * 0.015
NO_RELAXATION = 1e12


def train(angle, t2=NO_RELAXATION, t1=NO_RELAXATION, n=5, **more):
    return echo_train(
        np.array([t2]), np.array([t1]), np.ones(1), echo_spacing_s=0.010, n_echoes=n, refocusing_angle_deg=angle, **more
    )[0]


def test_perfect_refocusing_decays_exponentially():
    assert np.abs(train(180, 0.08, 1.0) - np.exp(-np.arange(1, 6) * 0.01 / 0.08)).max() < 1e-12


def test_published_trains():
    assert np.allclose(train(120), (0.75, 0.9375, 0.84375, 0.85547, 0.88477), atol=1e-5)
    assert np.allclose(train(160, 0.08, 1.0), (0.855886, 0.783644, 0.667511, 0.613127, 0.521515), atol=1e-6)


@pytest.mark.parametrize("angle", [100, 135, 170])
def test_an_angle_and_its_mirror_give_one_train(angle):
    assert np.allclose(train(angle, 0.05, 0.9), train(360 - angle, 0.05, 0.9), atol=1e-12)


def test_slice_profile_of_hard_pulses_is_that_of_one_angle():
    wide = sinc_profile()
    assert wide.excitation[0] > 0.99
    assert wide.excitation[-1] < 0.01
    assert 0.5 < wide.refocusing[wide.excitation > 0.5].min() < 1


def spin_echoes(t2, b1, snr=None, shape=(16, 16, 16), random=None):
    signal = echo_train(
        np.full(np.prod(shape), t2), np.full(np.prod(shape), 1.2), np.broadcast_to(b1, shape).ravel(),
        echo_spacing_s=0.015, n_echoes=6,
    ).T.reshape(6, *shape)  # fmt: skip
    if snr:
        noise = random.standard_normal((2, *signal.shape)) * signal.max() / snr
        signal = np.hypot(signal + noise[0], noise[1])
    return signal.astype(np.float32)


@pytest.mark.parametrize("b1", [0.7, 0.8, 0.9, 1.0, 1.1])
def test_r2_is_unbiased_at_every_transmit_field(b1):
    echoes = spin_echoes(0.07, b1, snr=100, random=np.random.default_rng(1))
    found = dictionary_match(echoes, echo_times_s=TIMES, voxel_size_mm=(1, 1, 1))
    assert abs(found.r2.mean() * 0.07 - 1) < 0.03
    assert found.valid.all()
    assert abs(found.b1.mean() - min(b1, 2 - b1)) < 0.05


def test_climbing_finds_what_searching_all_finds():
    random = np.random.default_rng(2)
    dictionary = make_dictionary(echo_spacing_s=0.015, positions=np.arange(1, 7))
    t2, b1 = random.uniform(0.015, 0.25, 400), random.uniform(0.65, 1.0, 400)
    echoes = echo_train(t2, np.ones(400), b1, echo_spacing_s=0.015, n_echoes=6).T
    echoes = (echoes + 0.01 * random.standard_normal(echoes.shape)).astype(np.float32)
    index = match(echoes, np.ones(400, bool), np.full(400, -1, np.int16), dictionary)
    best = np.einsum("bte,en->nbt", dictionary.atoms, echoes).reshape(400, -1).max(axis=1)
    unexplained = np.sqrt(np.maximum(1 - best**2 / (echoes**2).sum(axis=0), 0))
    assert np.mean(np.abs(index[2] - unexplained) < 1e-4) > 0.99


def test_echoes_may_be_missing_from_the_train():
    echoes = spin_echoes(0.06, 0.8)
    kept = [0, 1, 3, 4]
    found = dictionary_match(echoes[kept], echo_times_s=TIMES[kept], voxel_size_mm=(1, 1, 1))
    assert np.allclose(found.r2, 1 / 0.06, rtol=0.01)
    assert train_positions(TIMES[1:])[1].tolist() == [2, 3, 4, 5, 6]


def test_two_echoes_take_the_nominal_angle():
    echoes = spin_echoes(0.06, 1.0)
    found = dictionary_match(echoes[[0, 5]], echo_times_s=TIMES[[0, 5]], voxel_size_mm=(1, 1, 1))
    assert found.b1 is None
    assert np.allclose(found.r2, 1 / 0.06, rtol=0.01)


def test_echoes_that_are_no_train_are_refused():
    with pytest.raises(ValueError, match="no train of equal spacing"):
        dictionary_match(np.ones((3, 4, 4, 4)), echo_times_s=(0.010, 0.017, 0.031), voxel_size_mm=(1, 1, 1))


def test_a_decay_fitted_to_all_echoes_is_slowed_by_stimulated_ones():
    echoes = spin_echoes(0.06, 0.7)
    every = loglinear(echoes, echo_times_s=TIMES).r2star.mean() * 0.06
    later = monoexponential(echoes, echo_times_s=TIMES).r2.mean() * 0.06
    modelled = dictionary_match(echoes, echo_times_s=TIMES, voxel_size_mm=(1, 1, 1)).r2.mean() * 0.06
    assert every < 0.85
    assert abs(later - 1) < 0.05
    assert abs(modelled - 1) < 0.01


def test_a_wrong_angle_is_refused():
    with pytest.raises(ValueError, match="refocusing_angle"):
        dictionary_match(
            spin_echoes(0.06, 1.0), echo_times_s=TIMES, voxel_size_mm=(1, 1, 1),
            options=DictionaryOptions(refocusing_angle=200.0),
        )  # fmt: skip
