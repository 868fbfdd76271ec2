"""Command-line flags made from an options dataclass, and back."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from qsmprep.options import option_type


def flag(prefix: str, name: str) -> str:
    """The command-line flag of an option: ("fansi", "alpha1") -> "--fansi-alpha1"."""
    return "--" + "-".join(part for part in (prefix, name.replace("_", "-")) if part)


def add_options(group: argparse._ArgumentGroup, options_class: type, prefix: str = "") -> None:
    """Add one flag a field; a flag that is not given stays out of the namespace (argparse.SUPPRESS)."""
    for field in dataclasses.fields(options_class):
        facts, kind = field.metadata, option_type(options_class, field.name)
        unit = f" [{facts['unit']}]" if facts.get("unit") else ""
        common = {
            "dest": _destination(prefix, field.name),
            "default": argparse.SUPPRESS,
            "help": f"{facts['help']}{unit} (default: {_text(field.default)})".replace("%", "%%"),
        }
        if kind is bool:
            group.add_argument(flag(prefix, field.name), action=argparse.BooleanOptionalAction, **common)
        else:
            metavar = None if facts.get("choices") else kind.__name__.upper()
            group.add_argument(
                flag(prefix, field.name), type=kind, choices=facts.get("choices"), metavar=metavar, **common
            )


def given_options(namespace: argparse.Namespace, options_class: type, prefix: str = "") -> dict[str, Any]:
    """Those options of the class that the user gave on the command line, by field name."""
    given = vars(namespace)
    return {
        field.name: given[_destination(prefix, field.name)]
        for field in dataclasses.fields(options_class)
        if _destination(prefix, field.name) in given
    }


def _destination(prefix: str, name: str) -> str:
    return f"{prefix}.{name}"


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
