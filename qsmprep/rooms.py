"""Rooms: packages of which `from qsmprep.inversion import fansi` gives the function, not the module of that name."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package that shows, for a module with a function of its own name, the function.

    A method is a module and a function of one name. Python binds a module to its package as soon as anybody imports it,
    so the name would mean the one or the other, depending on what was imported before. In a room it always means the
    function, and the module is loaded when the name is first used. `from qsmprep.inversion.fansi import FansiOptions`
    and `importlib.import_module("qsmprep.inversion.fansi")` reach the module itself.
    """

    _elsewhere: dict[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}":
            function = getattr(value, name, None)
            value = function if callable(function) else value
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        module = f"{self.__name__}.{self._elsewhere.get(name, name)}"
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # a package that the module needs
                raise
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None
        return getattr(found, name, found)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._elsewhere, *(module.name for module in iter_modules(self.__path__))})


def make_room(package: str, **elsewhere: str) -> None:
    """Make a room of a package: one line of its `__init__`, `make_room(__name__)`.

    Parameters
    ----------
    package : its name; it has imported none of its modules yet.
    **elsewhere : name of a function -> module of the package that has it, where the two names differ.
    """
    module = sys.modules[package]
    module.__dict__["_elsewhere"] = elsewhere
    module.__class__ = Room
