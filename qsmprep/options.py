"""Options of a method: a frozen dataclass whose fields know their help text, unit, range and choices."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with the facts from which command line, TOML, documentation and checks are made.

    Parameters
    ----------
    default : the value used when nobody says otherwise.
    help : one line for the user.
    unit : unit of the value as text ("mm", "ppm"); empty for a pure number.
    low, high : allowed range, both ends included.
    choices : allowed words.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def option_type(options_class: type, name: str) -> type:
    """The plain type (bool, int, float or str) of a field; an optional field gives the type beside None."""
    annotation = typing.get_type_hints(options_class)[name]
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def check_options(options: Any) -> None:
    """Raise ValueError naming the first option that lies outside its range or choices, and what is allowed."""
    for field in dataclasses.fields(options):
        value, facts = getattr(options, field.name), field.metadata
        name = f"{type(options).__name__}.{field.name}"
        if value is None:
            continue
        if facts.get("choices") and value not in facts["choices"]:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(facts['choices'])}.")
        low, high = facts.get("low"), facts.get("high")
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            allowed = f"[{'-inf' if low is None else low}, {'inf' if high is None else high}]"
            raise ValueError(f"{name} is {value!r}; allowed is {allowed} {facts.get('unit', '')}".rstrip() + ".")
