"""Options of a method: a frozen dataclass whose fields know their help text, unit, range and choices."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any


# More than 8 parameters: each is a fact of an option, given by name where there is one.
def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    none: str = "",
    metavar: str = "",
    when: tuple[str, Any] | None = None,
    unit_from: str = "",
    several: bool = False,
) -> Any:
    """A dataclass field with the facts from which command line, TOML, documentation and checks are made.

    Parameters
    ----------
    default : the value used when nobody says otherwise.
    help : one line for the user: lower case first, no full stop, clauses by semicolon, choices as "word: meaning";
        neither unit nor default, which are added to it.
    unit : unit of the value as text ("mm", "ppm"); empty for a pure number.
    low, high : allowed range, both ends included.
    choices : allowed words.
    none : what a default of None or "" means, in words ("all available").
    metavar : what stands for the value in the help ("X,Y,Z"); a word for its type when left out.
    when : (other option, value or tuple of values): this one acts only where the other has it; None: always.
    unit_from : the option that says the unit, in place of `unit`, which then says so to the reader of the help.
    several : whether several different words may be given, of the allowed ones where there are `choices`; the value is
        then a text of them with commas between, in the order given (`words_of`).
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices, "none": none,
                "metavar": metavar, "when": when, "unit_from": unit_from, "several": several}  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def acts(options: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether an option has a part of its own in what is computed.

    It is set, what it belongs to is switched on, and it is not the unit of others, with which it is told.
    """
    if any(other.metadata.get("unit_from") == field.name for other in dataclasses.fields(options)):
        return False
    other, wanted = field.metadata.get("when") or ("", ())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    if getattr(options, field.name) is None or not other:
        return getattr(options, field.name) is not None
    several = next(each.metadata.get("several") for each in dataclasses.fields(options) if each.name == other)
    values = words_of(getattr(options, other)) if several else (getattr(options, other),)
    return any(value in wanted for value in values)


def words_of(value: str) -> tuple[str, ...]:
    """The words of an option that holds several.

    >>> words_of("whole-brain,csf")
    ('whole-brain', 'csf')
    """
    return tuple(word.strip() for word in value.split(","))


def unit_of(options: Any, field: dataclasses.Field[Any]) -> str:
    """The unit of an option's value as text; empty for a pure number or a word."""
    named = field.metadata.get("unit_from")
    return str(getattr(options, named) if named else field.metadata.get("unit", ""))


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default of an option as help and documentation show it."""
    if field.default is None or field.default == "":
        return str(field.metadata.get("none") or "none")
    if isinstance(field.default, bool):
        return "yes" if field.default else "no"
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def what_is_allowed(facts: Mapping[str, Any], value: Any) -> str:
    """What an option of these facts allows, if the value is outside; else an empty text."""
    if value is None:
        return ""
    if facts.get("several"):
        chosen = words_of(value)
        fits = set(chosen) <= set(facts["choices"] or chosen) and len(set(chosen)) == len(chosen)
        if not fits and not facts["choices"]:
            return "give different ones"
        return "" if fits else f"choose one, or several different ones, of {', '.join(facts['choices'])}"
    if facts.get("choices") and value not in facts["choices"]:
        return f"choose one of {', '.join(facts['choices'])}"
    low, high = facts.get("low"), facts.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        ends = [f"{end:.6g}" if isinstance(end, float) else str(end)
                for end in ("-inf" if low is None else low, "inf" if high is None else high)]  # fmt: skip
        return f"allowed is [{', '.join(ends)}] {facts.get('unit', '')}".rstrip()
    return ""


def option_type(options_class: type[Any], name: str) -> type[Any]:
    """The plain type (bool, int, float or str) of a field; an optional field gives the type beside None."""
    annotation = typing.get_type_hints(options_class)[name]
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    plain: type[Any] = annotation
    return plain


def shown(value: Any, longest: int = 60) -> str:
    """A value that somebody gave, for a message: in one line, the beginning of a long one.

    >>> shown([1, "two"]), shown("x" * 100), shown(10**5000)
    ("[1, 'two']", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…", 'a number of thousands of digits')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= longest else f"{text[:longest]}…"


def check_options(options: Any, where: str = "") -> None:
    """Raise ValueError naming the first option that lies outside its range or choices, and what is allowed.

    `where` is what the message says they belong to, as a section of a file; else the name of their class.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if allowed := what_is_allowed(field.metadata, value):
            told = f"{where}: {field.name}" if where else f"{type(options).__name__}.{field.name}"
            raise ValueError(f"{told} is {shown(value)}; {allowed}.")
