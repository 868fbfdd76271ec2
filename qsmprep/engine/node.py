"""A node of a graph whose result is a file of JSON that vouches for every file the node left.

nipype keeps results as pickles, which run code when they are read, and takes a node for done when they exist. Here the
last thing a node does is to write `result.json`: what it gave, what it was given (a hash), and size, time and SHA-256
of each of its files. An earlier result is used only if all of that still holds; otherwise the node is computed again.
Nothing in the folder of a node is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nipype import config as nipype_config
from nipype.interfaces.base import InterfaceResult, Undefined, isdefined, traits
from nipype.pipeline import engine
from nipype.pipeline.engine.nodes import NodeExecutionError
from nipype.pipeline.engine.utils import evaluate_connect_function, merge_dict

from qsmprep.files.whole_file import whole_file

logger = logging.getLogger("qsmprep.engine")

RESULT_FILE = "result.json"
FORMAT = 1
LARGEST = 64 << 20  # bytes of a result; those of today have a few thousand
# Of 100 MB, on one core: SHA-256 0.08 s, BLAKE2b 0.17 s, CRC-32 0.03 s. All find a bit that flipped; two files of one
# SHA-256 are one file, so that a node computed again may hand on what was made from its earlier files.
CHECKSUM = "sha256"


class Damaged(ValueError):
    """An earlier result that cannot be used; says what is wrong with it."""


@dataclass(frozen=True)
class Result:
    """What a node left in its folder.

    Attributes
    ----------
    key : hash of the node's inputs.
    outputs : value of each output that is defined.
    files : of each file in the folder that an output names: size in bytes, time of change in ns, checksum.
    """

    key: str
    outputs: Mapping[str, Any]
    files: Mapping[str, tuple[int, int, str]]


class Node(engine.Node):
    """nipype's node, with results that cannot execute and are checked before they are used."""

    _usable: bool | None = None
    config: dict[str, Any] | None
    _got_inputs: bool

    @property
    def result(self) -> InterfaceResult:
        """What the node gave; without outputs where it has given nothing that can be read."""
        try:
            values = read_result(Path(self.output_dir())).outputs
        except (Damaged, FileNotFoundError):
            return InterfaceResult(type(self.interface), None)
        outputs = self.interface._outputs()
        if outputs is not None:
            outputs.trait_set(**values)
        return InterfaceResult(type(self.interface), None, outputs=outputs)

    def is_cached(self, rm_outdated: bool = False) -> tuple[bool, bool]:
        """Twice whether the result of an earlier run can be used; damage is told in one line."""
        if self._usable is None:
            self._usable = self._can_be_used()
        return self._usable, self._usable

    def run(self, updatehash: bool = False) -> InterfaceResult:
        """Compute the node in its folder, unless an earlier result can be used.

        Raises NodeExecutionError with the traceback of what went wrong. `updatehash`, by which nipype declares a result
        valid for other inputs, is not followed.
        """
        self.config = merge_dict(deepcopy(nipype_config._sections), self.config or {})
        forced = self.overwrite or (self.overwrite is None and self.interface.always_run)
        if not forced and self.is_cached()[0]:
            return self.result
        folder = Path(self.output_dir())
        _, key = self._get_hashval()
        earlier = _earlier(folder)
        self._usable = None
        _make_empty(folder)
        self._copyfiles_to_wd(execute=True)
        logger.debug("%s begins in %s.", self.fullname, folder)
        result = self.interface.run(cwd=folder, ignore_exception=True)
        if traceback := getattr(result.runtime, "traceback", None):
            raise NodeExecutionError(_failure(self.name, result.runtime, traceback))
        outputs = _plain_outputs(self, result.outputs)
        # What a node always does again need not be vouched for.
        files = {} if forced else {name: _state(folder / name) for name in _inside(folder, outputs)}
        write_result(folder, Result(key, outputs, _as_before(folder, files, earlier)))
        return result

    def _can_be_used(self) -> bool:
        folder = Path(self.output_dir())
        try:
            result = read_result(folder)
        except FileNotFoundError:
            logger.debug("%s was not finished before.", self.fullname)
            return False
        except Damaged as damage:
            self._tell(damage)
            return False
        _, key = self._get_hashval()
        if result.key != key:
            logger.info("%s: its inputs or its code have changed; computed again.", self.fullname)
            return False
        try:
            check_files(folder, result)
        except Damaged as damage:
            self._tell(damage)
            return False
        return True

    def _tell(self, damage: Damaged) -> None:
        logger.warning("%s: %s; computed again.", self.fullname, damage)

    def _get_inputs(self) -> None:
        """Take the connected inputs from the results of the nodes before."""
        if self._got_inputs:
            return
        read: dict[Path, Mapping[str, Any]] = {}
        for name, (source, what) in self.input_source.items():
            folder = Path(source).parent
            if folder not in read:
                try:
                    read[folder] = read_result(folder).outputs
                except (Damaged, FileNotFoundError) as error:
                    raise NodeExecutionError(
                        f"{folder}: the result of the step before {self.fullname} cannot be read ({error}). Was the "
                        "work folder cleaned while the run went on? Run the same command again."
                    ) from None
            output = what[0] if isinstance(what, tuple) else what
            value = deepcopy(read[folder].get(output, Undefined))
            if isinstance(what, tuple) and isdefined(value):
                value = evaluate_connect_function(what[1], what[2], value)
            try:
                self.set_input(name, value)
            except traits.TraitError as error:
                raise NodeExecutionError(f"{self.fullname}: input {name!r} cannot be {value!r} ({error}).") from None
        self._got_inputs = True


