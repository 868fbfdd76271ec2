"""What a training leaves: weights, card, table of validations, picture."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsmprep import __version__
from qsmprep.nets.network import Network
from qsmprep.nets.spec import Domain, NetworkSpec, quantities
from qsmprep.training.curve import draw_curve, write_table
from qsmprep.training.heads import LARGEST_TILT_DEGREES
from qsmprep.training.joint_pool import Labels
from qsmprep.training.loop import TrainingState
from qsmprep.training.mask_patches import COARSEST_MM, GRID_MM, THINNEST_SLAB_MM
from qsmprep.training.pool import Head
from qsmprep.training.recipe import DataOptions, Recipe
from qsmprep.weights.store import save_network

STATEMENT = "Trained on simulated heads {source}; not validated in vivo."
SOURCES = {"all": "made of ellipsoids and drawn from ICBM152", "icbm152": "drawn from ICBM152",
           "ellipsoids": "made of ellipsoids"}  # fmt: skip
LICENCE = "Apache-2.0"
STATEMENT_OF_LABELS = "Trained on {words}{beside}; its maps are as good as these labels at best."
LICENCE_OF_LABELS = "not stated: made from data of whoever trained it"


def write_result(
    recipe: Recipe,
    state: TrainingState,
    heads: Sequence[Head],
    folder: Path,
    *,
    half: bool = False,
    machine: str = "",
    labels: Labels | None = None,
) -> Path:
    """Write NAME.safetensors, NAME.json, NAME.tsv and NAME.png into a folder; returns the first one's path.

    Parameters
    ----------
    recipe, state, heads : the training, at its end.
    folder : where to.
    half : store weights in half precision, for shipping.
    machine : what it was trained on, for the card.
    labels : those of one's own among the heads, for the card.
    """
    spec = dataclasses.replace(state.spec, domain=_domain(state.spec, recipe.data, heads))
    state.average.load_state_dict(state.best)
    stem = folder / spec.name
    write_table(stem.with_suffix(".tsv"), state.scores)
    draw_curve(stem.with_suffix(".png"), state.losses, state.scores, f"{spec.name}: {spec.task}")
    return save_network(
        Network(spec, state.average.eval()),
        stem,
        facts=_facts(recipe, state, machine, labels),
        dtype=torch.float16 if half else torch.float32,
    )


def _facts(recipe: Recipe, state: TrainingState, machine: str, labels: Labels | None) -> Mapping[str, Any]:
    data = recipe.data
    best = next((row for row in state.scores if row["step"] == state.best_step), {})
    statement, licence = STATEMENT.format(source=SOURCES[data.anatomy]), LICENCE
    if labels is not None:
        beside = f" and on {data.heads} simulated heads" if data.heads else ""
        statement, licence = STATEMENT_OF_LABELS.format(words=labels.words, beside=beside), LICENCE_OF_LABELS
    return {
        "statement": statement,
        "licence": licence,
        "commit": code_version(),
        "seeds": {"heads": data.seed, "weights and patches": recipe.training.seed},
        "training": {
            "recipe": recipe.text,
            "steps": state.step,
            "patches": state.step * recipe.training.batch,
            "kept step": state.best_step,
            "hours": round(state.seconds / 3600, 3),
            "machine": machine,
        },
        "domain": domain_text(recipe, labels),
        **({"labels": dict(labels.facts)} if labels is not None else {}),
        "scores": {"validation NRMSE (%)": {k: round(v, 3) for k, v in best.items() if k not in ("step", "loss")}},
    }


def domain_text(recipe: Recipe, labels: Labels | None = None) -> str:
    """The training data in one sentence."""
    data = recipe.data
    if recipe.network.task == "mask":
        return (
            f"synthetic images of {data.heads} whole heads {SOURCES[data.anatomy]}: contrast of any tissue, voxels up "
            f"to {COARSEST_MM:g} mm, slabs from {THINNEST_SLAB_MM:g} mm, seen in voxels of {GRID_MM:g} mm"
        )
    if labels is not None and not data.heads:
        scale = f"susceptibility times {data.smallest_scale:g} to {data.largest_scale:g}"
        return f"measured tissue fields with {labels.words}; {scale}"
    source = f"{data.heads} simulated heads {SOURCES[data.anatomy]}" if data.heads else "random shapes"
    tilt = f"B0 up to {LARGEST_TILT_DEGREES:g} degrees off the third axis" if data.tilted else "B0 along the third axis"
    own = f"measured tissue fields with {labels.words}; " if labels is not None else ""
    return (
        f"{own}{source} at 1 mm and 3 T, {tilt}, peak signal-to-noise ratio {data.smallest_snr:g} to "
        f"{data.largest_snr:g}, susceptibility times {data.smallest_scale:g} to {data.largest_scale:g}"
    )


def _domain(spec: NetworkSpec, data: DataOptions, heads: Sequence[Head]) -> Domain:
    """Measured: s.d. of the input field of each head, times the scales of augmentation; of a mask only the grid."""
    if spec.task == "mask":
        return Domain(voxel_size_mm=GRID_MM, largest_tilt_degrees=180.0)
    name = "total-field" if "total-field" in quantities(spec.inputs) else "tissue-field"
    tilt = (90.0 if spec.knows_kernel or data.tilted else 0.0) if heads else 0.0
    # How noisy measured fields were is not known in these terms.
    snr = (data.smallest_snr, data.largest_snr) if data.heads or not heads else (0.0, math.inf)
    if not heads:
        return Domain(largest_tilt_degrees=tilt, snr=(0.0, math.inf))
    deviations = [float(np.asarray(h.volume(name), np.float32)[np.asarray(h.volume("mask"))].std()) for h in heads]
    field = (data.smallest_scale * min(deviations), data.largest_scale * max(deviations))
    size = heads[0].voxel_size_mm
    return Domain(voxel_size_mm=size, largest_tilt_degrees=tilt, field_deviation_ppm=field, snr=snr)


def code_version() -> str:
    """The commit of a checkout, marked when it has changes; else the version of the installed package."""
    here = Path(__file__).parent
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found = ""
    return found or f"qsmprep {__version__}"
