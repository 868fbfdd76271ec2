"""The wheel holds the package under its installed names, and starting is light."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
         "assert p.Path('outputs.md').read_text('utf-8') == m.outputs_page(), 'outputs.md'"],
        capture_output=True, text=True, check=False, cwd=ROOT / "docs",
    )  # fmt: skip
    assert done.returncode == 0, f"run python docs/make_methods.py: {done.stderr}"
