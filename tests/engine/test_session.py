"""A program finds a home and caches wherever it is started."""

import errno
import json
import os
import subprocess
import sys

import pytest

from qsmprep.engine import session

CACHED = """
import json, os, sys
from qsmprep.engine.session import settle
os.access = lambda path, mode: not any(str(path).startswith(word) for word in {locked!r})
settle()
folder = os.environ.get("NUMBA_CACHE_DIR", "")
found = {{name: os.path.islink(os.path.join(parent, name)) for parent, _, names in os.walk(folder) for name in names}}
print(json.dumps({{"folder": folder, "files": found, "mode": oct(os.stat(folder).st_mode)[-3:] if folder else ""}}))
"""


def settled(locked, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CACHED.format(locked=[str(path) for path in locked])],
        capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache" / "unwrap_0a1b"
    folder.mkdir(parents=True)
    (folder / "grow-93.py311.nbi").write_bytes(b"index")
    return tmp_path / "cache"


def test_compiled_code_that_cannot_be_written_is_seen_through_links(cache, tmp_path):
    found, told = settled([cache], HOME=str(tmp_path), NUMBA_CACHE_DIR=str(cache))
    assert found["folder"] != str(cache) and found["files"] == {"grow-93.py311.nbi": True}
    assert not os.path.exists(found["folder"]), "the links end with the program"
    assert told == ""


def test_a_cache_that_can_be_written_is_left_alone(cache, tmp_path):
    found, _ = settled([], HOME=str(tmp_path), NUMBA_CACHE_DIR=str(cache))
    assert found["folder"] == str(cache)


def test_where_no_cache_can_be_written_the_processes_of_a_run_share_one(tmp_path):
    package = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["qsmprep"].__file__)))
    found, _ = settled([tmp_path, package], HOME=str(tmp_path))
    assert found["folder"].endswith("numba_cache_dir") and found["files"] == {}


def test_without_any_folder_to_write_the_loss_is_told(cache, monkeypatch, capsys):
    def full():
        raise OSError(errno.EROFS, "Read-only file system", "/tmp")

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    monkeypatch.setattr(session, "private_folder", full)
    monkeypatch.setattr(session.os, "access", lambda path, mode: not str(path).startswith(str(cache)))
    session.settle()
    assert os.environ["NUMBA_CACHE_DIR"] == str(cache)
    assert f"{cache} is of no use here (Read-only file system: /tmp)" in capsys.readouterr().err
