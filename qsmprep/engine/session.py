"""What a program needs of its surroundings, settled before anything heavy is loaded: a home, and a folder of its own.

Some libraries fail or complain where there is no home folder that can be written, as in a container run under a user
number that nobody knows. They get a private folder then, which ends with the program.

numba and matplotlib use a cache only where they may write it. One that came with the program and cannot be written, as
in a container, they see through a private folder of links: what they write there ends with the program too.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from qsmprep.files.locks import Lock, is_at, lock

PREFIX = "qsmprep-private-"
LONGEST_SOCKET_FOLDER = 80  # characters: the name of a socket ends at 107


@cache
def private_folder() -> Path:
    """A folder of this process and its workers alone, made when first asked for and removed at the end.

    Those that killed processes of this user left are removed first: nobody holds their locks.
    """
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > LONGEST_SOCKET_FOLDER - len(PREFIX) and os.access("/tmp", os.W_OK):
        parent = Path("/tmp")
    remove_abandoned(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # held until the process ends
        if lock(descriptor) is not Lock.ANOTHERS and is_at(descriptor, folder):
            atexit.register(_remove, folder, os.getpid())
            return folder
        os.close(descriptor)


def remove_abandoned(parent: Path) -> None:
    """Remove the private folders of this user whose processes are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.getuid() and lock(descriptor) is Lock.OURS:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def settle() -> None:
    """Give libraries a home and a folder for their settings where the user's cannot be found or written."""
    home = _home()
    if home is None:
        os.environ["HOME"] = str(private_folder())
    given = os.environ.get("MPLCONFIGDIR")
    settings = (
        [given] if given else [_user_folder("XDG_CONFIG_HOME", ".config"), _user_folder("XDG_CACHE_HOME", ".cache")]
    )
    if not all(_can_be_written(Path(folder)) for folder in settings):
        _see_through_links("MPLCONFIGDIR", given)
    if not os.environ.get("NUMBA_CPU_NAME", "given"):  # empty, as a container's may be made: for this processor
        del os.environ["NUMBA_CPU_NAME"]
    given = os.environ.get("NUMBA_CACHE_DIR")
    compiled = [given] if given else [Path(__file__).parents[1], _user_folder("XDG_CACHE_HOME", ".cache")]
    if not any(_can_be_written(Path(folder)) for folder in compiled):
        _see_through_links("NUMBA_CACHE_DIR", given)


def _see_through_links(variable: str, cache: str | None) -> None:
    """Let the variable name a private folder that holds links to the files of `cache`, if there is any."""
    try:
        folder = private_folder() / variable.lower()
        folder.mkdir(exist_ok=True)
        for parent, _, names in os.walk(cache or folder):
            place = folder / os.path.relpath(parent, cache or folder)
            place.mkdir(exist_ok=True)
            for name in names:
                (place / name).symlink_to(Path(parent, name).absolute())
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or tempfile.tempdir}"
        text = (
            f"qsmprep: {cache or 'compiled code'} is of no use here ({reason}), which costs time: let /tmp be written."
        )
        print(text, file=sys.stderr)
        return
    os.environ[variable] = str(folder)


def _home() -> Path | None:
    """The user's home as Python finds it; None where it is not told or is no absolute path."""
    home = os.environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if os.path.isabs(home) else None


def _user_folder(variable: str, name: str) -> Path:
    """A folder of the user's settings or caches: that of the variable, else the one of that name in the home."""
    home = _home()
    return Path(os.environ.get(variable) or (home if home is not None else Path(os.environ["HOME"])) / name)


def _can_be_written(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that exists, can be written."""
    for place in (folder, *folder.parents):
        if place.exists() or place.is_symlink():
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process forked from it
        shutil.rmtree(folder, ignore_errors=True)
