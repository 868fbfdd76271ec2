"""qsmprep: quantitative susceptibility mapping of BIDS datasets, step by step as the consensus paper asks.

For people with arrays: `qsmprep.reconstruct(magnitude, phase, qsmprep.Scan(...))`, see `qsmprep.pipeline`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Reconstruction", "Scan", "__version__", "reconstruct"]

# Loaded when first used, so that `qsmprep --help` answers at once.
_HOMES = {"Scan": "qsmprep.scan", "reconstruct": "qsmprep.pipeline", "Reconstruction": "qsmprep.pipeline"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
