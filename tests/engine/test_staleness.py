"""A step whose code changed gets another key; one whose code did not keeps it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qsmprep.engine.staleness import algo_version


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


def test_the_key_is_the_same_in_another_process():
    names = ("qsmprep.numerics.fourier", "qsmprep.numerics.dipole")
    code = f"from qsmprep.engine.staleness import algo_version; print(algo_version(*{names}))"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert other == algo_version(*names)


def test_a_name_without_source_is_refused():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        algo_version("qsmprep.nowhere")
