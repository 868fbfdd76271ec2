"""CONTRIBUTING's recipe, carried out: one file and one line of the registry, and the method is everywhere."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

ROOT = Path(__file__).parents[2]
FILE = '''"""Toy inversion: the field over the largest value of the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class ToyOptions:
    """Options of the toy."""

    gain: float = option(1.5, "factor on the field", low=0.1, high=10)


def toy(field_ppm: np.ndarray, mask: np.ndarray, *, scan: Scan, options: ToyOptions = ToyOptions()) -> Inversion:
    """Susceptibility as a multiple of the field."""
    check_options(options)
    inside = np.asarray(mask) > 0
    return Inversion((np.where(inside, field_ppm, 0) * options.gain).astype(np.float32), inside)
'''
LINE = (
    '    Method("inversion", "toy", "qsmprep.inversion.toy", "toy", "ToyOptions", "a toy inversion", ("shmueli2009",), '
    'sparse=True, tuning=Tuning("gain")),\n'
)
TOOLS = "import sys; from qsmprep.cli.tools import main; sys.exit(main(sys.argv[1:]))"
CHECK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import make_methods
from qsmprep.report.checklist import checklist
from qsmprep.report.record import read_runs
run, = read_runs(Path(sys.argv[1]), "01")
items = {item.id: (item.status, item.value) for item in checklist(run)}
print(json.dumps({"page": make_methods.methods_page(), "sparse": items["7.a"]}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as it installs, with the toy's file and its line."""
    site = tmp_path_factory.mktemp("site")
    heavy = shutil.ignore_patterns("*.safetensors", "__pycache__", "niivue.js")
    shutil.copytree(ROOT / "qsmprep", site / "qsmprep", ignore=heavy)
    for room in ("interfaces", "workflows"):
        shutil.copytree(ROOT / room, site / "qsmprep" / room, ignore=heavy)
    (site / "qsmprep" / "inversion" / "toy.py").write_text(FILE, "utf-8")
    registry = site / "qsmprep" / "registry.py"
    before, after = registry.read_text("utf-8").split('    Method("relaxometry", ', 1)
    registry.write_text(f'{before}{LINE}    Method("relaxometry", {after}', "utf-8")
    return site


@pytest.fixture(scope="module")
def program(installed, tmp_path_factory):
    """Runs a module of that package and returns what it prints."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd=folder,
            env=os.environ | {"PYTHONPATH": str(installed)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def results(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    dataset = simulate(folder / "bids", SimulationOptions(voxel_size="5"))
    program("-m", "qsmprep.cli.run", dataset, folder / "out", "participant", "-w", folder / "work",
            "--skip-bids-validation", "--mask", "robust", "--unwrapping", "laplacian", "--echo-combination",
            "linear-fit", "--background", "pdf", "--relaxometry", "none", "--no-roi", "--inversion", "toy",
            "--toy-gain", "2")  # fmt: skip
    return folder / "out"


def test_it_stands_in_the_help(program):
    assert "toy" in program("-m", "qsmprep.cli.run", "--help")
    assert "--toy-gain" in program("-m", "qsmprep.cli.run", "--help", "toy")


def test_its_sidecar_tells_its_parameters(results):
    sidecar = json.loads((results / "sub-01" / "anat" / "sub-01_Chimap.json").read_text("utf-8"))
    (step,) = [step for step in sidecar["ProcessingSteps"] if step["stage"] == "inversion"]
    (gain,) = step["parameters"]
    assert (gain["name"], gain["value"], gain["default"]) == ("gain", 2.0, False)


def test_report_checklist_methods_text_and_documentation_know_it(program, results):
    assert "a toy inversion" in (results / "sub-01.html").read_text("utf-8")
    text = (results / "logs" / "CITATION.md").read_text("utf-8")
    assert "computed from the tissue field by a toy inversion [@shmueli2009] (gain = 2)" in text
    found = json.loads(program("-c", CHECK, results, ROOT / "docs").splitlines()[-1])
    assert found["sparse"] == ["met", "a toy inversion"]
    assert "### toy: a toy inversion" in found["page"] and "`--toy-gain`" in found["page"]


def test_it_is_tuned_by_the_option_that_its_line_names(program, results, tmp_path):
    maps = results / "sub-01"
    program("-c", TOOLS, "tune", maps / "fmap" / "sub-01_desc-local_fieldmap.nii.gz",
            maps / "anat" / "sub-01_desc-qsm_mask.nii.gz", tmp_path, "--method", "toy", "--steps", "5",
            "--truth", maps / "anat" / "sub-01_Chimap.nii.gz")  # fmt: skip
    chosen = tomllib.loads((tmp_path / "tune.toml").read_text("utf-8"))["inversion"]
    assert "gain" in chosen["toy"]