def read_result(folder: Path) -> Result:
    """The result in a node's folder. FileNotFoundError where there is none, Damaged where it is no result of ours."""
    path = Path(folder) / RESULT_FILE
    try:
        there = os.stat(path)
        if not stat.S_ISREG(there.st_mode) or there.st_size > LARGEST:
            raise Damaged(f"{RESULT_FILE} is no file of at most {LARGEST >> 20} MB")
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise Damaged(f"{RESULT_FILE} has format {document['format']!r}, which this version does not read")
        if document["folder"] != os.path.realpath(folder):
            raise Damaged(f"{RESULT_FILE} is that of another folder, {document['folder']}")
        files = {str(name): (int(size), int(time), str(sum_)) for name, (size, time, sum_) in document["files"].items()}
        outputs = document["outputs"]
        if not isinstance(outputs, dict):
            raise TypeError
        return Result(str(document["key"]), outputs, files)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} is missing") from None
    except Damaged:
        raise
    except OSError as error:
        raise Damaged(f"{RESULT_FILE} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged(f"{RESULT_FILE} is damaged") from None


def write_result(folder: Path, result: Result) -> None:
    """Write a node's result whole."""
    document = {
        "format": FORMAT,
        "folder": os.path.realpath(folder),
        "key": result.key,
        "outputs": dict(result.outputs),
        "files": {name: list(state) for name, state in result.files.items()},
    }
    with whole_file(folder / RESULT_FILE) as stream:
        stream.write(json.dumps(document, indent=1).encode("ascii"))


def check_files(folder: Path, result: Result) -> None:
    """Damaged unless every file of a result is there as it was left: first sizes and times, then checksums."""
    for name, (size, time, _) in result.files.items():
        path = Path(folder) / name
        try:
            there = os.stat(path)
        except OSError:
            raise Damaged(f"{name} is gone") from None
        if there.st_size != size:
            raise Damaged(f"{name} has {there.st_size} bytes instead of {size}")
        if there.st_mtime_ns != time:
            raise Damaged(f"{name} was changed after it was made")
    for name, (_, _, checksum) in result.files.items():
        try:
            found = _checksum(Path(folder) / name)
        except OSError as error:
            raise Damaged(f"{name} cannot be read ({error.strerror})") from None
        if found != checksum:
            raise Damaged(f"{name} is not as it was written (its checksum differs)")


def damage_of(folder: Path) -> str:
    """What is wrong with the result in a node's folder, in words; empty for one that is whole."""
    try:
        check_files(folder, read_result(folder))
    except (Damaged, FileNotFoundError) as error:
        return str(error)
    return ""


def _earlier(folder: Path) -> Result | None:
    """The result of an earlier run, of whatever inputs and whatever became of its files."""
    try:
        return read_result(folder)
    except (Damaged, FileNotFoundError):
        return None


def _as_before(
    folder: Path, files: Mapping[str, tuple[int, int, str]], earlier: Result | None
) -> dict[str, tuple[int, int, str]]:
    """Give files that came out as before their earlier time, so that what was made from them stays valid."""
    dated = {}
    for name, (size, time, checksum) in files.items():
        before = earlier.files.get(name) if earlier else None
        if before and (before[0], before[2]) == (size, checksum):
            os.utime(folder / name, ns=(before[1], before[1]))
            time = os.stat(folder / name).st_mtime_ns
        dated[name] = (size, time, checksum)
    return dated


def _make_empty(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _state(path: Path) -> tuple[int, int, str]:
    checksum = _checksum(path)
    there = os.stat(path)
    return there.st_size, there.st_mtime_ns, checksum


def _checksum(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, CHECKSUM).hexdigest()


def _inside(folder: Path, outputs: Mapping[str, Any]) -> list[str]:
    """Names of the files in a folder that outputs name; others belong to the node that made them."""
    root = os.path.realpath(folder)
    found = (os.path.relpath(os.path.realpath(word), root) for word in _words(outputs) if os.path.isfile(word))
    return sorted({name for name in found if not name.startswith(os.pardir)})


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if os.path.isabs(value) and "\0" not in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def _plain_outputs(node: Node, outputs: Any) -> dict[str, Any]:
    """Outputs that are defined, of what JSON knows. TypeError for any other."""
    values = {} if outputs is None else outputs.trait_get() if hasattr(outputs, "trait_get") else outputs.dictcopy()
    plain = {}
    for name, value in values.items():
        if isdefined(value):
            try:
                plain[name] = _plain(value)
            except TypeError as error:
                raise TypeError(f"{node.fullname}: output {name!r} cannot be kept: {error}") from None
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"a result of type {type(value).__name__} is not what JSON knows")


def _failure(name: str, runtime: Any, traceback: str) -> str:
    """The text of nipype's own exception: what a program said, and at the end the indented traceback."""

    def indented(text: str) -> str:
        return "".join(f"\t{line}" for line in (text or "").splitlines(keepends=True))

    said = ""
    if hasattr(runtime, "cmdline"):
        said = (
            f"Cmdline:\n{indented(runtime.cmdline)}\nStdout:\n{indented(runtime.stdout)}\n"
            f"Stderr:\n{indented(runtime.stderr)}\n"
        )
    return f"Exception raised while executing Node {name}.\n\n{said}Traceback:\n{indented(traceback)}"
