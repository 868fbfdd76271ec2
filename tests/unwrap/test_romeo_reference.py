"""ROMEO against an independent implementation (niimath) on real data.

niimath unwraps the part of the mask that holds its seed and leaves the others wrapped, hence the largest component.
What differs there lies in noise, among edges of equal cost, and where niimath's paths leave the mask on one side.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qsmprep.masking.morphology import largest_component
from qsmprep.masking.robust import robust_mask
from qsmprep.scan import Scan
from qsmprep.unwrap.romeo import RomeoOptions, romeo

nib = pytest.importorskip("nibabel")

DATA = Path(os.environ.get("QSMPREP_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
NIIMATH = shutil.which("niimath") or shutil.which("niimath", path=str(Path(sys.executable).parent))
ALLOWED = 1e-3  # share of voxels that may differ by whole turns

pytestmark = pytest.mark.skipif(NIIMATH is None, reason="niimath (PyPI) is not installed")


def needs(folder):
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"no real data in {DATA / folder}")


def siemens():
    anat = DATA / "invivo-siemens" / "sub-01" / "anat"
    phase, magnitude, times = [], [], []
    for echo in (1, 2, 3):
        stem = f"sub-01_acq-epi_echo-{echo}_part-"
        phase.append(np.pi / 4096 * np.asarray(nib.load(anat / f"{stem}phase_MEGRE.nii.gz").dataobj))
        magnitude.append(np.asarray(nib.load(anat / f"{stem}mag_MEGRE.nii.gz").dataobj))
        times.append(json.loads((anat / f"{stem}phase_MEGRE.json").read_text("utf-8"))["EchoTime"])
    return np.array(phase, np.float32), np.array(magnitude, np.float32), np.array(times)


def brain():
    return np.asarray(nib.load(DATA / "invivo-siemens-reference" / "sub-01_desc-bet_mask.nii.gz").dataobj) > 0


def patch():
    raw = nib.load(DATA / "gre-patch" / "Phase.nii").dataobj.get_unscaled().astype(float)
    phase = (raw - raw.min()) / np.ptp(raw) * 2 * np.pi - np.pi
    magnitude = np.asarray(nib.load(DATA / "gre-patch" / "Mag.nii").dataobj)
    return (
        np.moveaxis(phase, -1, 0).astype(np.float32),
        np.moveaxis(magnitude, -1, 0).astype(np.float32),
        np.array([4, 8, 12]) * 1e-3,
    )


def reference(folder, phase, magnitude, times, mask, *options):
    """Unwrapped echoes and quality map of niimath."""
    for name, volume in (("phase", phase), ("magnitude", magnitude), ("mask", mask.astype(np.uint8))):
        image = np.moveaxis(volume, 0, -1) if volume.ndim == 4 else volume
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{name}.nii")
    command = [
        NIIMATH,
        "phase.nii",
        "-gz",
        "0",
        "-romeo",
        "magnitude.nii",
        "-t",
        ",".join(f"{1e3 * t:g}" for t in times),
    ]
    command += ["-k", "mask.nii", "-no-phase-rescale", "-no-mask-out", "-q", *options, "out", "-odt", "float"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    unwrapped = np.asarray(nib.load(folder / "out.nii").dataobj)
    return np.moveaxis(unwrapped, -1, 0), np.asarray(nib.load(folder / "out_quality.nii").dataobj)


def share_of_jumps(unwrapped, other, mask):
    """Share of the mask's voxels that differ by whole turns, for each echo, after the most common offset."""
    turns = np.rint((unwrapped - other)[:, mask] / (2 * np.pi))
    return [float(np.mean(echo != np.median(echo))) for echo in turns]


@needs("invivo-siemens")
@needs("invivo-siemens-reference")
@pytest.mark.parametrize("weights", ["romeo2", "romeo3", "romeo4"])
@pytest.mark.parametrize("where", ["brain", "head"])
def test_in_vivo_head_agrees(tmp_path, weights, where):
    phase, magnitude, times = siemens()
    mask = largest_component(brain() if where == "brain" else robust_mask(magnitude[0]))
    expected, _ = reference(tmp_path, phase, magnitude, times, mask, "-w", weights)
    options = RomeoOptions(weights=weights, correct_global=False, temporal_uncertain=0.0)
    result = romeo(phase, scan=Scan((1, 1, 1), echo_times_s=times), magnitude=magnitude, mask=mask, options=options)
    shares = share_of_jumps(result.phase, expected, mask)
    print(f"in vivo, {where}, {weights}: share of voxels with another number of turns, by echo: {shares}")
    assert max(shares) < ALLOWED
    assert np.isfinite(result.phase).all()


@needs("gre-patch")
@pytest.mark.parametrize("weights", ["romeo2", "romeo3", "romeo4", "romeo6"])
@pytest.mark.parametrize("individual", [False, True])
def test_patch_agrees(tmp_path, weights, individual):
    phase, magnitude, times = patch()
    mask = np.ones(phase.shape[1:], bool)
    mode = ["-i"] if individual else []
    expected, quality = reference(tmp_path, phase, magnitude, times, mask, "-w", weights, *mode)
    options = RomeoOptions(weights=weights, correct_global=False, individual=individual, temporal_uncertain=0.0)
    result = romeo(phase, scan=Scan((1, 1, 1), echo_times_s=times), magnitude=magnitude, mask=mask, options=options)
    shares = share_of_jumps(result.phase, expected, mask)
    print(f"patch, {weights}, individual={individual}: {shares}")
    assert max(shares) < ALLOWED
    if not individual:  # two voxels from the border, where the linearity term sees the same neighbours
        inner = (slice(2, -2),) * 3
        np.testing.assert_allclose(result.quality[inner], quality[inner], atol=3e-3)


@needs("gre-patch")
def test_phase_with_nan_is_unwrapped():
    image = nib.load(DATA / "gre-patch" / "phase_with_nan.nii")
    phase = np.moveaxis(np.asarray(image.dataobj), -1, 0).astype(np.float32)
    missing = np.isnan(phase).any(axis=0)
    assert missing.any()
    result = romeo(phase, scan=Scan((1, 1, 1), echo_times_s=[0.004, 0.008]), options=RomeoOptions(individual=True))
    assert np.isfinite(result.phase).all()
    assert result.isolated_voxels >= np.isnan(phase).sum()
