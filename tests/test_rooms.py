"""The front door of a room: its methods by name are functions, whatever was imported before."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from qsmprep import registry


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("method", registry.METHODS, ids=lambda m: m.function)
def test_a_room_gives_the_function_of_each_of_its_methods(method):
    room = import_module(method.module.rpartition(".")[0])
    assert getattr(room, method.function) is method.load()
    assert method.function in dir(room)
    assert isinstance(import_module(method.module), ModuleType)
    assert getattr(room, method.function) is method.load()


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import qsmprep.inversion.fansi",
        "import qsmprep.inversion.fansi_tgv, qsmprep.inversion",
        "from qsmprep.inversion.fansi import FansiOptions",
        "from qsmprep.inversion import fansi; import qsmprep.inversion.fansi",
        "import importlib; assert importlib.import_module('qsmprep.inversion.fansi').FansiOptions",
    ],
)
def test_the_order_of_imports_does_not_matter(before):
    code = "from qsmprep.inversion import fansi; import qsmprep.inversion as room; print(fansi.__name__, "
    code += "room.fansi is fansi, type(fansi).__name__, fansi.__module__)"
    assert fresh(f"{before}\n{code}") == "fansi True function qsmprep.inversion.fansi"


def test_a_module_with_no_function_of_its_name_stays_a_module():
    from qsmprep.inversion import Inversion, inputs

    assert isinstance(inputs, ModuleType) and isinstance(Inversion, type)


def test_joining_orientations_has_a_front_door_too():
    from qsmprep.orientation import Orientations, chisep_cosmos, cosmos, sti

    assert [f.__name__ for f in (cosmos, sti, chisep_cosmos)] == ["cosmos", "sti", "chisep_cosmos"]
    assert isinstance(Orientations, type)


def test_what_is_not_there_is_said_as_python_says_it():
    with pytest.raises(ImportError, match=r"cannot import name 'nothing' from 'qsmprep\.inversion'"):
        from qsmprep.inversion import nothing  # noqa: F401
    assert not hasattr(import_module("qsmprep.inversion"), "__wrapped__")


def test_entering_a_room_loads_none_of_its_methods():
    code = "import sys, qsmprep.inversion, qsmprep.separation; print(sorted(name for name in sys.modules "
    code += "if name.startswith(('qsmprep.inversion.', 'qsmprep.separation.')) or name in ('scipy', 'numba', 'torch')))"
    assert fresh(code) == "[]"
