"""Small graphs whose nodes sleep, fail, or kill themselves."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path

import nipype
import pytest
from nipype import Workflow
from nipype.interfaces.utility import Function

from qsmprep.engine.node import Node


@pytest.fixture(autouse=True)
def no_hang():
    """A graph that hangs is a failed test, not a test that never ends."""

    def stop(*_):
        raise TimeoutError("The graph hangs.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def quiet_nipype():
    levels = {logger: logger.level for logger in nipype.logging.loggers.values()}
    for logger in levels:
        logger.setLevel("CRITICAL")
    yield
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def lab(tmp_path) -> Lab:
    return Lab(tmp_path)


class Lab:
    """Makes nodes and graphs in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "log.txt"

    def nap(self, name, seconds=0.05, **resources):
        """A node that sleeps and writes when it began and ended."""
        return self._node(_nap, name, resources, seconds=seconds, folder=str(self.folder), label=name)

    def gpu(self, name, seconds):
        """A napping node that runs on a GPU, and writes which it was told."""
        return self._node(_nap_on_gpu, name, {}, seconds=seconds, folder=str(self.folder), label=name, device="cuda")

    def kill_itself(self, name, number=signal.SIGKILL, *, times=99, seconds=0.0, **resources):
        """A node that ends its own process by a signal the first `times` times."""
        counter = str(self.folder / f"{name}.count")
        return self._node(
            _kill_itself, name, resources, number=int(number), counter=counter, times=times, seconds=seconds
        )

    def complain(self, name, text, seconds=0.0, **resources):
        """A node that raises ValueError."""
        return self._node(_complain, name, resources, text=text, seconds=seconds)

    def talk(self, name, text):
        """A node that logs a warning."""
        return self._node(_talk, name, {}, text=text)

    def iterate(self, name, iterations, seconds=0.0, *, die_at=0):
        """A node that tells its iterations, each so long, and kills itself at one of them the first time."""
        counter = str(self.folder / f"{name}.count")
        return self._node(_iterate, name, {}, iterations=iterations, seconds=seconds, die_at=die_at, counter=counter)

    def workflow(self, *nodes, chains=()):
        """A graph of the nodes; chains are sequences of nodes, each run after the one before it."""
        made = Workflow("graph", base_dir=str(self.folder / "work"))
        made.config["execution"] = {"crashdump_dir": str(self.folder / "crashes"), "create_report": "false"}
        made.add_nodes(list(nodes))
        for chain in chains:
            for before, after in pairwise(chain):
                made.connect(before, "out", after, "after")
        return made

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """Begin and end of each napping node, each time it ran to its end."""
        begun: dict[str, float] = {}
        found: dict[str, list[tuple[float, float]]] = {}
        for line in self.log.read_text().splitlines() if self.log.exists() else []:
            name, what, when = line.split()
            if what == "begins":
                begun[name] = float(when)
            else:
                found.setdefault(name, []).append((begun[name], float(when)))
        return found

    def begun(self) -> list[str]:
        """Names of the napping nodes in the order they began."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[0] for line in lines if " begins " in line]

    def processes(self) -> list[int]:
        """Processes that work inside the folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str(os.readlink(entry / "cwd")).startswith(str(self.folder)):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    @staticmethod
    def _node(function, name, resources, **inputs):
        interface = Function(input_names=[*inputs, "after"], output_names=["out"], function=function)
        made = Node(interface, name=name, **{"mem_gb": 0.1, "n_procs": 1, **resources})
        made.inputs.trait_set(**inputs)
        return made


def _nap(seconds, folder, label, after=None):
    import time

    with open(folder + "/log.txt", "a") as file:
        file.write(f"{label} begins {time.monotonic()}\n")
    time.sleep(seconds)
    with open(folder + "/log.txt", "a") as file:
        file.write(f"{label} ends {time.monotonic()}\n")
    return label


def _nap_on_gpu(seconds, folder, label, device, after=None):
    import os
    import time

    with open(folder + "/log.txt", "a") as file:
        file.write(f"{label} begins {time.monotonic()}\n")
    with open(f"{folder}/{label}.gpu", "w") as file:
        file.write(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    time.sleep(seconds)
    with open(folder + "/log.txt", "a") as file:
        file.write(f"{label} ends {time.monotonic()}\n")
    return label


def _kill_itself(number, counter, times, seconds, after=None):
    import os
    import time

    time.sleep(seconds)
    with open(counter, "a") as file:
        file.write("x")
    if os.path.getsize(counter) <= times:
        os.kill(os.getpid(), number)
        time.sleep(60)
    return "survived"


def _complain(text, seconds, after=None):
    import time

    time.sleep(seconds)
    raise ValueError(text)


def _talk(text, after=None):
    import logging

    logging.getLogger("qsmprep.step").warning(text)
    return text


def _iterate(iterations, seconds, die_at, counter, after=None):
    import os
    import signal
    import time

    from qsmprep.engine.iterations import callback

    progress = callback()
    for done in range(1, iterations + 1):
        progress(done, iterations)
        time.sleep(seconds)
        if done == die_at and not os.path.exists(counter):
            open(counter, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return iterations
