"""`qsmprep-tools view` as a person starts and ends it."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from qsmprep.cli.tools import main
from qsmprep.cli.view import check_folder


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "sub-01.html").write_text("<p>report of sub-01")
    return folder


def start(out, *options):
    """The program as a process, and the address that it printed."""
    code = "import sys; from qsmprep.cli.tools import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "view", str(out), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", process.stdout.readline())[0]


def test_it_serves_until_ctrl_c_and_ends_cleanly(out):
    process, url = start(out, "--port", "0")
    try:
        page = urllib.request.urlopen(url, timeout=20).read().decode()
        assert "sub-01.html" in page
        idle = socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])), 10)  # must not hold it up
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
        idle.close()
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port_is_named_with_the_way_out(out, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(out), "--port", str(port), "--no-browser"]) == 1
    told = capsys.readouterr().err
    assert f"Port {port}" in told and "is in use" in told and "--port" in told


@pytest.mark.parametrize(
    ("name", "told"), [("nowhere", "does not exist"), ("file", "is no folder"), ("empty", "no results")]
)
def test_what_is_no_output_folder_is_refused(tmp_path, capsys, name, told):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert main(["view", str(tmp_path / name), "--no-browser"]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http", "1.5"])
def test_a_port_is_a_number(out, port, capsys):
    with pytest.raises(SystemExit):
        main(["view", str(out), "--port", port])
    assert "is no port" in capsys.readouterr().err


def test_a_group_report_alone_is_enough(tmp_path):
    (tmp_path / "group.html").touch()
    check_folder(tmp_path)


def test_in_a_container_it_listens_on_all_addresses_with_its_key_all_the_same(out):
    process, url = start(out, "--port", "0", "--host", "0.0.0.0")
    try:
        assert "sub-01.html" in urllib.request.urlopen(url, timeout=20).read().decode()
        place = url.split("/")[2]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://{place}/", timeout=20)
        foreign = urllib.request.Request(url, headers={"Host": "example.org"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(foreign, timeout=20)
        table = Path("/proc/net/tcp").read_text()
        assert f"00000000:{int(place.split(':')[1]):04X}" in table
    finally:
        process.kill()
        process.communicate()


def test_an_address_that_is_none_is_refused(out, capsys):
    with pytest.raises(SystemExit):
        main(["view", str(out), "--host", "everywhere"])
    assert "0.0.0.0 in a container" in capsys.readouterr().err
