"""How much memory a step needs, as measured: what its process has loaded, and volumes held at once at the peak.

`python benchmarks/estimates.py` compares the estimates with the peaks of real runs: benchmarks/estimates.md. Volumes of
a method are those of benchmarks/memory.md, and those of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qsmprep.engine.resources import COMPILED_GB, FILES_GB

_INVERSION_INPUTS, _BACKGROUND_INPUTS = 5, 4
# Volumes that a method adds to its inputs at its peak.
_INVERSION = {
    "tkd": 6, "tsvd": 6, "tikhonov": 6, "l2": 6, "ndi": 10, "l1-qsm": 14, "rts": 15, "tv": 16, "hd-qsm": 16,
    "star": 18, "medi": 18, "fansi": 18, "medi0": 19, "ilsqr": 21, "tfi": 23, "tgv": 26, "fansi-tgv": 27,
}  # fmt: skip
_BACKGROUND = {
    "smv": 4, "sharp": 5, "ismv": 5, "lbv": 6, "v-sharp": 6, "resharp": 8, "iharperella": 11, "harperella": 12,
    "pdf": 14,
}  # fmt: skip
VOLUMES: Mapping[tuple[str, str], float] = MappingProxyType(
    {("inversion", name): added + _INVERSION_INPUTS for name, added in _INVERSION.items()}
    | {("background", name): added + _BACKGROUND_INPUTS for name, added in _BACKGROUND.items()}
    | {("separation", "closed-form"): 17}
)
CLOSED_FORMS = (*(("inversion", name) for name in ("tkd", "tsvd", "tikhonov", "l2")), ("separation", "closed-form"))
REFINEMENT = 12  # more, where background removal is refined by an inversion
# Of a method that was not measured: networks, whose own memory is told apart, and what is added later.
UNMEASURED: Mapping[str, float] = MappingProxyType({"inversion": 32, "background": 20, "separation": 45})


def volumes_of(stage: str, method: str) -> float:
    """Volumes that a method of a heavy stage holds at its peak, its inputs among them."""
    return VOLUMES.get((stage, method), UNMEASURED[stage])


def loaded_by(stage: str, method: str) -> float:
    """GiB that a method's process has loaded before it holds an image: closed forms need no compiled loop."""
    return FILES_GB if (stage, method) in CLOSED_FORMS else COMPILED_GB
