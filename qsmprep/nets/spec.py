"""What a network is: its task, architecture, channels with units and normalisation, and its training domain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec

# What a channel can hold, and what it is. In ppm unless it is said; relaxation rates are divided by the relaxometric
# constant.
QUANTITIES: Mapping[str, str] = MappingProxyType(
    {
        "total-field": "total field",
        "tissue-field": "tissue field",
        "v-sharp": "tissue field that V-SHARP makes of the total field",
        "tkd": "susceptibility by truncated k-space division at 0.07 of the tissue field, or of V-SHARP's",
        "iterated": "susceptibility by six returns to the tissue field in k-space, from nought",
        "chi": "susceptibility",
        "chi33": "susceptibility along B0 of the susceptibility tensor",
        "off-diagonal-field": "field of the off-diagonal elements of the susceptibility tensor",
        "r2prime": "R2' over the relaxometric constant",
        "r2star": "R2* over the relaxometric constant",
        "chi-para": "paramagnetic susceptibility, >= 0",
        "chi-dia": "magnitude of the diamagnetic susceptibility, >= 0",
        "expected-error": "absolute error that the network expects of its susceptibility, >= 0",
        "magnitude": "root of the magnitude over its 99th percentile, without unit",
        "brain-depth": "depth below the surface of the brain in mm, negative outside, cut at 10 mm",
    }
)
EXPECTED_ERROR = "expected-error"
NOT_NEGATIVE = ("chi-para", "chi-dia", "r2prime", "r2star", EXPECTED_ERROR)

# Task -> (quantities an input may hold, quantities the outputs may be).
TASKS: Mapping[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "inversion": (
            ("tissue-field", "tkd", "iterated"),
            (("chi",), ("chi", EXPECTED_ERROR), ("chi33", "off-diagonal-field")),
        ),
        "total-inversion": (("total-field", "v-sharp", "tkd"), (("chi",), ("chi", EXPECTED_ERROR))),
        "background": (("total-field", "v-sharp"), (("tissue-field",),)),
        "r2prime": (("r2star",), (("r2prime",),)),
        "separation": (("chi", "tissue-field", "r2prime", "r2star"), (("chi-para", "chi-dia"),)),
        "mask": (("magnitude",), (("brain-depth",),)),
    }
)


@dataclass(frozen=True)
class Channel:
    """One channel: network value = (quantity - mean) / deviation inside the mask, 0 outside.

    Attributes
    ----------
    quantity : one of QUANTITIES.
    mean, deviation : in ppm, over the masked voxels of the training data.
    """

    quantity: str
    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise ValueError(f"Unknown quantity {self.quantity!r}; known are {', '.join(QUANTITIES)}.")
        if not (math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0):
            raise ValueError(f"{self.quantity}: mean and deviation must be finite, the latter above 0; got "
                             f"{self.mean!r} and {self.deviation!r}.")  # fmt: skip


@dataclass(frozen=True)
class Domain:
    """What the training data were like: input beyond it is a guess of the network.

    Attributes
    ----------
    voxel_size_mm : edge of the cubic voxels it was trained on.
    largest_tilt_degrees : between B0 and the third axis; 180 when every direction was trained.
    field_deviation_ppm : lowest and highest s.d. of the input field inside the mask.
    snr : lowest and highest peak signal-to-noise ratio of the magnitude.
    """

    voxel_size_mm: float = 1.0
    largest_tilt_degrees: float = 0.0
    field_deviation_ppm: tuple[float, float] = (0.0, math.inf)
    snr: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        if not self.voxel_size_mm > 0:
            raise ValueError(f"The voxel size of a training domain must be positive; got {self.voxel_size_mm!r} mm.")


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to build a network and to feed it; the weights apart.

    Attributes
    ----------
    name : what the user calls it.
    task : one of TASKS.
    architecture : of the U-net or of the unrolled family.
    inputs, outputs : channels in order.
    domain : of its training.
    masked : whether it sees nothing beyond the mask; else it is shown the total field wherever there is signal.
    """

    name: str
    task: str
    architecture: UnetSpec | UnrolledSpec
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    domain: Domain = Domain()
    masked: bool = True

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"Unknown task {self.task!r}; known are {', '.join(TASKS)}.")
        may_enter, may_leave = TASKS[self.task]
        entering, leaving = quantities(self.inputs), quantities(self.outputs)
        if not entering or not set(entering) <= set(may_enter) or leaving not in may_leave:
            raise ValueError(
                f"A network for {self.task} takes {', '.join(may_enter)} and gives "
                f"{' or '.join(' and '.join(names) for names in may_leave)}; {self.name!r} takes "
                f"{', '.join(entering) or 'nothing'} and gives {', '.join(leaving) or 'nothing'}."
            )
        if isinstance(self.architecture, UnrolledSpec):
            channels_in, channels_out = 1, self.architecture.unknowns
        else:
            channels_in, channels_out = self.architecture.channels_in, self.architecture.channels_out
        if (channels_in, channels_out) != (len(entering), len(leaving)):
            raise ValueError(f"{self.name!r}: the architecture has {channels_in} channels in and {channels_out} out, "
                             f"the description {len(entering)} and {len(leaving)}.")  # fmt: skip
        if not self.masked and (entering != ("total-field",) or self.unrolled):
            raise ValueError(f"{self.name!r} is given no mask: it must be a U-net and take the total field alone.")
        if self.consistent and ("tissue-field" not in entering or leaving[0] != "chi"):
            raise ValueError(f"{self.name!r} returns to the data: it must take tissue-field and give chi.")

    @property
    def unrolled(self) -> bool:
        """Whether it iterates between a physical model and a network."""
        return isinstance(self.architecture, UnrolledSpec)

    @property
    def consistent(self) -> bool:
        """Whether a U-net's answer returns to the data in k-space."""
        return isinstance(self.architecture, UnetSpec) and self.architecture.consistency > 0

    @property
    def works_with_kernel(self) -> bool:
        """Whether it computes with the dipole kernel of the volume itself."""
        return self.unrolled or self.consistent

    @property
    def knows_kernel(self) -> bool:
        """Whether it, or a channel that it is shown, is told the dipole kernel, and so takes any direction of B0."""
        return self.works_with_kernel or "iterated" in quantities(self.inputs)

    @property
    def takes_any_direction(self) -> bool:
        """Whether training may show it any direction of B0: it knows the kernel, or its task has no direction."""
        return self.knows_kernel or self.task == "background"

    @property
    def expects_error(self) -> bool:
        """Whether its last output is the error that it expects of the first."""
        return self.outputs[-1].quantity == EXPECTED_ERROR

    @property
    def kind(self) -> str:
        """The family of a U-net ("unet"), the kind of an unrolled network."""
        return self.architecture.kind if isinstance(self.architecture, UnrolledSpec) else "unet"

    @property
    def multiple(self) -> int:
        """Sizes of the input must be multiples of this."""
        return self.architecture.multiple if isinstance(self.architecture, UnetSpec) else 1


