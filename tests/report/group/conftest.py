import pytest
from group_study import ROOT, draw_maps, load

from qsmprep.bids.group import read_study
from qsmprep.report.group.files import write_group_report


@pytest.fixture(scope="module")
def make_study():
    return load(ROOT / "benchmarks" / "group.py").write_study


@pytest.fixture(scope="module")
def whole(make_study, tmp_path_factory):
    """Thirty made-up subjects, some with two sessions, with what was planted, as read and written."""
    folder = tmp_path_factory.mktemp("group")
    planted = make_study(folder / "bids", folder / "out", subjects=30)
    draw_maps(folder / "out")
    study = read_study(folder / "out", folder / "bids")
    return folder / "out", planted, write_group_report(folder / "out", study)


@pytest.fixture
def small(make_study, tmp_path):
    """Six subjects to be spoiled."""
    make_study(tmp_path / "bids", tmp_path / "out", subjects=6)
    return tmp_path / "bids", tmp_path / "out"
