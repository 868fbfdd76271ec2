"""Run records: what each run did, found, assumed and warned of, as JSON beside its figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.findings import Warning, document
from qsmprep.stages import rank_of

PACKAGES = ("qsmprep", "nipype", "pybids", "nibabel", "numpy", "scipy", "numba", "torch", "SimpleITK")


def software_versions() -> dict[str, str]:
    """Installed versions of qsmprep, of the packages that its results depend on, and of Python."""
    return dict(_software_versions())


@cache
def _software_versions() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "Python": platform.python_version()}


def machine_facts() -> dict[str, Any]:
    """System, processor, and the sets of instructions that numpy uses: why the last digits of two machines differ."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "instruction_sets": [*found.get("baseline", ()), *found.get("found", ())],
    }


def _processor() -> str:
    """The processor's name as Linux tells it; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def step_records(folders: Iterable[Path], record_file: str = "step.json") -> list[dict[str, Any]]:
    """Records of the steps that finished in these folders, in the order of the consensus paper."""
    records = []
    for folder in folders:
        path = Path(folder) / record_file
        if path.is_file():
            records.append(json.loads(path.read_text("utf-8"))["record"])
    return sorted(records, key=lambda record: rank_of(record["stage"]))


def with_figures(steps: list[dict[str, Any]], figures: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Steps with their pictures, drawn or not, so that the report can tell which are missing.

    Each figure is (stage, file name, caption).
    """
    by_stage: dict[str, list[dict[str, str]]] = {}
    for stage, file, caption in figures:
        by_stage.setdefault(stage, []).append({"file": file, "caption": caption})
    told: set[str] = set()
    complete = []
    for step in steps:
        own = [] if step["stage"] in told else by_stage.get(step["stage"], [])
        told.add(step["stage"])
        complete.append({**step, "figures": own})
    return complete


# More than 8 parameters: each is a key of the document.
def run_record(
    *,
    prefix: str,
    subject: str,
    software: Mapping[str, str],
    command: str,
    started: str,
    seconds: float,
    errors: Iterable[Mapping[str, str]],
    warnings: Iterable[Warning],
    inputs: Iterable[str],
    checksums: Mapping[str, str],
    acquisition: Mapping[str, Any],
    tuned: Mapping[str, Any],
    steps: Iterable[Mapping[str, Any]],
    planned: Iterable[Mapping[str, Any]],
    crashes: Iterable[Mapping[str, str]],
    resources: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of one run as the report reads it; a run with errors (step, message) has failed.

    `checksums` are SHA-256 of the inputs and of what was given beside the dataset, by their paths as given here. The
    report shows a planned step that is not among `steps` as missing, with the crash that it belongs to.
    """
    errors = [dict(error) for error in errors]
    return {
        "run": prefix,
        "subject": subject,
        "status": "failed" if errors else "ok",
        "errors": errors,
        "warnings": [document(warning) for warning in warnings],
        "software": dict(software),
        "command": command,
        "started": started,
        "seconds": round(seconds, 1),
        "inputs": list(inputs),
        "checksums": dict(checksums),
        "acquisition": dict(acquisition),
        "tuned": dict(tuned),
        "steps": list(steps),
        "planned": [{"stage": step["stage"], "title": step["title"]} for step in planned],
        "crashes": list(crashes),
        **({"resources": dict(resources)} if resources else {}),
    }