def quantities(channels: tuple[Channel, ...]) -> tuple[str, ...]:
    """What the channels hold, in order."""
    return tuple(channel.quantity for channel in channels)


FAMILIES: Mapping[str, type] = MappingProxyType({"unet": UnetSpec, "unrolled": UnrolledSpec})


def to_document(spec: NetworkSpec) -> dict[str, Any]:
    """The description as plain values that JSON knows (an endless range end is null)."""
    document = dataclasses.asdict(spec)
    family = next(name for name, kind in FAMILIES.items() if isinstance(spec.architecture, kind))
    document["architecture"] = {"family": family, **document["architecture"]}
    plain: dict[str, Any] = _plain(document)
    return plain


def from_document(document: Mapping[str, Any]) -> NetworkSpec:
    """The description that `to_document` wrote.

    Raises
    ------
    ValueError : anything missing, unknown, of a wrong type, or contradictory; nothing else is raised.
    """
    try:
        rest = dict(document)
        architecture = dict(rest.pop("architecture"))
        family = architecture.pop("family")
        if family not in FAMILIES:
            raise ValueError(f"unknown family of networks {family!r}; known are {', '.join(FAMILIES)}")
        domain = rest.pop("domain", {})
        ranges = {
            name: tuple(float("inf") if end is None else float(end) for end in value)
            for name, value in domain.items()
            if isinstance(value, list | tuple)
        }
        inputs, outputs = (tuple(Channel(**channel) for channel in rest.pop(side)) for side in ("inputs", "outputs"))
        return NetworkSpec(architecture=FAMILIES[family](**architecture), domain=Domain(**{**domain, **ranges}),
                           inputs=inputs, outputs=outputs, **rest)  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"This does not describe a network of qsmprep: {what}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value
