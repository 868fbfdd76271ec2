"""The wheel holds the package under its installed names, and starting is light."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from qsmprep.report.server import _SCRIPTS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_nothing_but_qsmprep_lands_in_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"qsmprep"}


def test_the_wheel_tells_type_checkers_that_it_is_typed(wheel):
    assert "qsmprep/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_works_without_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import qsmprep, qsmprep.workflows.gre, qsmprep.interfaces.step\n"
        "from qsmprep.report.bibliography import references\n"
        "from qsmprep.report import page\n"
        "from importlib.resources import files\n"
        "assert qsmprep.__file__.startswith(sys.argv[1]), qsmprep.__file__\n"
        "assert qsmprep.workflows.gre.__file__.startswith(sys.argv[1])\n"
        "assert references() and files('qsmprep.data').joinpath('report.html').is_file()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_viewer_as_the_source_folder_has_it(wheel):
    """NiiVue too, where it was built: what `pip install .` gives shows maps then."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("qsmprep/data/viewer/")}
    there = {path.name for path in (ROOT / "qsmprep/data/viewer").iterdir() if not path.name.startswith((".", "__"))}
    assert {name.rpartition("/")[2] for name in held} == there
    assert set(_SCRIPTS) <= there


PRODUCT = ("qsmprep", "interfaces", "workflows")
NAMES_OF_EXTRAS = {"ants": "antspyx", "onnx": "onnx", "onnxruntime": "onnxruntime"}  # not installed everywhere
RUN_BY_ITSELF = "fuzz"  # tests that the suite does not collect


def sources(*folders):
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py") if RUN_BY_ITSELF not in path.parts]


def imported(paths):
    """What the files import from outside: {top module: one of the files}."""
    ours = {path.stem for path in sources("tests")} | {"qsmprep"}
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            found |= {module.split(".")[0]: path.name for module in modules}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name not in ours}


def normalised(name):
    return re.sub("[-_.]+", "-", name).lower()


def undeclared(modules, requirements):
    declared = {normalised(re.match(r"[\w.-]+", item)[0]) for item in requirements}
    installed = packages_distributions()
    return {
        module: path
        for module, path in modules.items()
        if not declared & {normalised(name) for name in installed.get(module, [NAMES_OF_EXTRAS.get(module, module)])}
    }


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed, extras = project["dependencies"], project["optional-dependencies"]
    product = [*needed, *(item for extra, items in extras.items() if extra != "test" for item in items)]
    assert not undeclared(imported(sources(*PRODUCT)), product)
    assert not undeclared(imported(sources("tests")), [*product, *extras["test"]])


@pytest.mark.parametrize("module", ["qsmprep.cli.run", "qsmprep.cli.tools"])
def test_help_loads_nothing_heavy(module):
    code = (
        f"import sys, {module} as program\n"
        "try: program.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', [name for name in ('numba', 'torch', 'scipy', 'nipype', 'bids', 'matplotlib', 'nibabel') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("HEAVY []")


def test_documentation_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "-c", "import make_methods as m, pathlib as p; "
         "assert p.Path('methods.md').read_text('utf-8') == m.methods_page(), 'methods.md'; "
         "assert p.Path('consensus.md').read_text('utf-8') == m.consensus_page(), 'consensus.md'; "
         "assert p.Path('outputs.md').read_text('utf-8') == m.outputs_page(), 'outputs.md'"],
        capture_output=True, text=True, check=False, cwd=ROOT / "docs",
    )  # fmt: skip
    assert done.returncode == 0, f"run python docs/make_methods.py: {done.stderr}"
