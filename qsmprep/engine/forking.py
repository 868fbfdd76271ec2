"""The server that the nodes' processes are forked from: a process that has loaded the heavy modules already."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qsmprep.engine import server
from qsmprep.engine.session import private_folder

PRELOAD = (
    "numpy",
    "scipy.fft",
    "scipy.ndimage",
    "nibabel",
    "numba",
    "nipype.pipeline.engine",
    "networkx",
    "qsmprep.engine.pool",
)


def warm_up(preload: tuple[str, ...] = ()) -> None:
    """Start the server the nodes' processes are forked from; it loads modules while this process goes on.

    It loads PRELOAD, every module of qsmprep that this process has loaded so far, and `preload`.
    """
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    # A thread pool of BLAS in every small process costs more than it brings: the heavy loops are not BLAS.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    loaded = sorted(name for name in sys.modules if name.startswith("qsmprep.") and name != server.__name__)
    modules = [server.__name__, *PRELOAD, *loaded, *_main_package(), *preload]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with imports_of_this_process():
        multiprocessing.forkserver.ensure_running()


@contextmanager
def imports_of_this_process() -> Iterator[None]:
    """Let the processes started inside import what this one imports, and end with it.

    Python starts them by `python -c`, which looks into the current folder before anywhere else, and the server loads
    its modules before it is told where this process looks. Ctrl-C is for this process alone.
    """
    folder = private_folder()
    multiprocessing.current_process()._config["tempdir"] = str(folder)  # type: ignore[attr-defined]  # of the socket
    places = [os.path.abspath(place or multiprocessing.process.ORIGINAL_DIR) for place in sys.path]  # type: ignore[attr-defined]
    inside = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(place for place in places if os.pathsep not in place),
    }
    before = {name: os.environ.get(name) for name in (*inside, "PYTHONWARNINGS")}
    # Semaphores of processes that were ended are cleaned up without a word.
    quiet = "ignore:resource_tracker:UserWarning"
    inside["PYTHONWARNINGS"] = ",".join(filter(None, (before["PYTHONWARNINGS"], quiet)))
    watch = threading.current_thread() is threading.main_thread()
    inside[server.TOLD] = server.message(folder, before, watch)
    os.environ.update(inside)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        multiprocessing.resource_tracker.ensure_running()  # which unblocks Ctrl-C at its end, so that it comes first
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        del os.environ[server.TOLD]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _main_package() -> list[str]:
    """The package run by `python -m`, which every process imports before its work."""
    name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
    return [name.partition(".")[0]] if name else []
