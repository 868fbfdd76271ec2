"""Names of what BIDS-Prov tells of: activities, software, environments, and files that are not of a dataset."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LABELS = {"reference": "inversion"}  # a map is referenced as a part of its inversion


def identifier(label: str, *content: Any) -> str:
    """The name of an object of provenance: the same for the same content, and for no other.

    >>> identifier("Dipole inversion", 1)
    'bids::prov#dipoleinversion-6b86b273'
    """
    text = json.dumps(content[0] if len(content) == 1 else content, sort_keys=True, default=str)
    return f"bids::prov#{prov_label(label)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def prov_label(text: str) -> str:
    """What of a text can stand in a name: its letters and digits, in lower case."""
    return re.sub("[^a-z0-9]", "", text.lower()) or "unnamed"


def software_ids(software: Mapping[str, str]) -> dict[str, str]:
    """Package -> name of that version of it."""
    return {name: identifier(name, name, version) for name, version in software.items()}


def activity_id(
    prefix: str, steps: Sequence[Mapping[str, Any]], sources: Iterable[str], software: Mapping[str, str]
) -> str:
    """The name of what made a derivative of a run out of its sources by these steps, the last of which it is named by.

    Files that came of the same steps and sources have one activity.
    """
    stage = str(steps[-1]["stage"]) if steps else "processing"
    done = [[step["stage"], step.get("method", ""), step.get("label", ""), parameter_values(step)] for step in steps]
    return identifier(LABELS.get(stage, stage), prefix, done, list(sources), dict(software))


def parameter_values(step: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value of the parameters in a step's record."""
    return {item["name"]: item["value"] for item in step.get("parameters", ())}
