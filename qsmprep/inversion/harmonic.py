"""The weak harmonic field: what background field removal left, fitted along with chi (Milovic 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from qsmprep.numerics.admm import Penalties
from qsmprep.options import option


class HarmonicOptions(Protocol):
    """Options of a method that fits a harmonic field along."""

    @property
    def weak_harmonic(self) -> bool:
        """Whether there is such a field."""

    @property
    def beta(self) -> float:
        """Weight of its Laplacian in the mask."""

    @property
    def mu_h(self) -> float:
        """Penalty parameter of the Laplacian split."""


def weak_harmonic_option(default: bool, *, remark: str = "", when: tuple[str, Any] | None = None) -> Any:
    """The option `weak_harmonic` of the methods that fit such a field; a remark is added to its help."""
    return option(default, "fit the harmonic remnant of the background field along with chi" + remark, when=when)


def beta_option(default: float = 1500.0) -> Any:
    """The option `beta` of these methods; the default is that of a data term of half a square."""
    return option(
        default, "weight of the harmonic field's Laplacian in the mask", low=1e-9, when=("weak_harmonic", True)
    )


def mu_h_option() -> Any:
    """The option `mu_h` of these methods."""
    return option(3.0, "penalty parameter of the Laplacian split", low=1e-9, when=("weak_harmonic", True))


def with_harmonic(penalties: Penalties, options: HarmonicOptions, *, unit: float = 1.0) -> Penalties:
    """The penalties with those of the harmonic field p, beta/2 |M laplacian p|^2, if the options want one.

    `unit` is the curvature of the data term in its optimum: 1 for half a square, whose unit p shares. Beta and its
    penalty parameter are relative to it.
    """
    if not options.weak_harmonic:
        return penalties
    return replace(penalties, beta=options.beta * unit, mu_harmonic=options.mu_h * unit)
