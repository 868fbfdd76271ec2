"""A step whose code changed gets another key; one whose code did not keeps it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from qsmprep.engine.staleness import algo_version, reached


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package "qsmprep.trial" of two modules and a step that uses one of them."""
    import qsmprep

    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "step.py").write_text("def f():\n    from qsmprep.trial import shared\n    from . import near\n")
    (folder / "shared.py").write_text("x = 1\n")
    (folder / "near.py").write_text("x = 1\n")
    (folder / "other.py").write_text("x = 1\n")
    monkeypatch.setattr(qsmprep, "__path__", [*qsmprep.__path__, str(tmp_path)])

    def key(*names):
        from qsmprep.engine import staleness

        staleness._read.cache_clear()
        staleness.algo_version.cache_clear()
        return algo_version(*names)

    yield folder, key
    for name in [name for name in sys.modules if name.startswith("qsmprep.trial")]:
        del sys.modules[name]
    key("qsmprep.numerics.units")


@pytest.mark.parametrize("changed", ["step", "shared", "near"])
def test_a_change_of_the_step_or_of_what_it_imports_changes_the_key(package, changed):
    folder, key = package
    before = key("qsmprep.trial.step")
    (folder / f"{changed}.py").write_text((folder / f"{changed}.py").read_text() + "y = 2\n")
    assert key("qsmprep.trial.step") != before


def test_a_change_elsewhere_leaves_the_key(package):
    folder, key = package
    before, whole = key("qsmprep.trial.step"), key("qsmprep.trial")
    (folder / "other.py").write_text("x = 2\n")
    assert key("qsmprep.trial.step") == before
    assert key("qsmprep.trial") != whole, "a package counts with all its modules"


@pytest.fixture
def write(package):
    """A function that writes modules of "qsmprep.trial", and one that tells what a definition reaches there."""
    folder, key = package

    def write(**modules):
        for name, source in modules.items():
            (folder / f"{name}.py").write_text("from __future__ import annotations\n" + textwrap.dedent(source))
        key("qsmprep.numerics.units")  # forgets what was read before

        def reach(name, **more):
            prefix = "qsmprep.trial."
            return {label.removeprefix(prefix) for label in reached(f"{prefix}{name}", **more)}

        return reach

    return write


def test_a_definition_reaches_what_it_uses_and_not_its_neighbours(write):
    reach = write(
        step="""
        from qsmprep.trial.shared import LIMIT, other, solve
        from qsmprep.trial import near
        SCALE = 2 * LIMIT
        @near.marked
        class Step:
            limit = SCALE
            def run(self):
                return solve(self)
        def unused():
            return other()
        """,
        shared="""
        LIMIT = 3
        def solve(step): return [_inner(x) for x in step]
        def _inner(other): return other
        def other(): return 1
        """,
    )
    assert reach("step.Step") == {
        "step.Step", "step.SCALE", "shared.LIMIT", "shared.solve", "shared._inner", "near.x",
    }  # fmt: skip
    assert reach("step.unused") == {"step.unused", "shared.other"}


def test_imports_inside_functions_count_those_for_type_checkers_and_annotations_do_not(write):
    reach = write(
        step="""
        from typing import TYPE_CHECKING
        from qsmprep.trial.shared import Kind
        if TYPE_CHECKING:
            from qsmprep.trial.other import x
        def run(kind: Kind) -> x:
            from qsmprep.trial.near import x
            return x
        """,
        shared="class Kind: pass",
    )
    assert reach("step.run") == {"step.run", "near.x"}


def test_a_name_of_a_package_reaches_what_it_stands_for(write):
    reach = write(
        __init__="from qsmprep.trial.shared import solve\nfrom qsmprep.trial.near import x",
        step="from qsmprep.trial import other, solve\ndef run(): return solve(other)",
        shared="def solve(): return 1",
    )
    assert reach("step.run") == {"step.run", "shared.solve", "other.x"}


def test_what_acts_when_a_module_is_imported_belongs_to_each_of_its_definitions(write):
    reach = write(
        step="""
        from qsmprep.trial.shared import register
        TABLE = {}
        def run(): return TABLE
        TABLE["run"] = register(run)
        def other(): return 1
        """,
        shared="def register(f): return f",
    )
    assert {"shared.register", "step.run"} <= reach("step.other")


def test_what_is_apart_is_not_entered(write):
    reach = write(step="from qsmprep.trial.shared import solve\ndef run(): return solve()", shared="def solve(): ...")
    assert reach("step.run", apart=("qsmprep.trial.shared",)) == {"step.run"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from scipy.fft import rfftn as f", "from numpy.fft import rfftn as f"),
        ("from qsmprep.trial.shared import a as f, b as g", "from qsmprep.trial.shared import b as f, a as g"),
    ],
)
def test_another_meaning_of_the_same_words_is_another_key(package, write, before, after):
    keys = []
    for line in (before, after):
        write(step=f"{line}\ndef run(): return f(g)", shared="def a(): ...\ndef b(): ...")
        keys.append(package[1]("qsmprep.trial.step.run"))
    assert keys[0] != keys[1]


def test_a_name_that_leads_nowhere_is_refused(write):
    reach = write(step="from qsmprep.trial.shared import nothing\ndef run(): return nothing", shared="")
    with pytest.raises(ModuleNotFoundError, match=r"qsmprep\.trial\.shared\.nothing"):
        reach("step.run")


def test_the_key_is_the_same_in_another_process():
    names = ("qsmprep.numerics.fourier", "qsmprep.numerics.dipole")
    code = f"from qsmprep.engine.staleness import algo_version; print(algo_version(*{names}))"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert other == algo_version(*names)


def test_a_name_without_source_is_refused():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        algo_version("qsmprep.nowhere")
