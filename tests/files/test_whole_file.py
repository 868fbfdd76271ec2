"""Files are whole or not there: with one process number for all, killed writers, long names, any umask."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from qsmprep.files.whole_file import remove_leftovers, remove_leftovers_below, whole_file


def write(path, content):
    with whole_file(path) as stream:
        for byte in content:
            stream.write(bytes([byte]))
            stream.flush()


def test_writers_of_one_process_number_do_not_meet(tmp_path):
    # as in two containers, where both are process 1: here two threads share the number
    with ThreadPoolExecutor(8) as pool:
        contents = [bytes([i]) * 200 for i in range(40)]
        for done in [pool.submit(write, tmp_path / "x.json", content) for content in contents]:
            done.result()
    assert (tmp_path / "x.json").read_bytes() in contents
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "x", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask


def test_the_longest_name_can_be_written(tmp_path):
    write(tmp_path / ("n" * 255), b"1")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"1"


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path):
    write(tmp_path / "x", b"old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "x") as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"old"


WRITE = """
import sys
from qsmprep.files.whole_file import whole_file
with whole_file(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    print("begun", flush=True)
    input()
"""


def test_what_a_killed_writer_left_goes_with_the_next_writing_and_a_living_one_is_left_alone(tmp_path):
    command = [sys.executable, "-c", WRITE, str(tmp_path / "x")]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == b"begun\n"
    dead, living = writers
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert len(list(tmp_path.glob(".x.*.part"))) == 2
    write(tmp_path / "y", b"1")
    assert len(list(tmp_path.glob(".x.*.part"))) == 1
    living.communicate(b"\n")
    assert living.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["x", "y"] and (tmp_path / "x").read_bytes() == b"half"


def test_leftovers_in_folders_of_folders_are_removed(tmp_path):
    deep = tmp_path / "sub-01" / "anat"
    deep.mkdir(parents=True)
    left = deep / f".map.nii.{'0' * 16}.part"
    left.touch()
    with whole_file(tmp_path / "sub-01" / "other.nii"):
        (living,) = (tmp_path / "sub-01").glob(".*.part")
        remove_leftovers_below([tmp_path, tmp_path / "not there"])
        assert living.exists() and not left.exists()


def test_files_that_only_look_like_leftovers_stay(tmp_path):
    for name in (".x.12.part", "x.0123456789abcdef.part", ".x.0123456789abcdef.parts"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / ".x.0123456789abcdef.part")
    remove_leftovers(tmp_path)
    assert {".x.12.part", "x.0123456789abcdef.part", ".x.0123456789abcdef.parts"} <= set(os.listdir(tmp_path))


def test_a_reader_sees_whole_files_while_eight_processes_write(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom qsmprep.bids.outputs import write_json\n"
        "for i in range(40): write_json(Path(sys.argv[1]), {'by': sys.argv[2], 'text': sys.argv[2] * (i * 997)})"
    )
    path = tmp_path / "dataset_description.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(i)]) for i in range(8)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            document = json.loads(path.read_text())
            seen.add(document["by"])
            assert set(document["text"]) <= {document["by"]}
    assert [writer.returncode for writer in writers] == [0] * 8 and seen
    assert os.listdir(tmp_path) == [path.name]
