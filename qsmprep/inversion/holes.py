"""Voxels of unreliable phase (consensus 5.c): no weight in the data term, and the merge of two passes.

A vessel or a bleed spoils the phase in and around it, and an inversion that believes that phase spreads streaks. With
no data there, the rest of the map is clean but the strong source itself is guessed. Two passes give both: one without
the unreliable voxels for all others, and one with them for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import reliable
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.progress import Progress, part
from qsmprep.options import option

OnePass = Callable[[RealArray | None, Progress | None], Inversion]
"""A method, called with the relative residual that it shall heed, and progress."""


class HoleOptions(Protocol):
    """Options of a method that handles holes."""

    @property
    def residual_threshold(self) -> float:
        """Relative residual above which a voxel is unreliable."""

    @property
    def two_pass(self) -> bool:
        """Whether to invert twice where there are such voxels."""


def residual_threshold_option() -> Any:
    """The option `residual_threshold` of every method that handles holes."""
    return option(0.3, "relative residual of the echo combination above which a voxel has no weight", low=0)


def two_pass_option() -> Any:
    """The option `two_pass` of every method that handles holes."""
    return option(
        False,
        "invert twice, without the voxels of unreliable phase and with them, and take these from the second map only",
    )


def in_passes(
    one_pass: OnePass,
    mask: Mask,
    relative_residual: RealArray | None,
    options: HoleOptions,
    progress: Progress | None,
) -> Inversion:
    """One pass of a method, or two where its options ask for it and there are unreliable voxels.

    Parameters
    ----------
    one_pass : (relative residual, progress) -> Inversion. It gives voxels whose residual exceeds the threshold no
        weight; without a residual it trusts the whole mask.
    mask : (n0, n1, n2) where the field is valid.
    relative_residual : (n0, n1, n2) of the echo combination; None: not known, and all voxels are trusted.
    options : `residual_threshold` and `two_pass`.
    progress : called as progress(iteration, cap), the iterations of both passes counted together.

    Returns
    -------
    Inversion of the one pass, or of both merged.
    """
    if relative_residual is None or not options.two_pass:
        return one_pass(relative_residual, progress)
    inside = np.asarray(mask) > 0
    trusted = reliable(inside, relative_residual, options.residual_threshold)
    if trusted[inside].all():
        return one_pass(relative_residual, progress)
    first = one_pass(relative_residual, part(progress, 0, 2))
    done = first.convergence.iterations if first.convergence else 0
    later = None if progress is None else lambda count, total: progress(done + count, 2 * total)
    return merge(first, one_pass(None, later), trusted)


def merge(without: Inversion, whole: Inversion, trusted: Mask) -> Inversion:
    """One map of two: trusted voxels from the pass without the others, the others from the pass over the whole mask.

    Each map is known up to a constant: the second is shifted to the first's mean over the voxels both trust.
    """
    shared = trusted & without.mask & whole.mask
    shift = (without.chi_ppm[shared].mean(dtype=np.float64) - whole.chi_ppm[shared].mean(dtype=np.float64)
             if shared.any() else 0.0)  # fmt: skip
    mask = whole.mask | shared
    chi = np.where(shared, without.chi_ppm, whole.chi_ppm + np.float32(shift)) * mask
    convergence, first, second = None, without.convergence, whole.convergence
    if first is not None and second is not None:
        convergence = Convergence(
            first.iterations + second.iterations,
            first.converged and second.converged,
            first.history + second.history,
            f"{second.monitored} (two passes)",
            first.seconds + second.seconds,
            first.iterations + 1,
        )
    warnings = tuple(dict.fromkeys(without.warnings + whole.warnings))
    return replace(whole, chi_ppm=chi.astype(np.float32), mask=mask, convergence=convergence, warnings=warnings)
