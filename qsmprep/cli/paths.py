"""Paths of a command line, resolved once: whatever form they are given in, the rest of the program sees one."""

from __future__ import annotations

import argparse
from pathlib import Path


def folder_path(word: str) -> Path:
    """The absolute path of a folder: `~` is the home, `..` and symbolic links are followed.

    Raises
    ------
    argparse.ArgumentTypeError : a path that cannot exist, or a home folder that is not known.
    """
    try:
        return Path(word).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(_message(word, error)) from None


def file_path(word: str) -> Path:
    """The absolute path of a file under the name that it was given: a link's own name tells more than its target's.

    Raises
    ------
    argparse.ArgumentTypeError : as `folder_path`.
    """
    try:
        path = Path(word).expanduser()
        return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(_message(word, error)) from None


def _message(word: str, error: Exception) -> str:
    return f"{word!r} is no usable path ({error}); give it from the root, as /data/bids"
