"""Simulated pairs for the adaptation of a network to a case that has no labels (DANN)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch

from qsmprep.nets.spec import NetworkSpec
from qsmprep.training.heads import training_head
from qsmprep.training.patches import make_batch
from qsmprep.training.pool import Head
from qsmprep.training.recipe import DataOptions

ADAPTATION = 3  # first number of a batch's key, beside those of training
HEADS = (2_000_001, 2_000_002)  # numbers that no training uses; B0 along the third axis


def synthetic_pairs(
    spec: NetworkSpec, *, seed: int = 0, batch: int = 2, patch: int = 64
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless pairs (inputs, labels, mask) as the network was trained on, from two heads simulated at the first call.

    Parameters
    ----------
    spec : a U-net for inversion.
    seed : of heads and patches.
    batch : patches of a pair.
    patch : their edge in voxels.

    Yields
    ------
    (n, channels, p, p, p) inputs and labels in ppm, (n, 1, p, p, p) mask.

    Raises
    ------
    ValueError : a network that works with the kernel, whose pairs would need the case's direction of B0.
    """
    if spec.works_with_kernel:
        raise ValueError(f"{spec.name} works with the dipole kernel: there is no adaptation by dann for it; take fine.")
    return _pairs(spec, DataOptions(heads=len(HEADS), patch=patch, seed=seed, shapes=0.1, filtered=0.5), batch)


def _pairs(spec: NetworkSpec, data: DataOptions, batch: int):
    heads = []
    for number in HEADS:
        volumes, facts = training_head(number, data.seed, anatomy="ellipsoids")  # which need no template
        heads.append(Head(Path(), tuple(facts["b0_direction"]), volumes["mask"].shape, _open=volumes))
    for step in count():
        made = make_batch(spec, data, heads, batch, (data.seed, ADAPTATION, step))
        yield made.inputs, made.labels, made.mask
