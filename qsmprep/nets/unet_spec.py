"""What tells one U-net from another, without the library that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

LEVELS = 4  # poolings of the published networks
ACTIVATIONS = ("relu", "leaky-relu")
NORMS = ("batch", "none")
CONCATENATIONS = ("skip-first", "up-first")


@dataclass(frozen=True)
class UnetSpec:
    """What tells one U-net from another.

    Attributes
    ----------
    channels_in, channels_out : of the whole network.
    width : channels of the first level; each level below has twice as many.
    kernel : edge of the convolutions, odd.
    activation : after each normalisation; the leaky one has a slope of 0.1.
    concatenation : order of the two halves of the input of a decoder level.
    norm_epsilon, norm_momentum : of the batch normalisation, as torch means them.
    norm : batch normalisation, or none, so that a patch keeps its scale; the published networks have the former.
    levels : poolings; the published networks have four.
    shortcut : whether a 1x1x1 convolution of the inputs is added to the output, so that the network learns only what
        is not linear in a voxel's inputs; the published networks have none.
    packing : voxels along each axis that become channels before the first level and voxels again after the last: 2
        makes a network that sees twice as far for the same work. The published networks do not pack (1).
    consistency : at the start of training, the step of a return to the data in k-space after the network's answer:
        the exact minimum of |D chi - f|^2 + step |chi - answer|^2, so that the data decide where the kernel is strong
        and the network where it is weak. The published networks have none (0).
    octave : share of the channels that are kept at half the resolution (octave convolutions; xQSM has 0.5); 0: none.
    """

    channels_in: int = 1
    channels_out: int = 1
    width: int = 32
    kernel: int = 3
    activation: str = "relu"
    concatenation: str = "up-first"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.1
    norm: str = "batch"
    levels: int = LEVELS
    shortcut: bool = False
    packing: int = 1
    consistency: float = 0.0
    octave: float = 0.0

    def __post_init__(self) -> None:
        if min(self.channels_in, self.channels_out, self.width) < 1:
            raise ValueError("A U-net needs at least one channel in, one out, and a width of at least one.")
        if self.norm not in NORMS:
            raise ValueError(f"Unknown normalisation {self.norm!r}; choose one of {', '.join(NORMS)}.")
        if not 1 <= self.levels <= 6:
            raise ValueError(f"A U-net has one to six levels of pooling; got {self.levels}.")
        if not 1 <= self.packing <= 4:
            raise ValueError(f"A U-net packs one to four voxels along each axis; got {self.packing}.")
        if not 0 <= self.consistency <= 1:
            raise ValueError(f"The step of the return to the data is {self.consistency}; it must be from 0 to 1.")
        if self.octave and not 1 <= self.width - int(self.width * (1 - self.octave)) < self.width:
            raise ValueError(f"The share of channels at half the resolution is {self.octave}; of a width of "
                             f"{self.width} it must leave channels on either side.")  # fmt: skip
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"The kernel's edge is {self.kernel}; it must be odd.")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"Unknown activation {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}.")
        if self.concatenation not in CONCATENATIONS:
            raise ValueError(f"Unknown order {self.concatenation!r}; choose one of {', '.join(CONCATENATIONS)}.")

    @property
    def multiple(self) -> int:
        """Sizes of the input must be multiples of this."""
        return int(self.packing * 2 ** (self.levels + bool(self.octave)))


_TENSORFLOW = UnetSpec(kernel=5, concatenation="skip-first", norm_epsilon=1e-3, norm_momentum=0.01)
# The published networks of this family at their full width.
PUBLISHED: Mapping[str, UnetSpec] = MappingProxyType(
    {
        "qsmnet": _TENSORFLOW,
        "qsmnet+": replace(_TENSORFLOW, activation="leaky-relu"),
        "qsmnet-me": UnetSpec(),
        "r2primenet": UnetSpec(),
        "chi-sepnet": UnetSpec(channels_in=3, channels_out=2),
        "deepqsm": UnetSpec(),
        "sharqnet": UnetSpec(),
        "autoqsm": UnetSpec(),
        "xqsm": UnetSpec(width=64, levels=2, shortcut=True, octave=0.5),
    }
)
