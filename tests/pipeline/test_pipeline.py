"""The front door for people with arrays: the same maps as the program, in one call or step by step."""

import json
import runpy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import qsmprep
from qsmprep import pipeline
from qsmprep.cli.run import main
from qsmprep.interfaces.images import read_grid, read_volume
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

CHAINS = {
    "default": [],
    "nonlinear": ["--pipeline", "fast", "--echo-combination", "nonlinear-fit", "--background", "pdf"],
    "chosen": ["--pipeline", "consensus-medi", "--echoes", "1,2,4", "--reference", "none"],
}
DOCUMENTS = {
    "default": {},
    "nonlinear": {
        "pipeline": "fast", "echo-combination": {"method": "nonlinear-fit"}, "background": {"method": "pdf"},
    },
    "chosen": {"pipeline": "consensus-medi", "input": {"echoes": "1,2,4"}, "reference": {"region": "none"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    options = SimulationOptions(voxel_size="4", tilt_x=15.0, peak_snr=100.0)
    return simulate(tmp_path_factory.mktemp("pipeline") / "bids", options)


@pytest.fixture(scope="module")
def given(dataset):
    """Magnitude, phase and scan of the dataset as a user would read them."""
    folder = dataset / "sub-01" / "anat"
    phases = sorted(folder.glob("*part-phase_MEGRE.nii*"))
    magnitudes = sorted(folder.glob("*part-mag_MEGRE.nii*"))
    sidecars = [json.loads(Path(str(path).split(".nii")[0] + ".json").read_text("utf-8")) for path in phases]
    grid = read_grid(phases[0])
    scan = qsmprep.Scan(
        grid.voxel_size_mm,
        grid.b0_direction,
        tuple(sidecar["EchoTime"] for sidecar in sidecars),
        sidecars[0]["ImagingFrequency"],
    )
    return (
        np.stack([read_volume(path) for path in magnitudes]),
        np.stack([read_volume(path) for path in phases]),
        scan,
    )


@pytest.mark.parametrize("chain", CHAINS)
def test_the_maps_are_those_of_the_program(chain, dataset, given, tmp_path):
    words = [str(dataset), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work"),
             "--skip-bids-validation", "--separation", "none", "--no-roi", "--plugin", "linear",
             *CHAINS[chain]]  # fmt: skip
    assert main(words) == 0
    found = qsmprep.reconstruct(*given, options=DOCUMENTS[chain])
    written = {
        "anat/sub-01_Chimap.nii.gz": found.chi_ppm,
        "fmap/sub-01_desc-total_fieldmap.nii.gz": found.total_field_hz,
        "fmap/sub-01_desc-local_fieldmap.nii.gz": found.tissue_field_hz,
        "anat/sub-01_desc-brain_mask.nii.gz": found.masks.brain,
        "anat/sub-01_desc-qsm_mask.nii.gz": found.masks.qsm,
        "anat/sub-01_R2starmap.nii.gz": found.relaxation.r2star,
    }
    for name, array in written.items():
        image = nib.load(tmp_path / "out" / "sub-01" / name).get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(image, array.astype(np.float32), err_msg=name)
    stages = [record.stage for record in found.records]
    assert stages[-1] == "inversion" and "mask" in stages
    assert found.settings.method("relaxometry") != "auto"


def test_six_calls_give_what_one_gives(given):
    echoes = pipeline.prepare(*given)
    brain = pipeline.brain_mask(echoes)
    total = pipeline.total_field(echoes, brain)
    decay = pipeline.relaxation(echoes, brain, total)
    tissue = pipeline.tissue_field(total, brain, echoes.scan)
    chi = pipeline.susceptibility(tissue, total, echoes, decay)
    np.testing.assert_array_equal(chi.chi_ppm, qsmprep.reconstruct(*given).chi_ppm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": lambda phase: 4096 * phase}, "must be in rad"),
        ({"phase": lambda phase: phase[:3]}, "n_echo, n0, n1, n2"),
        ({"scan": lambda scan: qsmprep.Scan(scan.voxel_size_mm)}, "echo times are not known"),
        ({"scan": lambda scan: qsmprep.Scan(scan.voxel_size_mm, echo_times_s=scan.echo_times_s)}, "centre frequency"),
        ({"options": lambda _: {"background": {"method": "nothing"}}}, "Unknown background method"),
        ({"options": lambda _: {"mask": {"method": "fsl-bet"}}}, "command line"),
        ({"options": lambda _: {"reference": {"region": "segmentation", "label": "1"}}}, "give `reference`"),
    ],
)
def test_what_makes_no_sense_is_said(change, message, given):
    arguments = dict(zip(("magnitude", "phase", "scan"), given, strict=True)) | {"options": None}
    arguments |= {name: made(arguments[name]) for name, made in change.items()}
    with pytest.raises(ValueError, match=message):
        qsmprep.reconstruct(**arguments)


def test_a_single_echo_is_enough(given):
    magnitude, phase, scan = given
    one = qsmprep.Scan(scan.voxel_size_mm, scan.b0_direction, scan.echo_times_s[3:4], scan.centre_frequency_mhz)
    found = qsmprep.reconstruct(magnitude[3:4], phase[3:4], one, preset="fast")
    assert found.relaxation is None
    assert np.isfinite(found.chi_ppm).all() and found.chi_ppm.std() > 0


def test_the_example_of_the_documentation_runs(capsys):
    example = Path(__file__).parents[2] / "docs" / "examples" / "reconstruct.py"
    found = runpy.run_path(str(example))
    assert 0.5 < found["slope"] < 1.2
    assert "inversion: rapid two-step inversion (RTS)" in capsys.readouterr().out
