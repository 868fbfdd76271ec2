"""The work folder: nothing that the program did not make is deleted, and nothing mixes."""

from pathlib import Path

import pytest

from qsmprep.app.request import Request
from qsmprep.app.work_folder import MARK, check_work_dir, graph_folder, prepare_work_dir
from qsmprep.engine.locking import locked_runs


@pytest.fixture
def ask(tmp_path):
    """A request with folders below one place."""

    def ask(work, out="out", bids="bids", clean=False):
        (tmp_path / bids).mkdir(parents=True, exist_ok=True)
        return Request(tmp_path / bids, tmp_path / out, tmp_path / work, clean_workdir=clean)

    return ask


def refused(request):
    with pytest.raises(ValueError) as caught:
        check_work_dir(request)
    assert str(request.work_dir) in str(caught.value)
    return str(caught.value)


def test_a_fresh_folder_is_marked_and_used_again(ask):
    request = ask("work")
    prepare_work_dir(request, ())
    (graph_folder(request.work_dir) / "sub_01").mkdir()
    check_work_dir(request)
    prepare_work_dir(request, ())
    assert (graph_folder(request.work_dir) / MARK).is_file() and (graph_folder(request.work_dir) / "sub_01").is_dir()
    assert [path.name for path in request.work_dir.iterdir()] == ["qsmprep"]


def test_emptying_takes_what_is_inside_the_marked_folder_and_nothing_beside_it(ask):
    request = ask("work", clean=True)
    prepare_work_dir(request, ())
    (graph_folder(request.work_dir) / "sub_01" / "node").mkdir(parents=True)
    (request.work_dir / "mine.txt").write_text("kept")
    prepare_work_dir(request, ())
    assert [path.name for path in graph_folder(request.work_dir).iterdir()] == [MARK]
    assert (request.work_dir / "mine.txt").read_text() == "kept"


def test_emptying_leaves_what_another_command_works_on(ask, caplog):
    request = ask("work", clean=True)
    prepare_work_dir(request, ())
    for name in ("sub_01", "sub_02", "sub_03"):
        (graph_folder(request.work_dir) / name).mkdir()
    with locked_runs(request.work_dir, ["sub_01", "sub_02"]):  # sub_01 is ours, sub_02 is not
        prepare_work_dir(request, ["sub_01"])
    assert sorted(path.name for path in graph_folder(request.work_dir).iterdir()) == [MARK, "sub_02"]
    assert "sub_02: another command works on it" in caplog.text


@pytest.mark.parametrize("clean", [False, True])
def test_a_folder_that_the_program_did_not_make_is_neither_used_nor_deleted(ask, clean):
    request = ask("work", clean=clean)
    (request.work_dir / "qsmprep").mkdir(parents=True)
    (request.work_dir / "qsmprep" / "thesis.tex").write_text("kept")
    assert "delete it yourself" in refused(request)
    with pytest.raises(ValueError, match="did not make it"):
        prepare_work_dir(request, ())
    assert (request.work_dir / "qsmprep" / "thesis.tex").read_text() == "kept"


def test_a_folder_whose_mark_was_purged_is_used_and_marked_again_but_not_emptied_unasked(ask):
    request = ask("work")
    prepare_work_dir(request, ())
    (graph_folder(request.work_dir) / "sub_01").mkdir()
    (graph_folder(request.work_dir) / "graph.json").write_text("{}")
    (graph_folder(request.work_dir) / MARK).unlink()
    assert "is not deleted" in refused(ask("work", clean=True))
    check_work_dir(request)
    prepare_work_dir(request, ())
    assert (graph_folder(request.work_dir) / MARK).is_file()


def test_a_link_in_its_place_is_not_followed(ask, tmp_path):
    request = ask("work", clean=True)
    request.work_dir.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (request.work_dir / "qsmprep").symlink_to(tmp_path / "elsewhere")
    assert "a link" in refused(request)


@pytest.mark.parametrize(
    ("work", "out", "bids", "needle"),
    [
        ("out", "out", "bids", "is the output folder"),
        ("x", "x/qsmprep", "bids", "as the output folder does"),
        ("x", "x/qsmprep/derivatives", "bids", "as the output folder does"),
        ("x", "out", "x/qsmprep", "as the dataset does"),
        ("bids/work", "out", "bids", "inside the dataset"),
        ("bids", "out", "bids", "inside the dataset"),
        ("out/sub-01", "out", "bids", "among the results"),
    ],
)
def test_a_work_folder_that_would_mix_is_refused(work, out, bids, needle, ask):
    assert needle in refused(ask(work, out, bids))


def test_a_file_in_its_place_is_refused(ask, tmp_path):
    (tmp_path / "work").write_text("")
    assert "is no folder" in refused(ask("work"))


def test_the_default_beside_results_is_fine(ask):
    check_work_dir(ask("out/work"))
    assert isinstance(ask("work").work_dir, Path)
