"""The training loop: updates, validation, checkpoints from which it resumes to the same bits."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qsmprep.files.whole_file import whole_file
from qsmprep.nets.network import build_module, channels_last
from qsmprep.nets.octave import OctaveUnet
from qsmprep.nets.spec import Channel, NetworkSpec, quantities
from qsmprep.nets.unet import Unet
from qsmprep.training.adversary import Adversary, adversary, judged
from qsmprep.training.muon import Muon
from qsmprep.training.objective import apply, errors, loss
from qsmprep.training.patches import Batch, make_batch
from qsmprep.training.pool import Head
from qsmprep.training.recipe import DataOptions, Recipe, TrainingOptions
from qsmprep.training.stream import batches

CHECKPOINT = "checkpoint.pt"
VALIDATION, STATISTICS = 1, 2  # first number of a batch's key
STATISTICS_PATCHES = 24


@dataclass
class TrainingState:
    """Where a training stands; all of it is in the checkpoint."""

    spec: NetworkSpec
    module: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    adversary: Adversary | None = None
    step: int = 0
    best_score: float = math.inf
    best_step: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def with_statistics(spec: NetworkSpec, data: DataOptions, heads: Sequence[Head], seed: int) -> NetworkSpec:
    """The description with mean and s.d. of every channel over the masked voxels of some training patches."""
    batch = make_batch(spec, data, heads, STATISTICS_PATCHES, (seed, STATISTICS, 0))
    inside = batch.mask > 0
    outputs = _measured(quantities(spec.outputs), batch.labels, inside)
    if spec.unrolled:  # it works in ppm, so that the physical model holds
        inputs = tuple(Channel(name) for name in quantities(spec.inputs))
    else:
        inputs = _measured(quantities(spec.inputs), batch.inputs, inside)
    if spec.expects_error:  # in the unit of the susceptibility whose error it is
        outputs = (*outputs[:-1], dataclasses.replace(outputs[-1], mean=0.0, deviation=outputs[0].deviation))
    return dataclasses.replace(spec, inputs=inputs, outputs=outputs)


def _measured(names: Sequence[str], images: torch.Tensor, inside: torch.Tensor) -> tuple[Channel, ...]:
    channels = []
    for i, name in enumerate(names):
        values = images[:, i : i + 1][inside].double()
        deviation = float(values.std())
        channels.append(Channel(name, float(values.mean()), deviation if deviation > 1e-6 else 1e-3))
    return tuple(channels)


def train(
    recipe: Recipe,
    heads: Sequence[Head],
    validation_heads: Sequence[Head],
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    until: int | None = None,
    tell: Callable[[TrainingState], None] | None = None,
) -> TrainingState:
    """Train a network; the same recipe, heads and thread count give the same weights, whether resumed or not.

    Parameters
    ----------
    recipe : what to train.
    heads, validation_heads : to draw patches from; shapes alone when there are none.
    folder : for the checkpoint.
    resume : go on from the folder's checkpoint.
    device : "cpu" or "cuda".
    until : stop after this step, as a killed training would have at a checkpoint.
    tell : called with the state after each step.

    Returns
    -------
    The state at the end; `best` holds the weights with the lowest validation error.

    Raises
    ------
    ValueError : a checkpoint of another recipe or of other labels, or a loss that is not finite.
    """
    options, data = recipe.training, recipe.data
    torch.manual_seed(options.seed)
    state = _begin(recipe, heads, device)
    if resume:
        _load(state, folder / CHECKPOINT, recipe)
    spec = state.spec
    checks = _validation_batches(spec, data, validation_heads or heads, options)
    last = min(options.steps, until or options.steps)
    clock = time.perf_counter() - state.seconds
    for batch in batches(spec, data, heads, options, range(state.step, last)):
        for optimizer in _optimizers(state):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(options, state.step)
        torch.manual_seed(options.seed * 1_000_003 + state.step)  # dropout, and where the critic's slope is taken
        state.losses.append(_update(state, batch.to(device), options, device))
        if not math.isfinite(state.losses[-1]):
            raise ValueError(f"The loss is not finite at step {state.step}; lower learning_rate, or go on from the "
                             f"checkpoint in {folder} with precision = \"float32\".")  # fmt: skip
        state.step += 1
        state.seconds = time.perf_counter() - clock
        if state.step % options.validate_every == 0 or state.step == options.steps:
            _validate(state, checks, device, options)
        if state.step % options.checkpoint_every == 0 or state.step == last:
            _save(state, folder / CHECKPOINT, recipe)
        if tell:
            tell(state)
    return state


def learning_rate(options: TrainingOptions, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    rise = min(1.0, (step + 1) / options.warm_up) if options.warm_up else 1.0
    if options.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * step / options.steps))
    else:
        fall = 0.98 ** (step // 1000) if options.schedule == "step" else 1.0
    return options.learning_rate * rise * fall


def _begin(recipe: Recipe, heads: Sequence[Head], device: str) -> TrainingState:
    options = recipe.training
    spec = with_statistics(recipe.network, recipe.data, heads, options.seed)
    module = build_module(spec).to(device)
    if isinstance(module, Unet | OctaveUnet) and module.shortcut is not None:
        _start_as_identity(spec, module.shortcut, module.out)
    module = channels_last(module)
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
             "muon": Muon}  # fmt: skip
    optimizer = kinds[options.optimizer](module.parameters(), lr=options.learning_rate)
    judged_maps = len(spec.outputs) - spec.expects_error
    opponent = adversary(judged_maps, options.learning_rate, device) if options.adversarial else None
    return TrainingState(spec, module, copy.deepcopy(module).eval(), optimizer, opponent)


def _optimizers(state: TrainingState) -> list[torch.optim.Optimizer]:
    return [state.optimizer, *([state.adversary.optimizer] if state.adversary else [])]


# Output -> inputs whose sum, each times its factor, the shortcut starts as: the voxel-wise answer of physics.
VOXELWISE_ANSWERS = {
    "chi": {"tkd": 1.0, "iterated": 1.0},
    "tissue-field": {"v-sharp": 1.0},
    "r2prime": {"r2star": 0.3},
    "chi-para": {"r2prime": 0.5, "r2star": 0.15, "chi": 0.5},
    "chi-dia": {"r2prime": 0.5, "r2star": 0.15, "chi": -0.5},
}


def _start_as_identity(spec: NetworkSpec, shortcut: nn.Conv3d, out: nn.Conv3d) -> None:
    """Let the shortcut start as the voxel-wise answer, in normalised units, and the rest at nothing."""
    with torch.no_grad():
        shortcut.weight.zero_()
        out.weight.zero_()
        for o, output in enumerate(spec.outputs):
            constant = -output.mean
            for i, channel in enumerate(spec.inputs):
                factor = VOXELWISE_ANSWERS.get(output.quantity, {}).get(channel.quantity, 0.0)
                shortcut.weight[o, i] = factor * channel.deviation / output.deviation
                constant += factor * channel.mean
            if shortcut.bias is not None:
                shortcut.bias[o] = constant / output.deviation


def _update(state: TrainingState, batch: Batch, options: TrainingOptions, device: str) -> float:
    state.module.train()
    state.optimizer.zero_grad(set_to_none=True)
    judge = functools.partial(judged, state.adversary, updates=options.critic_updates) if state.adversary else None
    with torch.autocast(device, torch.bfloat16, enabled=options.precision == "bfloat16"):
        value = loss(state.spec, state.module, batch, options, judge)
    value.backward()
    if options.largest_gradient:
        nn.utils.clip_grad_norm_(state.module.parameters(), options.largest_gradient)
    state.optimizer.step()
    _average(state, options.average)
    return float(value.detach())


def _average(state: TrainingState, decay: float) -> None:
    """Moving average of the weights, short at first, with the statistics of the normalisation."""
    decay = min(decay, (1 + state.step) / (10 + state.step)) if decay else 0.0
    with torch.no_grad():
        for mean, now in zip(state.average.state_dict().values(), state.module.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def _validation_batches(spec, data, heads, options) -> list[Batch]:
    return [make_batch(spec, data, heads, 1, (options.seed, VALIDATION, n)) for n in range(options.validation_patches)]


def _validate(state: TrainingState, checks: Sequence[Batch], device: str, options: TrainingOptions) -> None:
    """Mean NRMSE (%) of the averaged network over the validation patches, by output; keeps the best weights."""
    found: dict[str, list[float]] = {}
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=options.precision == "bfloat16"):
        for batch in checks:
            batch = batch.to(device)
            for name, values in errors(state.spec, apply(state.spec, state.average, batch).float(), batch).items():
                found.setdefault(name, []).extend(values)
    scores = {name: 100 * sum(values) / len(values) if values else 0.0 for name, values in found.items()}
    recent = state.losses[-options.validate_every :]
    state.scores.append({"step": state.step, "loss": sum(recent) / len(recent), **scores})
    # The field of the off-diagonal elements is nought in many patches, and chi decides.
    judged = [score for name, score in scores.items() if name != "off-diagonal-field"]
    if (score := sum(judged) / len(judged)) < state.best_score:
        state.best_score, state.best_step = score, state.step
        state.best = {name: tensor.detach().clone() for name, tensor in state.average.state_dict().items()}


def _save(state: TrainingState, path: Path, recipe: Recipe) -> None:
    document: dict[str, Any] = {
        "recipe": recipe.text,
        "labels": recipe.labels,
        "module": state.module.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        **{name: getattr(state, name) for name in PLAIN},
    }
    if state.adversary:
        document["critic"] = state.adversary.critic.state_dict()
        document["critic_optimizer"] = state.adversary.optimizer.state_dict()
    with whole_file(path) as stream:
        torch.save(document, stream)


PLAIN = ("step", "best_score", "best_step", "best", "losses", "scores", "seconds")


def _load(state: TrainingState, path: Path, recipe: Recipe) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no checkpoint to resume from; leave --resume out.")
    try:
        document = torch.load(path, weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: not a checkpoint of this program ({type(error).__name__}); start anew without "
                         "--resume.") from None  # fmt: skip
    if document["recipe"] != recipe.text:
        raise ValueError(f"{path}: was made by another recipe; take that one, or another folder.")
    if document.get("labels", "") != recipe.labels:
        raise ValueError(f"{path}: was made with other --labels or --validation-participants; give those, or another "
                         "folder.")  # fmt: skip
    state.module.load_state_dict(document["module"])
    state.average.load_state_dict(document["average"])
    state.optimizer.load_state_dict(document["optimizer"])
    if state.adversary:
        state.adversary.critic.load_state_dict(document["critic"])
        state.adversary.optimizer.load_state_dict(document["critic_optimizer"])
    for name in PLAIN:
        setattr(state, name, document[name])
