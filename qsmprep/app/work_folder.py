"""The work folder: where it may lie, the mark by which the program knows its own, and how it is emptied."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qsmprep.app.request import Request
from qsmprep.engine.locking import is_held
from qsmprep.files.storage import storage_message

logger = logging.getLogger("qsmprep")

GRAPH_NAME = "qsmprep"  # the folder of intermediate files inside the work folder
MARK = ".qsmprep-work"
DRAWINGS = ("d3.js", "graph.json", "graph1.json", "index.html")  # of the graph, by nipype
MARK_TEXT = "Intermediate files of qsmprep. --clean-workdir deletes the folder that this file lies in.\n"


def graph_folder(work_dir: Path) -> Path:
    """Where the intermediate files of a work folder lie."""
    return work_dir / GRAPH_NAME


def check_work_dir(request: Request) -> None:
    """Refuse a work folder whose files would mix with the dataset or the results. Nothing is written.

    Raises
    ------
    ValueError : with what is wrong and the remedy.
    """
    work, output, raw = request.work_dir, request.output_dir, request.bids_dir
    graph, flag = graph_folder(work), f"--work-dir {work}"
    if work.exists() and not work.is_dir():
        raise ValueError(f"{flag} is no folder. Choose another one.")
    if _is_inside(work, raw):
        raise ValueError(f"{flag} lies inside the dataset. Choose a folder outside of it.")
    if work == output:
        raise ValueError(f"{flag} is the output folder. Choose another one, beside it.")
    for folder, what in ((output, "output folder"), (raw, "dataset")):
        if _is_inside(folder, graph):
            raise ValueError(f"{flag}: intermediate files would lie in {graph}, as the {what} does ({folder}). "
                             "Choose another work folder.")  # fmt: skip
    if _is_inside(work, output) and work.relative_to(output).parts[0].startswith(("sub-", "logs")):
        raise ValueError(f"{flag} lies among the results. Choose a folder outside of them.")
    _check_own(graph, clean=request.clean_workdir)
    there = next(folder for folder in (work, *work.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"--work-dir {storage_message(error, there)}") from None


def prepare_work_dir(request: Request, ours: Sequence[str]) -> None:
    """Make the folder of intermediate files, with the mark; empty it first where --clean-workdir asks for it.

    What another command works on at the moment is left there; `ours` are the runs that this one holds.

    Raises
    ------
    ValueError : there is such a folder that does not bear the mark.
    OSError : it cannot be made or emptied.
    """
    graph = graph_folder(request.work_dir)
    _check_own(graph, clean=request.clean_workdir)
    if request.clean_workdir and graph.is_dir():
        _empty(graph, request.work_dir, ours)
    request.work_dir.mkdir(parents=True, exist_ok=True)
    if graph.is_dir():
        (graph / MARK).write_text(MARK_TEXT, "utf-8")  # also anew, as clusters purge by age
        return
    # Made aside and renamed, so that no other process ever sees it without its mark.
    aside = Path(tempfile.mkdtemp(prefix=f".{GRAPH_NAME}-", dir=request.work_dir))
    try:
        aside.chmod(0o777 & ~_umask())
        (aside / MARK).write_text(MARK_TEXT, "utf-8")
        os.rename(aside, graph)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not (graph / MARK).is_file():  # else another process was faster
            raise


def _empty(graph: Path, work_dir: Path, ours: Sequence[str]) -> None:
    for path in sorted(graph.iterdir()):
        if path.name == MARK:
            continue
        if path.name not in ours and is_held(work_dir, path.name):
            logger.warning("--clean-workdir leaves %s: another command works on it.", path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_own(graph: Path, *, clean: bool) -> None:
    """Refuse a folder in the place of ours that the program did not make."""
    if not os.path.lexists(graph):
        return
    if graph.is_symlink() or not graph.is_dir():
        what = "a link" if graph.is_symlink() else "no folder"
        raise ValueError(f"{graph} is {what}, and intermediate files go there. Choose another --work-dir.")
    if (graph / MARK).is_file() or not any(graph.iterdir()):
        return
    if not clean and all(_is_of_a_graph(path) for path in graph.iterdir()):  # a cluster purged the mark
        return
    act = "is not deleted" if clean else "is not used"
    raise ValueError(f"{graph} {act}: qsmprep did not make it as a folder of intermediate files (it lacks {MARK}). "
                     "Choose another --work-dir; if nothing in it is needed, delete it yourself.")  # fmt: skip


def _is_of_a_graph(path: Path) -> bool:
    """Whether something is as the graph leaves it: the folder of a run, or a drawing."""
    return path.name in DRAWINGS or (path.name.startswith("sub_") and path.is_dir() and not path.is_symlink())


def _is_inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
