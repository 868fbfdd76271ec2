"""R2', the rate at which static field variation within a voxel dephases the signal, and what stands in for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.options import check_options, option

R2PRIME_SHARE = 0.3  # of R2*: regressions over simulated heads give 0.27 and 0.30
FALLBACKS = ("scaled-r2star", "constant-r2", "network")  # the last one is not of this module


@dataclass(frozen=True)
class R2primeOptions:
    """What R2' is where no spin echo tells R2."""

    fallback: str = option(
        "scaled-r2star",
        "approximation of R2' without spin echoes; scaled-r2star: a share of R2*; constant-r2: R2* minus one R2; "
        "network: estimated from R2*",
        choices=FALLBACKS,
    )
    share: float = option(R2PRIME_SHARE, "R2' over R2* of the fallback scaled-r2star", low=0.01, high=1,
                          when=("fallback", "scaled-r2star"))  # fmt: skip
    constant: float = option(13.0, "R2 of the fallback constant-r2, at 3 T", unit="1/s", low=0, high=200,
                             when=("fallback", "constant-r2"))  # fmt: skip
    weights: str = option("r2primenet", "weights of the fallback network: a name or a file", metavar="NAME|FILE",
                          when=("fallback", "network"))  # fmt: skip


@dataclass(frozen=True)
class R2prime:
    """R2' in 1/s, (n0, n1, n2) float32, >= 0; the share of the mask where R2 exceeds R2*; how it was made."""

    r2prime: FloatImage
    negative_share: float
    origin: str


def r2prime_map(
    r2star: RealArray,
    mask: Mask,
    *,
    r2: RealArray | None = None,
    options: R2primeOptions = R2primeOptions(),
) -> R2prime:
    """R2' = max(R2* - R2, 0), or one of the stated approximations where R2 is not known.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s.
    mask : (n0, n1, n2); outside it R2' is 0.
    r2 : (n0, n1, n2) in 1/s on the same grid, 0 where it is not known; None: no spin echo at all.
    options : which approximation without R2.

    Raises
    ------
    ValueError : shapes that differ, an R2 that is not known anywhere in the mask, or exceeds R2* nearly everywhere.

    References
    ----------
    Shin 2021; Dimov 2022 (share of R2*).
    """
    check_options(options)
    inside = np.asarray(mask) > 0
    r2star = np.where(inside, r2star, 0).astype(np.float32)
    if r2 is None:
        if options.fallback == "network":
            raise ValueError("R2' by a network is the work of qsmprep.relaxometry.r2primenet.")
        if options.fallback == "scaled-r2star":
            return R2prime(r2star * np.float32(options.share), 0.0, f"{options.share:g} R2*, an approximation")
        left = r2star - np.float32(options.constant)
        share = float((left[inside] < 0).mean())
        return R2prime(np.maximum(left, 0) * inside, share, f"R2* - {options.constant:g} 1/s, an approximation")
    if np.shape(r2) != r2star.shape:
        raise ValueError(f"R2 has shape {np.shape(r2)}; R2* has {r2star.shape}.")
    known = inside & np.isfinite(r2) & (np.asarray(r2) > 0)
    if not known.any():
        raise ValueError("R2 is not known anywhere in the brain mask: the spin echo scan covers another region.")
    left = np.where(known, r2star - np.where(known, r2, 0), 0).astype(np.float32)
    share = float((left[known] < 0).mean())
    if share > 0.9:
        raise ValueError(
            f"R2 exceeds R2* in {100 * share:.0f} % of the brain: R2' would be 0 there. Check that the spin echo scan "
            "is of this person and that its EchoTime is right."
        )
    return R2prime(np.maximum(left, 0), share, "R2* - R2")
