"""What changes between two runs, or is damaged, is made again; nothing in the work folder is executed."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return (Path.touch, (self.sign,))


@pytest.fixture
def done(bench, quiet):
    """A bench on which the run has ended; what is done to it touches no other."""
    status, said = bench.run()
    assert status == 0, said
    return bench


def flip(path: Path) -> None:
    there = os.stat(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


def damage(bench) -> dict[str, str]:
    """Damage one node after the other in all ways; the name of each -> what is told of it."""
    sub = bench.work / "qsmprep" / "sub_01"
    flip(sub / "field_wf" / "unwrap" / "unwrapped.nii")
    (sub / "brain_mask_wf" / "extract" / "brain_mask.nii").unlink()
    os.truncate(sub / "background_wf" / "remove" / "result.json", 40)
    (sub / "field_wf" / "combine" / "step.json").write_text('{"record": {')
    (sub / "phase_masks_wf" / "join" / "background_mask.nii").write_bytes(b"")
    return {
        "field_wf.unwrap": "its checksum differs",
        "brain_mask_wf.extract": "brain_mask.nii is gone",
        "background_wf.remove": "result.json is damaged",
        "field_wf.combine": "step.json has 12 bytes",
        "phase_masks_wf.join": "background_mask.nii has 0 bytes",
    }


def test_a_damaged_work_folder_heals_and_executes_nothing(quiet):
    before, sign = quiet.results(), quiet.folder / "executed"
    for folder in {path.parent for path in quiet.work.rglob("result.json")}:
        for name in (f"result_{folder.name}.pklz", "_node.pklz", "_inputs.pklz"):
            (folder / name).write_bytes(pickle.dumps(Planted(sign)))
    told = damage(quiet)
    shutil.rmtree(quiet.out)
    status, said = quiet.run()
    assert status == 0, said
    lines = said.splitlines()
    for node, words in told.items():
        assert [line for line in lines if f"sub_01.{node}: " in line and words in line and "computed again" in line], (
            said
        )
    assert quiet.results() == before
    assert not sign.exists()
    quiet.assert_tidy()


@pytest.mark.faults
def test_a_purged_work_folder_heals(done, quiet):
    files = sorted(path for path in (done.work / "qsmprep").rglob("*") if path.is_file())
    for number, path in enumerate(files):
        if number % 3 == 0:
            path.unlink()
    assert done.run()[0] == 0
    assert done.results() == quiet.results()


@pytest.mark.faults
def test_a_work_folder_purged_during_a_run_costs_that_run_at_most(bench, quiet):
    process = bench.start()
    for line in process.stdout:
        if "field combine" in line:
            shutil.rmtree(bench.work / "qsmprep", ignore_errors=True)
            break
    said = process.communicate(timeout=600)[0]
    assert process.returncode in (0, 1), said
    assert "Traceback" not in said
    status, said = bench.run()
    assert status == 0, said
    assert bench.results() == quiet.results()
    bench.assert_tidy()


@pytest.mark.faults
def test_an_input_that_changed_is_computed_again(done, quiet, tmp_path):
    changed = shutil.copytree(done.bids, tmp_path / "bids")
    done.bids = changed
    assert done.run()[0] == 0
    assert "from an earlier run" not in done.run()[1].split("brain mask")[0].split("prepare")[0]
    path = next(changed.glob("sub-01/anat/*echo-1*part-phase*.nii.gz"))
    image = nib.load(path)
    phase = np.asanyarray(image.dataobj)
    type(image)(np.roll(phase, 1, axis=0), image.affine, image.header).to_filename(path)
    status, said = done.run()
    assert status == 0, said
    assert "field unwrap, from an earlier run" not in said
    chi = "sub-01/anat/sub-01_Chimap.nii.gz"
    assert done.results()[chi] != quiet.results()[chi]


@pytest.mark.faults
def test_an_output_that_was_removed_is_written_again(done, quiet):
    for path in list((done.out / "sub-01").rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    status, said = done.run()
    assert status == 0 and "field unwrap, from an earlier run" in said
    assert done.results() == quiet.results()
