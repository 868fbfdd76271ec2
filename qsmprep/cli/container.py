"""`qsmprep-tools docker`: the command that runs the pipeline in a container, with every folder that it needs.

Folders and files are mounted under the names that they have outside, and the working folder is the same, so that the
words of the command line, the settings file and the provenance mean the same inside and outside.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from qsmprep.bids.templateflow import VARIABLE as TEMPLATES
from qsmprep.bids.templateflow import templateflow_home
from qsmprep.cli.parser import build_parser
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command

ENGINES = {"docker": "qsmprep", "podman": "qsmprep", "apptainer": "qsmprep.sif"}  # with the name of the image
WEIGHTS = "QSMPREP_WEIGHTS"  # folder of the user's own networks
WRITTEN = ("output_dir", "work_dir")


def add_docker(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "show the command that runs qsmprep in a container, with every folder mounted; --run: run it"
    parser = add_command(commands, "docker", text)
    parser.add_argument("bids_dir", metavar="BIDS_DIR", help="as of qsmprep; the flags below come before it")
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="as of qsmprep")
    parser.add_argument("words", metavar="...", nargs=argparse.REMAINDER, help="all other arguments of qsmprep")
    parser.add_argument("--engine", choices=tuple(ENGINES), default="docker", help="what runs it (default: docker)")
    parser.add_argument("--image", metavar="NAME", help="default: qsmprep, with apptainer qsmprep.sif")
    parser.add_argument("--run", dest="do_run", action="store_true", help="run the command instead of showing it")
    parser.set_defaults(run=run_docker)


def run_docker(arguments: argparse.Namespace) -> int:
    """Show or run the command; the status is that of the run."""
    words = [arguments.bids_dir, arguments.output_dir, *arguments.words]
    mounts = find_mounts(words)
    made = [path for path, writable in mounts.items() if writable and not os.path.exists(path)]
    command = container_command(arguments.engine, arguments.image or ENGINES[arguments.engine], words, mounts)
    if not arguments.do_run:
        if made:
            print(f"{shlex.join(['mkdir', '-p', *made])} && \\")
        print(" \\\n    ".join(shlex.join(part) for part in command))
        return 0
    for path in made:
        Path(path).mkdir(parents=True)
    try:
        return subprocess.run([word for part in command for word in part], check=False).returncode
    except FileNotFoundError as error:
        text = f"There is no program {arguments.engine} here: install it, or choose another by --engine."
        raise FileNotFoundError(text) from error


class _NamedPath(str):
    """What was given for an argument that is a path."""


def find_mounts(words: Sequence[str]) -> dict[str, bool]:
    """The absolute paths that a command line of qsmprep names, and whether each is written.

    Those of the parser's path arguments are taken, and every other text that is the name of what exists, by itself or
    after NAME=. Exits as qsmprep does where the command line makes no sense.
    """
    parser, found = build_parser(), dict[str, bool]()
    for action in parser._actions:
        if action.type in (file_path, folder_path):
            action.type = _NamedPath  # as it was given: links keep their names inside
    given = vars(parser.read(words))
    for action in parser._actions:
        for word in _texts(given.get(action.dest)) if action.choices is None else ():
            path = os.path.abspath(word if isinstance(word, _NamedPath) else word.partition("=")[2] or word)
            if isinstance(word, _NamedPath) or os.path.exists(path):
                found[path] = found.get(path, False) or action.dest in WRITTEN
    cards = (os.path.splitext(path)[0] + ".json" for path in found if os.path.isfile(path))
    return dict(sorted(({card: False for card in cards if os.path.isfile(card)} | found).items()))  # folders first


def container_command(engine: str, image: str, words: Sequence[str], mounts: Mapping[str, bool]) -> list[list[str]]:
    """The command in parts that belong together, one a line.

    Raises
    ------
    ValueError : a path that no engine can be told of.
    """
    environment = _folders_of_variables(words)
    mounts = dict(sorted({**dict.fromkeys(environment.values(), False), **mounts}.items()))
    for path in mounts:
        if "," in path or ":" in path:
            raise ValueError(f"{path!r} has a comma or a colon, which stands for something else in mounts: rename it.")
    folder, gpu = os.getcwd(), "cuda" in words or "--device=cuda" in words
    variables = [["--env", f"{name}={value}"] for name, value in environment.items()]
    if engine == "apptainer":
        binds = [["--bind", f"{path}:{path}{'' if written else ':ro'}"] for path, written in mounts.items()]
        start = [["apptainer", "run", "--cleanenv", "--no-home", "--pwd", folder, *(["--nv"] if gpu else [])]]
    else:
        binds = [["--mount", f"type=bind,source={os.path.realpath(path)},target={path}{'' if written else ',readonly'}"]
                 for path, written in mounts.items()]  # fmt: skip
        start = [[engine, "run", "--rm", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}",
                  "--workdir", folder, *(["--gpus", "all"] if gpu else [])]]  # fmt: skip
        if engine == "podman":
            start += [["--userns", "keep-id", "--security-opt", "label=disable"]]
    return [*start, *variables, *binds, [image, *words]]


def _folders_of_variables(words: Sequence[str]) -> dict[str, str]:
    """Folders that variables name rather than words: networks, and templates where they are asked for."""
    found = {name: os.environ[name] for name in (WEIGHTS, TEMPLATES) if os.environ.get(name)}
    if any(word.replace("_", "-").startswith("--output-spaces") for word in words) and templateflow_home().is_dir():
        found[TEMPLATES] = str(templateflow_home())
    return {name: os.path.abspath(folder) for name, folder in found.items()}


def _texts(value: object) -> Iterator[str]:
    """The texts of an argument's value, which may be a list of lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
