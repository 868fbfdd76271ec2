"""What each node is given of the machine: threads, memory, a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

THE_ONLY_GPU = ""


@dataclass(frozen=True)
class Share:
    """What a node is given: threads, GiB, and the GPU it runs on; None for none."""

    threads: int
    memory_gb: float
    gpu: str | None = None


@dataclass(frozen=True)
class Machine:
    """What all running nodes together may take.

    Attributes
    ----------
    threads, memory_gb : of all of them together; memory by their estimates.
    gpus : devices by the names that CUDA_VISIBLE_DEVICES knows; one node at a time runs on each.
    one_at_a_time : never two nodes side by side.
    split : whether the runs that can go on share the threads, so that two runs beside each other on one thread each
        come before one run after the other on two: much of a step is not parallel.
    """

    threads: int
    memory_gb: float
    gpus: tuple[str, ...] = (THE_ONLY_GPU,)
    one_at_a_time: bool = False
    split: bool = True

    def share(self, node: Any, running: Sequence[Share], runs: int = 1) -> Share | None:
        """What a node is given beside those that run; None while there is no room for it.

        `runs` is the number of those that have a node running or ready.
        """
        memory_gb = min(float(node.mem_gb or 0), self.memory_gb)
        free_gb = self.memory_gb - sum(share.memory_gb for share in running)
        if memory_gb > free_gb + 1e-9 or (running and self.one_at_a_time):
            return None
        taken = {share.gpu for share in running}
        gpu = next((gpu for gpu in self.gpus if gpu not in taken), None) if wants_gpu(node) else None
        if wants_gpu(node) and gpu is None:
            return None
        free = self.threads - sum(share.threads for share in running)
        threads = min(int(node.n_procs), self.threads)
        if self.split and runs > 1:
            beside = min(runs, int(self.memory_gb / memory_gb)) if memory_gb else runs
            # Where others wait, a node begins with what is free rather than leave it idle.
            threads = min(threads, max(self.threads // max(beside, 1), 1), max(free, 1))
        return Share(threads, memory_gb, gpu) if threads <= free else None


def wants_gpu(node: Any) -> bool:
    """Whether a node runs on a GPU."""
    return str(getattr(node.inputs, "device", "cpu")).startswith("cuda")
