"""Small files of others: what is none, too large or not what it says is told by name, and never waited for."""

from __future__ import annotations

import json
import math
import os
import socket

import pytest

from qsmprep.bids.reading import UnreadableFileError, read_bytes, read_json_object, read_text_file


def folder(path):
    path.mkdir()


def pipe(path):
    os.mkfifo(path)


def listener(path):
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(str(path))


def link_to(target):
    return lambda path: path.symlink_to(target)


def text(content):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sparse(path):
    with path.open("wb") as file:
        file.truncate(8 * 2**30)


REFUSED = {
    "folder": (folder, "a folder, where a file is needed"),
    "pipe": (pipe, "a named pipe"),
    "socket": (listener, "a socket"),
    "zero": (link_to("/dev/zero"), "a device"),
    "random": (link_to("/dev/urandom"), "a device"),
    "lost link": (link_to("../annex/none"), "Fetch or restore the data."),
    "circle": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "nothing there": (lambda path: None, "does not exist"),
    "large": (sparse, "more than 10 MiB"),
    "Latin-1": (text(b'{"a": "M\xfcnchen"}'), "Save it as UTF-8."),
    "cut": (text("{"), "not a readable JSON"),
    "list": (text("[1]"), "no object"),
    "deep": (text('{"a":' * 1000 + "1" + "}" * 1000), "deep"),
    "deeper": (text("[" * 10**6), "deep"),
    "not so deep": (text('{"a":' * 65 + "1" + "}" * 65), "deep"),
    "half a surrogate": (text(r'{"a": ["\ud800"]}'), r"\ud800"),
    "half a surrogate as key": (text(r'{"\udfff": 1}'), r"\udfff"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_json_object_is_refused_at_once_by_name(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make, words = REFUSED[kind]
    path = tmp_path / "sidecar.json"
    make(path if kind != "socket" else path.relative_to(tmp_path))
    with pytest.raises(UnreadableFileError) as caught:
        read_json_object(path)
    assert str(path) in str(caught.value) and words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_too_long_for_a_double_is_infinite_and_spoils_no_other_key(tmp_path, digits):
    (tmp_path / "a.json").write_text(f'{{"long": {"9" * digits}, "b": 2}}')
    document = read_json_object(tmp_path / "a.json")
    assert math.isinf(document["long"]) and document["b"] == 2


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": "ü"}).encode())
    assert read_json_object(tmp_path / "a.json") == {"a": "ü"}
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\n")
    assert read_text_file(tmp_path / "a.txt") == "a\n"


def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_not(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert len(read_bytes(tmp_path / "a", limit_bytes=100)) == 100
    with pytest.raises(UnreadableFileError, match="more than"):
        read_bytes(tmp_path / "a", limit_bytes=99)


def test_a_name_with_a_zero_byte_is_a_file_that_cannot_be_read():
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_bytes("a\0b")
