import copy
import json
import threading

import numpy as np
import pytest
from documents import facts, note, warning
from viewer_output import make_output

from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.figures import save_mosaic
from qsmprep.report.server import ResultsServer

METADATA = {
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens",
    "MRAcquisitionType": "3D",
    "ScanningSequence": "GR",
    "RepetitionTime": 0.033,
    "FlipAngle": 15,
    "ImagingFrequency": 123.25,
    "ParallelReductionFactorInPlane": 2,
    "ScanOptions": "PFP\\FC",
}


def parameter(name, value, *, unit="", default=True, help=""):
    return {"name": name, "value": value, "unit": unit, "default": default, "help": help}


def step(stage, title, **rest):
    empty = {"citations": [], "parameters": [], "facts": [], "notes": [], "warnings": [], "figures": []}
    return {"stage": stage, "method": title.lower(), "title": title, "seconds": 1.5, **empty, **rest}


RECORD = {
    "run": "sub-01_run-1",
    "subject": "01",
    "software": {"qsmprep": "0.1.0", "numpy": "2.4.6", "nipype": "1.11.0"},
    "command": "qsmprep /data /out participant",
    "started": "2026-01-02T03:04:05",
    "seconds": 75.0,
    "status": "ok",
    "errors": [],
    "warnings": [warning("partial-fourier", "Partial Fourier was used.")],
    "inputs": ["sub-01/anat/sub-01_run-1_echo-1_part-mag_MEGRE.nii.gz"],
    "acquisition": describe_acquisition(
        METADATA, affine=np.diag([1.0, 1.0, 1.2, 1.0]), shape=(160, 200, 120), echo_times_s=(0.004, 0.008, 0.012)
    ),
    "steps": [
        step("input", "phase in radians", notes=[note("phase-sign", "Phase kept: vendor Siemens.")]),
        step(
            "mask", "BET", citations=["smith2002"], parameters=[parameter("fraction", 0.5), parameter("gradient", 0.0)]
        ),
        step(
            "unwrapping",
            "ROMEO",
            citations=["dymerska2021"],
            warnings=[warning("voxels-left-wrapped", "2 regions were not connected.")],
        ),
        step(
            "background",
            "V-SHARP",
            citations=["li2011", "wu2012"],
            parameters=[parameter("radius_max", 9.0, unit="mm", default=False, help="largest radius")],
        ),
        step(
            "inversion",
            "FANSI",
            citations=["milovic2018"],
            parameters=[parameter("alpha1", 5e-4), parameter("weak_harmonic", True)],
            facts=facts(iterations=120, converged=True),
            figures=[{"file": "sub-01_run-1_desc-chi_Chimap.png", "caption": "Susceptibility"}],
        ),
        step(
            "reference",
            "whole brain",
            facts=[
                {"key": "mean_before", "label": "mean before subtraction", "unit": "ppm", "value": 0.0125},
                {"key": "sd", "label": "standard deviation", "unit": "ppm", "value": 0.0375},
            ],
        ),
    ],
}


@pytest.fixture
def record():
    return copy.deepcopy(RECORD)


@pytest.fixture(scope="module")
def whole_record():
    return copy.deepcopy(RECORD)


@pytest.fixture
def write_record(tmp_path):
    """Writes a run record and its pictures into an output folder, as the pipeline does."""

    def write(record, *, session="", pictures=True):
        folder = tmp_path / "sub-01" / session / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{record['run']}_record.json").write_text(json.dumps(record))
        files = [figure["file"] for entry in record["steps"] for figure in entry["figures"]]
        for name in files if pictures else ():
            save_mosaic(folder / name, np.ones((6, 7, 8), np.float32), np.eye(4), window=(0, 2))
        return tmp_path

    return write


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """An output folder for the viewer, and the susceptibility in it."""
    root = tmp_path_factory.mktemp("viewer") / "out"
    root.mkdir()
    return root, make_output(root)


@pytest.fixture(scope="module")
def server(results):
    """A server of that folder."""
    with ResultsServer(results[0], 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
