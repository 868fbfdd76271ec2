"""What tells one unrolled network from another, without the library that runs it."""

from __future__ import annotations

from dataclasses import dataclass

NORMS = ("batch", "none")
STARTS = ("adjoint", "division")
DATA_TERMS = ("gradient", "proximal", "unmasked-gradient")
PUBLISHED_STEP = 4.0
UNROLLED_KINDS = ("modl", "lpcnn")


@dataclass(frozen=True)
class UnrolledSpec:
    """What tells one unrolled network from another.

    Attributes
    ----------
    kind : "modl", two unknowns (chi33 and the field of the off-diagonal tensor elements), one network and one step
        length shared by all iterations; "lpcnn", one unknown, the data term inside the mask, and likewise.
    iterations : unrolled.
    width : channels of the convolutions.
    blocks : residual blocks of the network.
    dropout : in the blocks, while training.
    norm_epsilon : of the batch normalisation.
    norm : "batch", as published, or "none".
    bias : whether all convolutions have one; the published networks have none but in the last. Without it a network is
        blind to scale: it cannot tell what is small enough to be noise.
    residual : whether a learned mixture of the channels it is shown, at first susceptibility alone, is added to the
        network's answer; not so in the published networks.
    start : what the network sees first: the adjoint of the field times the step, as published, or its truncated
        k-space division, from which few iterations suffice.
    masked : whether MoDL's data term ends at the mask; as published it does not, and so takes the field for nought
        outside.
    data_term : how a network returns to the data between its answers: a gradient step, as published, or ("proximal")
        the exact minimum of |M (D chi + dB - f)|^2 + step |chi - its answer|^2 in k-space, once more after the last
        answer, with a step of its own each time. For LPCNN a gradient step on the misfit inside the mask, as its paper
        says, or ("unmasked-gradient") everywhere, as its released code has it.
    first_step : step length at the start of training; as published (4) where it is 0.
    """

    kind: str = "modl"
    iterations: int = 3
    width: int = 32
    blocks: int = 8
    dropout: float = 0.5
    norm_epsilon: float = 1e-5
    norm: str = "batch"
    bias: bool = False
    residual: bool = False
    start: str = "adjoint"
    masked: bool = False
    data_term: str = "gradient"
    first_step: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in UNROLLED_KINDS:
            raise ValueError(f"Unknown kind {self.kind!r}; choose one of {', '.join(UNROLLED_KINDS)}.")
        if min(self.iterations, self.width, self.blocks) < 1:
            raise ValueError("Iterations, width and blocks must be at least one.")
        if self.data_term not in DATA_TERMS:
            raise ValueError(f"Unknown data term {self.data_term!r}; choose one of {', '.join(DATA_TERMS)}.")
        if self.data_term == "unmasked-gradient" and self.kind != "lpcnn":
            raise ValueError("The data term unmasked-gradient is that of LPCNN.")
        if self.start not in STARTS:
            raise ValueError(f"Unknown start {self.start!r}; choose one of {', '.join(STARTS)}.")
        if self.norm not in NORMS:
            raise ValueError(f"Unknown normalisation {self.norm!r}; choose one of {', '.join(NORMS)}.")
        if not 0 < self.norm_epsilon < 1:
            raise ValueError(f"The normalisation's epsilon is {self.norm_epsilon}; it must be between 0 and 1.")

    @property
    def unknowns(self) -> int:
        """Channels of the result."""
        return 2 if self.kind == "modl" else 1
