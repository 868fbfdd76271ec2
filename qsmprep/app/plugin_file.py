"""The file of --nipype-plugin-file: nipype's plugin that hands each step to a scheduler, as fMRIPrep's --use-plugin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from qsmprep.bids.reading import read_text_file
from qsmprep.engine.scheduled import SUBMIT

EXAMPLE = '{"plugin": "SLURM", "plugin_args": {"sbatch_args": "--partition=main"}}'


def read_plugin_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the plugin; JSON is YAML too.

    Raises
    ------
    ValueError : no such file, or a plugin that cannot be used; names the file and the remedy.
    """
    where = f"--nipype-plugin-file {path}"
    try:
        document = yaml.safe_load(read_text_file(path))
    except yaml.YAMLError as error:
        raise ValueError(
            f"{where}: neither YAML nor JSON ({' '.join(str(error).split())[:200]}). As an example: {EXAMPLE}"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("plugin"), str):
        raise ValueError(f"{where}: names no plugin. As an example: {EXAMPLE}")
    name, arguments = document["plugin"].removesuffix("Plugin"), document.get("plugin_args") or {}
    if unknown := sorted(set(document) - {"plugin", "plugin_args"}):
        raise ValueError(f"{where}: {', '.join(map(str, unknown))} is not known; plugin and plugin_args are.")
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: plugin_args must be names and values. As an example: {EXAMPLE}")
    if name.endswith("Graph") or name in ("CondorDAGMan", "SomaFlow"):
        instead = name.removesuffix("Graph")
        raise ValueError(
            f"{where}: {name} submits the whole graph and returns before any step has run, and records and reports are "
            f"made from what the steps gave. Take {instead if instead in SUBMIT else 'SLURM'}, which submits each step "
            "when those before it are done, or one job a participant: qsmprep-tools cluster."
        )
    if name in ("MultiProc", "LegacyMultiProc", "Linear", "Debug"):
        raise ValueError(f"{where}: {name} runs on this machine, as --plugin pool and --plugin linear do; take those. "
                         "nipype's own pool waits for ever where a step is killed.")  # fmt: skip
    if name not in SUBMIT:
        raise ValueError(f"{where}: the plugin {name} is not one of {', '.join(SUBMIT)}.")
    if shutil.which(SUBMIT[name]) is None:
        raise ValueError(f"{where}: {SUBMIT[name]} is not here. Run this where jobs are submitted.")
    return name, arguments
