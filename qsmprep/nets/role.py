"""What a method asks of the network it is given; torch stays out of this module."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.nets.spec import NetworkSpec


@dataclass(frozen=True)
class Role:
    """The networks that a method can use.

    Attributes
    ----------
    task : one of `spec.TASKS`.
    architecture : "unet", or a kind of unrolled network.
    needs : quantities that must be among the inputs.
    lacks : quantities that must not be, as the method does not have them.
    """

    task: str
    architecture: str = "unet"
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def words(self) -> str:
        """What is asked for, in words."""
        kind = "a U-net" if self.architecture == "unet" else f"an unrolled network of the kind {self.architecture}"
        inputs = f" with {' and '.join(self.needs)} among its inputs" if self.needs else ""
        without = f" without {' and '.join(self.lacks)}" if self.lacks else ""
        return f"{kind} for {self.task}{inputs}{without}"

    def fits(self, spec: NetworkSpec) -> bool:
        """Whether a network can be used."""
        inputs = inputs_of(spec)
        return (
            spec.task == self.task
            and spec.kind == self.architecture
            and set(self.needs) <= set(inputs)
            and not set(self.lacks) & set(inputs)
        )

    def check(self, spec: NetworkSpec, method: str, source: str = "") -> None:
        """Raise ValueError, naming the weights and the remedy, for a network that the method cannot use."""
        if not self.fits(spec):
            raise ValueError(
                f"{source or spec.name} holds the network {spec.name!r}, {spec.kind} for {spec.task} from "
                f"{', '.join(inputs_of(spec))}; {method} needs {self.words()}. Choose other weights by "
                f"--{method}-weights, or another method; `qsmprep-tools weights list` shows what there is."
            )


def inputs_of(spec: NetworkSpec) -> tuple[str, ...]:
    """Quantities of the input channels."""
    return tuple(channel.quantity for channel in spec.inputs)
