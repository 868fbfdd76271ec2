"""Compile every loop once, so that the first real run does not wait for it (used when a container is built)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qsmprep import registry, settings
from qsmprep.app.networks import missing_network
from qsmprep.cli.run import main as qsmprep
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


def warm_up() -> int:
    """Run every method on a tiny simulated head; the status is that of the runs.

    Methods whose weights are not installed are left out, and named.
    """
    methods = {stage: usable(stage) for stage in registry.stages()}
    longest = max(len(names) for names in methods.values())
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate(Path(folder) / "bids", SimulationOptions(voxel_size="5"))
        statuses = []
        for turn in range(longest):
            words = [str(dataset), f"{folder}/out{turn}", "participant", "--skip-bids-validation"]
            words += ["-w", f"{folder}/work"]
            chosen = {stage: names[turn % len(names)] for stage, names in methods.items()}
            background = registry.find("background", chosen["background"])
            if chosen["separation"] == "decompose" and background.needs_network():
                chosen["background"] = methods["background"][0]
            for stage, name in chosen.items():
                words += [f"--{stage}", name]
            statuses.append(qsmprep(words))
    return max(statuses)


def usable(stage: str) -> tuple[str, ...]:
    """Methods of a stage that can run here; those that lack their weights are told."""
    defaults, names = settings.build({}), []
    for name in registry.names(stage):
        if reason := missing_network(registry.find(stage, name), defaults.options_of(stage, name)):
            print(f"Left out: {stage} {name}. {reason}", flush=True)
        else:
            names.append(name)
    return tuple(names)
