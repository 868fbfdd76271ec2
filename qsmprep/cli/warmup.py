"""Compile every loop once, so that the first real run does not wait for it (used when a container is built)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qsmprep import registry
from qsmprep.cli.run import main as qsmprep
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


def warm_up() -> int:
    """Run every method on a tiny simulated head; the status is that of the runs."""
    longest = max(len(registry.names(stage)) for stage in registry.STAGES)
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate(Path(folder) / "bids", SimulationOptions(voxel_size="5"))
        statuses = []
        for turn in range(longest):
            words = [str(dataset), f"{folder}/out{turn}", "participant", "--skip-bids-validation"]
            words += ["-w", f"{folder}/work"]
            for stage in registry.STAGES:
                methods = registry.names(stage)
                words += [f"--{stage}", methods[turn % len(methods)]]
            statuses.append(qsmprep(words))
    return max(statuses)
