"""Voxels of unreliable phase (consensus 5.c): no weight in the data term, and the merge of two passes.

A vessel or a bleed spoils the phase in and around it, and an inversion that believes that phase spreads streaks. With
no data there, the rest of the map is clean but the strong source itself is guessed. Two passes give both: one without
the unreliable voxels for all others, and one with them for themselves.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import reliable
from qsmprep.numerics.convergence import Convergence
from qsmprep.options import option

RESIDUAL = "relative_residual"


def residual_threshold_option() -> Any:
    """The option `residual_threshold` of every method that handles holes."""
    return option(0.3, "relative residual of the echo combination above which a voxel has no weight", low=0)


def two_pass_option() -> Any:
    """The option `two_pass` of every method that handles holes."""
    return option(
        False,
        "invert twice, without the voxels of unreliable phase and with them, and take these from the second map only",
    )


def handles_holes(method: Callable[..., Inversion]) -> Callable[..., Inversion]:
    """Give an inversion the option `two_pass`; its options also have `residual_threshold`.

    A method that takes `relative_residual` gives the voxels above the threshold no weight. One that has no weights is
    given the parameter here, and sees the field and the mask without those voxels; they are 0 in its map after a
    single pass.
    """
    signature = inspect.signature(method)
    weighted = RESIDUAL in signature.parameters
    if not weighted:
        extra = inspect.Parameter(
            RESIDUAL, inspect.Parameter.KEYWORD_ONLY, default=None, annotation="np.ndarray | None"
        )
        parameters = list(signature.parameters.values())
        parameters.insert([p.name for p in parameters].index("options"), extra)
        signature = signature.replace(parameters=parameters)
    mask_name = "mask" if "mask" in signature.parameters else "total_mask"
    default = signature.parameters["options"].default

    @functools.wraps(method)
    def invert(*args: Any, **given: Any) -> Inversion:
        bound = signature.bind(*args, **given).arguments
        options = bound.setdefault("options", default)
        residual = bound.get(RESIDUAL)
        if residual is None or not (options.two_pass or not weighted):
            return method(**(bound if weighted else {k: v for k, v in bound.items() if k != RESIDUAL}))
        inside = np.asarray(bound[mask_name]) > 0
        trusted = reliable(inside, residual, options.residual_threshold)
        without = dict(bound)
        if not weighted:
            del without[RESIDUAL]
            without[mask_name] = trusted
        passes = 2 if options.two_pass and not trusted[inside].all() else 1
        progress = bound.get("progress")
        first = method(**without | _counted(progress, 0, passes))
        if passes == 1:
            return first
        whole = {name: value for name, value in bound.items() if name != RESIDUAL}
        return merge(first, method(**whole | _counted(progress, first.convergence.iterations, passes)), trusted)

    invert.__signature__ = signature
    return invert


def merge(without: Inversion, whole: Inversion, trusted: np.ndarray) -> Inversion:
    """One map of two: trusted voxels from the pass without the others, the others from the pass over the whole mask.

    Each map is known up to a constant: the second is shifted to the first's mean over the voxels both trust.
    """
    shared = trusted & without.mask & whole.mask
    shift = (without.chi_ppm[shared].mean(dtype=np.float64) - whole.chi_ppm[shared].mean(dtype=np.float64)
             if shared.any() else 0.0)  # fmt: skip
    mask = whole.mask | shared
    chi = np.where(shared, without.chi_ppm, whole.chi_ppm + np.float32(shift)) * mask
    first, second = without.convergence, whole.convergence
    convergence = Convergence(
        first.iterations + second.iterations,
        first.converged and second.converged,
        first.history + second.history,
        f"{second.monitored} (two passes)",
        first.seconds + second.seconds,
    )
    warnings = tuple(dict.fromkeys(without.warnings + whole.warnings))
    return replace(whole, chi_ppm=chi.astype(np.float32), mask=mask, convergence=convergence, warnings=warnings)


def _counted(progress: Callable[[int, int], None] | None, done: int, passes: int) -> dict[str, Any]:
    """The progress callback of one of several passes, as keyword."""
    if progress is None:
        return {}
    return {"progress": lambda iteration, total: progress(done + iteration, passes * total)}
