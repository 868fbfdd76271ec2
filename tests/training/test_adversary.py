"""A critic learns what tells maps from true ones, within its slope; training against it resumes to the same bits."""

import pytest
import torch

from qsmprep.training.adversary import adversary, judged, slopes
from qsmprep.training.loop import train
from qsmprep.training.recipe import parse_recipe


def blurred_and_sharp(n=16):
    generator = torch.Generator().manual_seed(1)
    sharp = torch.randn(4, 1, n, n, n, generator=generator)
    return torch.nn.functional.avg_pool3d(sharp, 3, stride=1, padding=1), sharp


def test_a_critic_learns_to_tell_blurred_maps_and_its_slope_stays_near_one():
    torch.manual_seed(0)
    blurred, sharp = blurred_and_sharp()
    opponent = adversary(1, 2e-3, "cpu")
    for _ in range(60):
        told = judged(opponent, blurred, sharp, 1)
    error = (blurred - sharp).square().mean().sqrt()
    assert 0.1 < float(told) < 1.5 * float(error)
    assert slopes(opponent.critic, blurred, sharp).mean().item() == pytest.approx(1, abs=0.3)


def test_its_judgement_teaches_the_network_and_not_the_critic():
    blurred, sharp = blurred_and_sharp()
    opponent = adversary(1, 1e-3, "cpu")
    found = blurred.clone().requires_grad_(True)
    judged(opponent, found, sharp, 1).backward()
    assert found.grad.abs().sum() > 0
    before = [p.clone() for p in opponent.critic.parameters()]
    judged(opponent, found, sharp, 2)
    assert not all(torch.equal(a, b) for a, b in zip(before, opponent.critic.parameters(), strict=True))


def test_training_against_a_critic_resumes_to_the_same_bits(tiny_text, tmp_path):
    recipe = parse_recipe(tiny_text.replace("patch = 16", "patch = 24") + "adversarial = 0.5\nmargin = 4\n")
    for name in ("through", "broken"):
        (tmp_path / name).mkdir()
    through = train(recipe, (), (), tmp_path / "through")
    train(recipe, (), (), tmp_path / "broken", until=4)
    resumed = train(recipe, (), (), tmp_path / "broken", resume=True)
    for part in ("module", "average"):
        a, b = (getattr(state, part).state_dict().values() for state in (through, resumed))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    a, b = (state.adversary.critic.parameters() for state in (through, resumed))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert through.losses == resumed.losses


def test_a_map_too_small_for_the_critic_is_refused(tiny_text):
    with pytest.raises(ValueError, match="adversarial"):
        parse_recipe(tiny_text + "adversarial = 0.1\nmargin = 2\n")
