"""What happens inside the process of one node."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, parent_process
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype import config as nipype_config

import qsmprep
from qsmprep.engine.iterations import Iterations, told_to
from qsmprep.engine.share import Share
from qsmprep.files.whole_file import whole_file
from qsmprep.numerics.threads import use_threads

LOGGERS = ("", "nipype", "nipype.workflow", "nipype.interface", "nipype.utils", "nipype.filemanip", "qsmprep")


@dataclass(frozen=True)
class NodeOutcome:
    """How a node ended: no traceback if well; wall seconds; peak resident memory in GiB."""

    traceback: tuple[str, ...]
    seconds: float
    peak_gb: float


def log_levels() -> dict[str, int]:
    """Levels in force in this process, to be used in the node's process too."""
    return {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}


def run_node(pipe: connection.Connection, payload: bytes, share: Share, levels: dict[str, int], package: str) -> None:
    """Run a pickled (node, updatehash) and send log records and iterations, then the Outcome, through the pipe.

    `package` is the file of the main process's qsmprep; a node is not run by the code of another.
    """
    _be_a_good_child()
    if share.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = share.gpu  # CUDA has not begun: neither here nor in the server
    handler = PipeHandler(pipe)
    _redirect_logging(handler, levels)
    started = time.perf_counter()
    traceback: tuple[str, ...] = ()
    try:
        if qsmprep.__file__ != package:
            raise ImportError(f"The main process runs {package}, the process of this node {qsmprep.__file__}.")
        node, updatehash = pickle.loads(payload)
        nipype_config.update_config(node.config)
        if hasattr(node.inputs, "num_threads"):
            node.inputs.num_threads = share.threads
        with use_threads(share.threads), told_to(handler.offer):
            node.run(updatehash=updatehash)
    except BaseException:
        traceback = tuple(format_exception(*sys.exc_info()))
    with suppress(OSError):  # the main process is gone
        handler.send(NodeOutcome(traceback, time.perf_counter() - started, peak_memory_gb()))


def run_file(path: str) -> int:
    """Run the pickled (node, updatehash) of a file as a job, and tell beside it how it ended. The exit status.

    The file lies in the work folder and can be written by its owner alone.
    """
    payload = Path(path)
    try:
        node, updatehash = pickle.loads(payload.read_bytes())
        nipype_config.update_config(node.config)
        with use_threads(int(node.n_procs)):
            node.run(updatehash=updatehash)
    except BaseException:
        text = "".join(format_exception(*sys.exc_info()))
        with whole_file(payload.with_suffix(".traceback")) as stream:
            stream.write(text.encode("utf-8", "replace"))
        print(text, file=sys.stderr)
        return 1
    payload.with_suffix(".done").touch()
    return 0


def peak_memory_gb() -> float:
    """Largest resident memory in GiB of this process or of a program it ran."""
    unit = 1 if sys.platform == "darwin" else 1024
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit / 2**30


class PipeHandler(logging.Handler):
    """Sends log records to the main process, which alone writes to terminal and files."""

    def __init__(self, pipe: connection.Connection):
        super().__init__()
        self._pipe = pipe
        self._sending = threading.RLock()  # messages of several threads must not mingle

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record with its text made and its exception formatted, so that it can be pickled."""
        try:
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.msg, record.args, record.exc_info = record.getMessage(), None, None
            self.send(record)
        except OSError:  # the main process is gone
            self.handleError(record)

    def send(self, message: Any) -> None:
        """Send a message; wait for a main process that is busy."""
        with self._sending:
            self._pipe.send(message)

    def offer(self, iterations: Iterations) -> None:
        """Send iterations if that takes no waiting: a main process that is busy does not read, and the pipe fills."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            ready = select.poll()
            ready.register(self._pipe.fileno(), select.POLLOUT)  # has room for a whole small message
            if ready.poll(0):
                self._pipe.send(iterations)
        finally:
            self._sending.release()


def _be_a_good_child() -> None:
    """Own process group, first choice of the kernel when memory runs out, and an end when the main process ends."""
    os.setsid()  # Ctrl-C reaches the main process only, which then ends the whole group with its programs
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server has handlers of its own
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _let_the_server_go()
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # not Linux
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _let_the_server_go() -> None:
    """Close the pipe that keeps the server alive as long as anybody holds it: the main process alone shall."""
    server: Any = forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)


def _redirect_logging(handler: PipeHandler, levels: dict[str, int]) -> None:
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(level)
        logger.propagate = True
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
