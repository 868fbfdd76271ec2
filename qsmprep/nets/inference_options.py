"""Options of a method that uses a network; read at every start of the program, so torch stays out of this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qsmprep.nets.role import Role
from qsmprep.options import option

PRECISIONS = ("float32", "auto", "bfloat16")


@dataclass(frozen=True)
class InferenceOptions:
    """Options that every method with a network has; each names its weights and what network it can use."""

    role: ClassVar[Role]
    weights: str = option(
        "", "weights of the network: a name that `qsmprep-tools weights list` shows, or a file", metavar="NAME|FILE"
    )
    resampling: str = option(
        "auto", "resample voxels to the size of the training (auto) or leave them (none)", choices=("auto", "none")
    )
    rotation: str = option(
        "auto", "rotate a tilted B0 to the axis of the training (auto) or leave it (none)", choices=("auto", "none")
    )
    precision: str = option(
        "float32",
        "number format inside the network; auto: bfloat16 where it is fast and changes a test patch by less than 1 %",
        choices=PRECISIONS,
    )
    patch: int = option(
        0, "edge of overlapping patches; 0: the whole volume where memory allows", unit="voxels", low=0, high=1024
    )


def weights_option(default: str, *, shipped: bool = True) -> Any:
    """The field `weights` of a method with the name of those it takes by default; whether such are shipped."""
    text = "weights of the network: a name that `qsmprep-tools weights list` shows, or a file"
    if not shipped:
        text += "; none are shipped: train some with `qsmprep-tools train`, or bring a file"
    return option(default, text, metavar="NAME|FILE")
