"""Single steps on loose files: the same maps as from arrays, and mistakes told by file and flag."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from qsmprep import Scan
from qsmprep.app.single_steps import IMAGES, OF_ECHOES, STEPS
from qsmprep.background.vsharp import VsharpOptions, vsharp
from qsmprep.cli.commands import build_parser, run_command
from qsmprep.inversion.tkd import tkd
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Phase and magnitude of three echoes of a coarse head, with sidecars but no dataset around them."""
    folder = tmp_path_factory.mktemp("loose")
    bids = simulate(folder / "bids", SimulationOptions(voxel_size="8", echo_times="0.005,0.011,0.017"))
    for path in sorted((bids / "sub-01" / "anat").glob("*_MEGRE.*")):
        shutil.move(path, folder / path.name.removeprefix("sub-01_"))
    return folder


def step(*words):
    """The exit status of a step."""
    return run_command(["step", *map(str, words)])


def volume(path):
    return np.asarray(nib.load(path).dataobj, dtype=np.float32)


def test_a_chain_of_steps_gives_a_map(files, capsys):
    phase, magnitude = (sorted(files.glob(f"*part-{part}*.nii.gz")) for part in ("phase", "mag"))
    out = {
        name: files / f"{name}.nii.gz" for name in ("brain", "offset", "unwrapped", "field", "tissue", "chi", "zero")
    }
    assert step("mask", out["brain"], "--image", magnitude[0]) == 0
    assert step("phase-offset", out["offset"], "--phase", *phase, "--magnitude", *magnitude) == 0
    assert step("unwrapping", out["unwrapped"], "--phase", out["offset"], "--mask", out["brain"]) == 0
    assert step("field", out["field"], "--unwrapped", out["unwrapped"], "--magnitude", *magnitude, "--mask",
                out["brain"]) == 0  # fmt: skip
    assert step("background", out["tissue"], "--total-field", out["field"], "--mask", out["brain"],
                "--v-sharp-max-radius", 16, "--v-sharp-min-radius", 16) == 0  # fmt: skip
    assert step("inversion", out["chi"], "--method", "tkd", "--local-field", out["tissue"], "--mask",
                files / "tissue_mask.nii.gz") == 0  # fmt: skip
    assert step("reference", out["zero"], "--chi", out["chi"], "--mask", files / "chi_mask.nii.gz") == 0
    said = capsys.readouterr()
    assert "Echo times from the sidecar of echo-1_part-phase_MEGRE.nii.gz: 0.005, 0.011, 0.017 s." in said.err
    assert str(out["zero"]) in said.out.splitlines()
    document = json.loads((files / "tissue.json").read_text("utf-8"))
    assert document["Units"] == "Hz" and str(out["field"]) in document["Sources"]
    assert document["ProcessingSteps"][0]["method"] == "v-sharp" and document["ImagingFrequency"] > 120

    grid = nib.load(out["field"])
    scan = Scan(grid.header.get_zooms()[:3], (0, 0, 1), (0.005, 0.011, 0.017), document["ImagingFrequency"])
    options = VsharpOptions(max_radius=16, min_radius=16)
    removed = vsharp(volume(out["field"]), volume(out["brain"]) > 0, scan=scan, options=options)
    np.testing.assert_array_equal(volume(out["tissue"]), removed.tissue_field)
    chi = tkd(removed.tissue_field / np.float32(scan.frequency_mhz), removed.mask, scan=scan).chi_ppm
    np.testing.assert_allclose(volume(out["chi"]), chi, atol=1e-6)
    inside = volume(files / "chi_mask.nii.gz") > 0
    assert abs(volume(out["zero"])[inside].mean()) < 1e-5

    ppm = files / "ppm.nii.gz"
    nib.save(nib.Nifti1Image(volume(out["tissue"]) / np.float32(scan.frequency_mhz), grid.affine), ppm)
    words = ("--method", "tkd", "--mask", files / "tissue_mask.nii.gz", "--overwrite")
    strength = scan.frequency_mhz / 42.577478518
    assert step("inversion", files / "p.nii.gz", "--local-field", ppm, "--unit", "ppm", "--field-strength", strength,
                *words) == 0  # fmt: skip
    np.testing.assert_allclose(volume(files / "p.nii.gz"), volume(out["chi"]), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["inversion", "new.nii.gz", "--mask", "m.nii.gz"], "fansi needs --local-field (tissue field)"),
        (["inversion", "new.nii.gz"], "No image is given"),
        (["background", "new.nii.gz", "--total-field", "gone.nii.gz", "--mask", "m.nii.gz"], "gone.nii.gz"),
        (["background", "new.nii.gz", "--total-field", "f.nii.gz", "--mask", "other.nii.gz"], "not lie on the grid"),
        (["background", "new.mgz", "--total-field", "f.nii.gz", "--mask", "m.nii.gz"], "ends in .nii.gz"),
        (["background", "no/new.nii.gz", "--total-field", "f.nii.gz", "--mask", "m.nii.gz"], "Make it first"),
        (["background", "f.nii.gz", "--total-field", "f.nii.gz", "--mask", "m.nii.gz"], "add --overwrite"),
        (["background", "four.nii.gz", "--total-field", "f.nii.gz", "--mask", "m.nii.gz"], "add --overwrite"),
        (["background", "m.nii.gz", "--total-field", "f.nii.gz", "--mask", "f.nii.gz"], "m.nii.gz lies there"),
        (["background", "part.nii.gz", "--total-field", "f.nii.gz", "--mask", "m.nii.gz"], "part_mask.nii.gz lies"),
        (["background", "new.nii.gz", "--total-field", "four.nii.gz", "--mask", "m.nii.gz"], "is one volume"),
        (["inversion", "new.nii.gz", "--local-field", "f.nii.gz", "--mask", "m.nii.gz", "--unit", "ppm"],
         "give --field-strength"),
        (["inversion", "new.nii.gz", "--local-field", "f.nii.gz", "--mask", "m.nii.gz"], "with ImagingFrequency"),
        (["inversion", "new.nii.gz", "--local-field", "f.nii.gz", "--mask", "m.nii.gz", "--field-strength", "3"],
         "--echo-times"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_file_and_flag(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    field = np.zeros((12, 12, 12), np.float32)
    field[4:8, 4:8, 4:8] = 1
    for name, data in (
        ("f", field),
        ("m", field),
        ("part_mask", field),
        ("other", field[1:]),
        ("four", np.stack([field] * 2, -1)),
    ):
        nib.save(nib.Nifti1Image(data, np.eye(4)), f"{name}.nii.gz")
    assert step(*words) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.glob("**/new*"))


def test_every_step_has_its_help_and_names_images_that_its_node_takes(capsys):
    import importlib

    for name, one in STEPS.items():
        with pytest.raises(SystemExit) as caught:
            build_parser().read(["step", name, "--help"])
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert all(f"--{image.replace('_', '-')} NIFTI" in said for image in (*one.needs, *one.takes))
        module, _, node = one.node.rpartition(".")
        spec = getattr(importlib.import_module(f"qsmprep.interfaces.{module}"), node)
        inputs = spec().inputs.copyable_trait_names()
        assert {one.traits.get(image, image) for image in (*one.needs, *one.takes)} <= set(inputs)
        assert set(one.gives) <= set(spec.output_spec().copyable_trait_names())
    assert set(OF_ECHOES) <= set(IMAGES)
