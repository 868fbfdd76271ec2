"""In which precision a network runs here, and with how many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from qsmprep.numerics.threads import thread_count

LARGEST_DIFFERENCE_PERCENT = 1.0


@dataclass(frozen=True)
class Precision:
    """Whether the network's inner numbers are bfloat16, and by how much that changed a test patch, if it was tried."""

    half: bool
    difference_percent: float | None = None

    def words(self) -> str:
        """For a record."""
        name = "bfloat16" if self.half else "float32"
        if self.difference_percent is None:
            return name
        return f"{name} (bfloat16 differs by {self.difference_percent:.2g} % on a patch from the middle)"


def choose_precision(asked: str, device: str, evaluate: Callable[[bool], torch.Tensor]) -> Precision:
    """What was asked for; with "auto" bfloat16 where it is fast here and barely changes a test patch.

    Parameters
    ----------
    asked : one of `inference_options.PRECISIONS`.
    device : torch device.
    evaluate : outputs (1, channels, n0, n1, n2) of the test patch, in bfloat16 (True) or float32 (False).
    """
    if asked != "auto" or not bfloat16_is_fast(device):
        return Precision(asked == "bfloat16")
    difference = difference_percent(evaluate(False), evaluate(True))
    return Precision(difference < LARGEST_DIFFERENCE_PERCENT, difference)


def difference_percent(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Norm of the difference over that of the expected without its mean, in percent: the worst of the channels."""
    channels = zip(expected[0].double(), found[0].double(), strict=True)
    sizes = [(float((f - e).norm()), float((e - e.mean()).norm())) for e, f in channels]
    return max(100 * miss / size if size > 0 else (0.0 if miss == 0 else float("inf")) for miss, size in sizes)


def bfloat16_is_fast(device: str) -> bool:
    """Whether the processor or the GPU calculates in bfloat16 by itself."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(question() for question in asked if question is not None)


@contextlib.contextmanager
def exact(half: bool, device: str) -> Iterator[None]:
    """Inside, networks run without gradients, reproducibly, and in bfloat16 only where `half` says so."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    kind = torch.device(device).type
    with torch.inference_mode(), cudnn, torch.autocast(kind, dtype=torch.bfloat16, enabled=half):
        yield


@contextlib.contextmanager
def bounded_threads() -> Iterator[None]:
    """Inside, torch uses the threads in force (`qsmprep.numerics.threads`)."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)
