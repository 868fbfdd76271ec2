"""The help of `qsmprep`: what most people need on two screens, the rest by topic (`--help fansi`, `--help all`).

A topic is a stage with its methods, a method with its options, a step without alternatives, or one of three groups of
flags that belong to no step. Every flag stands under one topic.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qsmprep import registry, settings
from qsmprep.cli.program import Parser, did_you_mean

# Topics that the first help shows whole, and flags of other topics that it shows beside them.
SHOWN_WHOLE = ("data", "execution", "pipeline")
OFTEN_USED = (
    "--field-strength",
    "--b0-direction",
    "--echoes",
    "--reference",
    "--multi-orientation",
    "--roi",
)
ALL = "all"
EPILOG = "Flags take - or _. Exit status: 0 every run succeeded, 1 something failed, 2 wrong usage."
SWITCHES = "--[no-]x: --x or --no-x."


@dataclass(frozen=True)
class Topic:
    """What `--help NAME` shows.

    Attributes
    ----------
    title : what it is.
    group : its flags.
    words : what may be chosen -> what it means.
    """

    title: str
    group: argparse._ArgumentGroup
    words: Mapping[str, str]

    @property
    def actions(self) -> list[argparse.Action]:
        """Its flags."""
        return self.group._group_actions


class TopicParser(Parser):
    """A parser whose help is split by topics."""

    def __init__(self, **facts: Any) -> None:
        self.topics: dict[str, Topic] = {}
        super().__init__(**facts)

    def add_help_flag(self) -> None:
        """Leave -h and --help to a topic: see `HelpAction`."""

    def add_topic(self, name: str, title: str, words: Mapping[str, str] | None = None) -> argparse._ArgumentGroup:
        """Add a topic and return the group that takes its flags."""
        self.topics[name] = Topic(title, self.add_argument_group(title), words or {})
        return self.topics[name].group

    def hint(self, *flags: str) -> str:
        """The topic of the first flag that has one, by itself or by what it begins with; else how to see all."""
        for flag in flags:
            action = self._option_string_actions.get(flag)
            owners = [name for name, topic in self.topics.items() if action in topic.actions]
            owners += sorted((name for name in self.topics if flag.startswith(f"--{name}-")), key=len, reverse=True)
            if owners:
                return f"see `{self.prog} --help {owners[0]}`"
        return f"see `{self.prog} --help {ALL}`"

    def format_help(self) -> str:
        """The first help: what most people need, and how to get the rest."""
        layout = self._begin()
        for name in SHOWN_WHOLE:
            stages = [self.topics[stage] for stage in registry.stages()] if name == "pipeline" else []
            flags = [action for topic in (self.topics[name], *stages) for action in topic.actions]
            _add_section(layout, self.topics[name].title, flags)
        flags = [self._option_string_actions[flag] for flag in OFTEN_USED]
        _add_section(layout, "Often used options of single steps", flags)
        topics = {
            "--help pipeline": "methods of each preset",
            "--help STAGE": f"methods of a stage: {', '.join(registry.stages())}",
            "--help METHOD": "options of a method, such as fansi",
            "--help STEP": f"options of a step: {', '.join(settings.SECTIONS)}",
            f"--help {ALL}": "everything; --help habits: flags of fMRIPrep",
        }
        _add_section(layout, "More", _rows(topics))
        layout.add_text(f"{SWITCHES} {self.epilog}")
        return layout.format_help()

    def topic_help(self, word: str) -> str:
        """The help of a topic, of the topic of a flag or of a word that may be chosen, or of all.

        Raises
        ------
        ValueError : there is no such topic; the message names near ones.
        """
        names = self.find_topics(word)
        layout = self._begin() if len(names) == len(self.topics) else self._get_formatter()
        for name in names:
            topic = self.topics[name]
            _add_section(layout, topic.title, [*topic.actions, *_rows(topic.words)])
        if len(names) < len(self.topics) and set(names) & set(registry.stages()):
            layout.add_text(f"`{self.prog} --help METHOD` lists the options of a method.")
        if any(
            isinstance(action, argparse.BooleanOptionalAction) for name in names for action in self.topics[name].actions
        ):
            layout.add_text(SWITCHES)
        return layout.format_help()

    def find_topics(self, word: str) -> list[str]:
        """Names of the topics that a word asks for."""
        name = word.lower().replace("_", "-").lstrip("-")
        if name == ALL:
            return list(self.topics)
        if name in self.topics:
            return [name]
        flag = self._option_string_actions.get(f"--{name}")
        found = [key for key, topic in self.topics.items() if flag in topic.actions or name in topic.words]
        if not found:
            words = dict.fromkeys([*self.topics, *(flag.lstrip("-") for flag in self._option_string_actions)])
            near = did_you_mean(name, words)
            raise ValueError(f"no help on {word!r}{near}; `{self.prog} --help` names stages and steps, "
                             f"`{self.prog} --help STAGE` the methods of a stage")  # fmt: skip
        return found

    def _begin(self) -> argparse.HelpFormatter:
        """Usage, description and positional arguments."""
        layout = self._get_formatter()
        layout.add_usage(self._call().replace("%", "%%"), [], [])
        layout.add_text(self.description)
        _add_section(layout, "Arguments", self._positionals._group_actions)
        return layout


class HelpAction(argparse.Action):
    """Show the first help or that of a topic, and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Show it."""
        try:
            text = parser.topic_help(values) if isinstance(values, str) and isinstance(parser, TopicParser) else None
        except ValueError as error:
            parser.error(str(error))
        print(text or parser.format_help(), end="")
        parser.exit()


def _add_section(layout: argparse.HelpFormatter, title: str, actions: Sequence[argparse.Action]) -> None:
    layout.start_section(title)
    layout.add_arguments(actions or _rows({"no options": ""}))
    layout.end_section()


def _rows(words: Mapping[str, str]) -> list[argparse.Action]:
    """Words and their meaning as lines of a section."""
    return [argparse.Action([], word, help=text.replace("%", "%%")) for word, text in words.items()]
