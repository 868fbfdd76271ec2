"""Weights for the chosen methods that work by a network: found and checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qsmprep import registry
from qsmprep.masking.net import PATCH, NetOptions
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.patches import TORCH_GB, memory_gb
from qsmprep.nets.spec import quantities
from qsmprep.relaxometry.r2primenet import R2primenetOptions
from qsmprep.settings import Settings
from qsmprep.weights.card import card_path
from qsmprep.weights.search import described, find_weights
from qsmprep.workflows.plan import NetworkFile

BRAIN_BOX_MM3 = 3.9e6  # of an adult's brain with the margin that a network is given: the mask is not known yet


def networks_of(
    settings: Settings,
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    *,
    spin_echo: bool = False,
) -> Mapping[tuple[str, str], NetworkFile]:
    """Weights of every chosen method that needs some.

    Parameters
    ----------
    settings : with `auto` resolved to methods.
    shape, voxel_size_mm : of the images; they tell the memory.
    spin_echo : whether R2 is measured, so that no network stands in for it.

    Raises
    ------
    ValueError : weights that are not there, are damaged, or are of a network that the method cannot use.
    """
    found = {}
    for stage, chosen in settings.methods.items():
        for name in chosen:
            if name in registry.names(stage) and registry.find(stage, name).needs_network():
                found[stage, name] = find_network(settings.options_of(stage, name), name, shape, voxel_size_mm)
    fallback = settings.steps["r2prime"]
    if fallback.fallback == "network" and not spin_echo and settings.method("separation") != "none":
        options = R2primenetOptions(weights=fallback.weights)
        found["r2prime", "network"] = find_network(options, "r2prime", shape, voxel_size_mm)
    return MappingProxyType(found)


def find_network(
    options: InferenceOptions | NetOptions,
    method: str,
    shape: tuple[int, int, int] = (1, 1, 1),
    voxel_size_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NetworkFile:
    """The weights that a method's options ask for, checked by their card and its hash of them.

    Raises
    ------
    ValueError : names the weights, or the option that does not go with them, and the remedy.
    """

    try:
        path = Path(find_weights(options.weights)).absolute()
        _, card = described(path)
    except ValueError as error:
        raise ValueError(f"{method} works by a network: {error} Give others by --{method}-weights.") from None
    options.role.check(card.spec, method, options.weights)
    if getattr(options, "adapt", "none") == "dann" and card.spec.works_with_kernel:
        raise ValueError(f"--{method}-adapt dann: {card.spec.name} works with the dipole kernel, and there is no such "
                         f"adaptation for it. Take --{method}-adapt fine.")  # fmt: skip
    resampled = getattr(options, "resampling", "auto") == "auto"  # a mask network always sees its own grid
    wanted = card.spec.domain.voxel_size_mm if resampled else None
    voxels = math.prod(math.ceil(max(n * h / (wanted or h), 1)) for n, h in zip(shape, voxel_size_mm, strict=True))
    if card.spec.task == "mask":
        voxels = min(voxels, PATCH**3)
    elif card.spec.masked:
        voxels = min(voxels, round(BRAIN_BOX_MM3 / (wanted**3 if wanted else math.prod(voxel_size_mm))))
    needs_gb = TORCH_GB + memory_gb(card.spec, (voxels,))
    gives = tuple(quantity for quantity in quantities(card.spec.outputs) if quantity not in card.silent)
    return NetworkFile(path, card_path(path), needs_gb, gives, card.spec.masked)


def missing_network(method: registry.Method, options: Any) -> str:
    """Why a method cannot run here for want of weights; empty where it can."""
    if not method.needs_network():
        return ""
    try:
        find_network(options, method.name)
    except ValueError as error:
        return str(error)
    return ""
