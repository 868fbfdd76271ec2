"""Where solvers and networks run."""

from __future__ import annotations

import os
from pathlib import Path


def choose_device(wanted: str, decided: str | None = None) -> tuple[str, str]:
    """The device solvers run on, and why; torch is only asked where the machine has an NVIDIA driver.

    `decided` is what `auto` came to in the run that is done again; a GPU that is missing then is an error as well.
    """
    if wanted == "auto" and decided:
        return choose_device(decided)[0], "as in the run of these settings"
    if wanted == "cpu":
        return "cpu", "as asked"
    has_driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    if has_driver:
        import torch

        if torch.cuda.is_available():
            return "cuda", torch.cuda.get_device_name(0)
    if wanted == "cuda":
        raise ValueError("--device cuda: no CUDA device is usable here; take --device cpu, or check the driver.")
    return "cpu", "no usable GPU"


def visible_gpus() -> tuple[str, ...]:
    """The CUDA devices of this process, by the names that CUDA_VISIBLE_DEVICES gives them."""
    import torch

    count = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))
