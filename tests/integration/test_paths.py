"""The folders of a command line in every form that a shell accepts: the same results, and each is seen to its end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset below a folder of an entity's name, a link to it, and a home."""
    place = tmp_path_factory.mktemp("paths") / "run-3"
    simulate(place / "data" / "bids", SimulationOptions(voxel_size="6"))
    (place / "here").mkdir()
    (place / "link").symlink_to(place / "data")
    return place


@pytest.mark.parametrize(
    ("bids", "out", "work"),
    [
        ("../data/bids", "../out", "../work"),
        ("../link/bids", "../link/../out", "../here/../work"),
        ("../data/bids/", "../out/", "../work/"),
        ("~/data/bids", "~/out", "~/work"),
        ("../here/../link/bids/sub-01/..", "./../out", ".././work"),
    ],
)
def test_the_whole_command_with_each_form_of_a_path(bids, out, work, place):
    words = [bids, out, "participant", "-w", work, "--pipeline", "fast", "--skip-bids-validation"]
    home = dict(os.environ, HOME=str(place))
    # As a shell does where a word begins with ~ and where, in --flag=~/x, it does not.
    done = subprocess.run(
        [sys.executable, "-m", "qsmprep.cli.run", *words], cwd=place / "here", env=home, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (place / "out" / "sub-01" / "figures" / "sub-01_record.json").is_file()
    assert f"Report: {place / 'out' / 'sub-01.html'}" in done.stdout
    assert not list((place / "here").iterdir()), "something was written to the current folder"
