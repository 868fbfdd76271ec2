"""Compiled loops that cost nothing until they are called.

Importing numba takes a third of a second, which `qsmprep --help` should not pay. `@jit` therefore compiles a
function the first time it is called. Decorated functions of one module may call each other. Use this module's
`prange`; it becomes numba's parallel range when compiled.

A decorated function keeps its types: annotate its arrays with those of `numerics.arrays`, its numbers with `Scalar`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from qsmprep.numerics.threads import thread_count

prange = range

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class CompiledLoop(Generic[Arguments, Result]):
    """A function that numba compiles (and caches on disk) on its first call."""

    def __init__(self, function: Callable[Arguments, Result], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = cast(FunctionType, function)  # of a `def`, which is all that numba compiles
        self._options = options
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """numba's dispatcher of this function, made on first use."""
        if self._dispatcher is None:
            import numba

            names = dict(self._function.__globals__, prange=numba.prange)
            for name in self._function.__code__.co_names:
                if isinstance(names.get(name), CompiledLoop):
                    names[name] = names[name].dispatcher
            copy = FunctionType(self._function.__code__, names, self._function.__name__, self._function.__defaults__)
            copy.__qualname__ = self._function.__qualname__
            copy.__module__ = self._function.__module__
            try:
                self._dispatcher = numba.njit(cache=True, **self._options)(copy)
            except RuntimeError:  # no folder to cache in can be written, as in a read-only container
                self._dispatcher = numba.njit(**self._options)(copy)
        return self._dispatcher

    def __call__(self, *args: Arguments.args, **named: Arguments.kwargs) -> Result:
        """Run the compiled function, within the threads in force."""
        dispatcher = self.dispatcher
        if self._options.get("parallel"):
            import numba

            numba.set_num_threads(min(thread_count(), numba.config.NUMBA_NUM_THREADS))
        result: Result = dispatcher(*args, **named)
        return result


def jit(**options: Any) -> Callable[[Callable[Arguments, Result]], CompiledLoop[Arguments, Result]]:
    """Decorate a function to be compiled on first call; `options` are numba.njit's (parallel, inline, ...).

    Raises ValueError for fastmath: numba optimises a parallel loop once more when it goes into the cache, and what may
    reorder sums does so anew, so that the first run would give other bits than later ones. A sum that shall vectorise
    is kept in an array of partial sums instead.
    """
    if options.get("fastmath"):
        raise ValueError("fastmath makes the first run differ from later ones; keep partial sums in an array.")
    return lambda function: CompiledLoop(function, options)
