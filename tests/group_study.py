"""A made-up study for tests of the group level: how it is spoiled, and pictures of its maps."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from qsmprep.report.figures import STYLES, mosaic

ROOT = Path(__file__).parents[1]


def load(path):
    """A module of the repository that is in no package."""
    spec = importlib.util.spec_from_file_location(f"of_test_group_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def draw_maps(out):
    """The same picture of a map for every run, with its thumbnail."""
    grey = np.random.default_rng(1).normal(0, 0.1, (12, 14, 10))
    png = mosaic(grey, np.diag([4.0, 4, 4, 1]), thumbnail=True, **STYLES["chi"])
    for path in out.glob("sub-*/ses-*/figures/*_record.json"):
        path.with_name(path.name.replace("_record.json", "_desc-chi_Chimap.png")).write_bytes(png)


def edit(path, change):
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


def quality_file(out, run):
    subject, session = run.split("_")
    return out / subject / session / "anat" / f"{run}_qc.json"
