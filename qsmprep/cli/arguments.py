"""Command-line flags made from an options dataclass, and back."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from qsmprep.options import default_text, option_type, what_is_allowed

# Flags that do not consist of the names of step and option, because a shorter one says it.
SHORT_FLAGS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("reference", "region"): "--reference",
        ("roi", "values"): "--roi",
        ("orientation", "methods"): "--multi-orientation",
    }
)
_METAVARS: Mapping[type, str] = MappingProxyType({int: "N", float: "NUMBER", str: "TEXT"})
_NAMES: Mapping[type, str] = MappingProxyType({int: "whole number", float: "number"})
_NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


def flag(prefix: str, name: str) -> str:
    """The command-line flag of an option: ("fansi", "alpha1") -> "--fansi-alpha1"."""
    made = "--" + "-".join(part for part in (prefix, name.replace("_", "-")) if part)
    return SHORT_FLAGS.get((prefix, name), made)


def add_options(
    group: argparse._ArgumentGroup,
    options_class: type,
    prefix: str = "",
    several: Mapping[str, Sequence[str]] = _NOTHING,
) -> None:
    """Add one flag a field; a flag that is not given stays out of the namespace (argparse.SUPPRESS).

    Parameters
    ----------
    several : options that hold words separated by commas -> the words, to be given as several values.
    """
    for field in dataclasses.fields(options_class):
        facts, kind = field.metadata, option_type(options_class, field.name)
        unit = f" [{facts['unit']}]" if facts.get("unit") else ""
        text = f"{facts['help']}{unit} (default: {default_text(field)})"
        common: dict[str, Any] = {"dest": _destination(prefix, field.name), "default": argparse.SUPPRESS,
                                  "help": text.replace("%", "%%")}  # fmt: skip
        name = flag(prefix, field.name)
        if kind is bool:
            group.add_argument(name, action=argparse.BooleanOptionalAction, **common)
        elif field.name in several:
            words = tuple(several[field.name])
            group.add_argument(name, nargs="+", choices=words, metavar=facts["metavar"], action=_Joined, **common)
        elif facts.get("several"):
            words = facts["choices"]
            group.add_argument(name, nargs="+", choices=words, metavar=facts["metavar"], action=_Joined, **common)
        elif facts.get("choices"):
            group.add_argument(name, choices=facts["choices"], **common)
        else:
            metavar = facts.get("metavar") or _METAVARS[kind]
            group.add_argument(name, type=_reader(kind, facts), metavar=metavar, **common)


def given_options(namespace: argparse.Namespace, options_class: type, prefix: str = "") -> dict[str, Any]:
    """Those options of the class that the user gave on the command line, by field name."""
    given = vars(namespace)
    return {
        field.name: given[_destination(prefix, field.name)]
        for field in dataclasses.fields(options_class)
        if _destination(prefix, field.name) in given
    }


class _Joined(argparse.Action):
    """Several words as one, separated by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, ",".join(values))


def _reader(kind: type, facts: Mapping[str, Any]) -> Callable[[str], Any]:
    """From a word to a value of that type, within its range."""

    def read(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r} is no {_NAMES[kind]}") from None
        if allowed := what_is_allowed(facts, value):
            raise argparse.ArgumentTypeError(f"{word} is outside; {allowed}")
        return value

    return read


def _destination(prefix: str, name: str) -> str:
    return f"{prefix}.{name}"
