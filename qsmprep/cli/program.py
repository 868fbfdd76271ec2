"""What the command lines of all programs have in common: how help looks, and how a mistake is told."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

WIDEST = 120  # columns; lines any longer are hard to read
_VALUE_WITH_MINUS = re.compile(r"-[\d.]")


class Layout(argparse.HelpFormatter):
    """Help as wide as the terminal; `--[no-]x` for a switch with two flags, `X ...` for several values."""

    def __init__(self, prog: str) -> None:
        columns = shutil.get_terminal_size(fallback=(WIDEST, 24)).columns
        super().__init__(prog, max_help_position=30, width=min(columns, WIDEST) - 2)

    def add_argument(self, action: argparse.Action) -> None:
        """Make room for an argument; argparse forgets that subcommands are indented twice."""
        super().add_argument(action)
        if action.nargs == argparse.PARSER:
            self._action_max_length += self._indent_increment

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(
            " ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0].removeprefix('--')}"
        if len(action.option_strings) > 1 and action.nargs != 0:
            value = self._format_args(action, self._get_default_metavar_for_optional(action))
            return f"{', '.join(action.option_strings)} {value}"
        return super()._format_action_invocation(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == argparse.ONE_OR_MORE and not isinstance(action.metavar, tuple):
            return f"{self._metavar_formatter(action, default_metavar)(1)[0]} ..."
        return super()._format_args(action, default_metavar)


class Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line, with what was probably meant."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(formatter_class=Layout, allow_abbrev=False, add_help=False, **facts)
        self._positionals.title, self._optionals.title = "Arguments", "Options"
        # "-1,0,0" is a value, as "-1" is: no flag begins with a digit.
        self._negative_number_matcher = _VALUE_WITH_MINUS
        self.add_help_flag()

    def add_help_flag(self) -> None:
        """Add -h and --help."""
        self.add_argument("-h", "--help", action="help", help="show this help and exit")

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse a command line, flags with - or _. Exits with status 2 and one line when it makes no sense."""
        words = [_hyphens(word) for word in argv]
        self.check_flags(words)
        given, left = self.parse_known_args(words)
        if left:
            unknown = left[0].startswith("-")
            self.error(f"unknown flag {left[0]}; {self.hint()}" if unknown else f"{left[0]!r} is one word too many")
        return given

    def check_flags(self, words: Sequence[str]) -> None:
        """Refuse an unknown flag by name, before the words after it are taken for something else."""
        if {"-h", "--help"} & set(words):
            return
        commands = self._commands()
        for number, word in enumerate(words):
            if word == "--" or (self._passes_on() and not word.startswith("-")):  # the rest is another program's
                return
            if word in commands:
                return commands[word].check_flags(words[number + 1 :])
            flag = word.partition("=")[0]
            if word.startswith("--") and " " not in word and flag not in self._option_string_actions:
                near = near_words(flag, self._option_string_actions)
                self.error(f"unknown flag {flag}{did_you_mean(flag, near)}; {self.hint(*near, flag)}")
        return None

    def hint(self, *flags: str) -> str:
        """Where to look for a flag that does not exist, given those that are near and itself."""
        return f"`{self.prog} --help` lists all"

    def error(self, message: str) -> NoReturn:
        """Print how the program is called and what is wrong, and exit with status 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message.removeprefix('argument ').removesuffix('.')}.\n")

    def format_usage(self) -> str:
        """One line: what has to be given."""
        return f"usage: {self._call()}\n"

    def format_help(self) -> str:
        """The help, under that line."""
        self.usage = self._call().replace("%", "%%")
        return super().format_help()

    def _call(self) -> str:
        layout, words = self._get_formatter(), [self.prog]
        for action in self._actions:
            if action.option_strings and action.required:
                words.append(layout._format_action_invocation(action))
            elif not action.option_strings:
                words.append(layout._format_args(action, action.dest))
        if self._passes_on():
            return " ".join([self.prog, "[options]", *words[1:]])
        return " ".join(words if self._commands() else [*words, "[options]"])

    def _passes_on(self) -> bool:
        """Whether what follows the first argument is for another program."""
        return any(action.nargs == argparse.REMAINDER for action in self._actions)

    def _commands(self) -> dict[str, Parser]:
        """Parsers of the subcommands by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        near = did_you_mean(str(value), known)
        text = f"{value!r} is not known{near}; choose from {', '.join(known)}"
        if action.nargs == argparse.ONE_OR_MORE and not near:
            text += "; this flag takes every word up to the next flag"
        raise argparse.ArgumentError(action, text)


def add_command(commands: argparse._SubParsersAction[Parser], name: str, text: str, **facts: Any) -> Parser:
    """Add a subcommand, told by the same words in the list of commands and at the top of its own help."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **facts)


def near_words(word: str, known: Iterable[str]) -> list[str]:
    """At most two known words that are nearest to one, the nearest first."""
    return difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known words that are nearest to one, in brackets; empty if none is near."""
    near = near_words(word, known)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _hyphens(word: str) -> str:
    """`--participant_label=x_y` -> `--participant-label=x_y`."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value
