"""How runs end and go on: a killed run resumes, FSL's BET is used where it is, masks can be given."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest


def test_a_killed_run_goes_on_where_it_was(small_head, tmp_path, run_qsmprep):
    out, work = tmp_path / "out", tmp_path / "work"
    command = [sys.executable, "-m", "qsmprep.cli.run", str(small_head), str(out), "participant", "-w", str(work),
               "--roi-template", "none"]  # fmt: skip
    process = subprocess.Popen(
        [*command, "--roi-template", "none"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stdout:
        if "field unwrap" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    time.sleep(0.5)
    assert not list(out.rglob("*.part")) or not list(out.rglob("*Chimap*"))
    again = run_qsmprep(small_head, out, "--plugin", "pool", work=work)
    assert again.status == 0, again.stderr
    assert "phase prepare, from an earlier run" in again.stdout
    assert (out / "sub-01" / "anat" / "sub-01_Chimap.nii.gz").is_file()


STUB = """#!{python}
import sys
import nibabel as nib
import numpy as np
source, target = sys.argv[1], sys.argv[2]
assert "-f" in sys.argv and sys.argv[sys.argv.index("-f") + 1] == "0.50", sys.argv
image = nib.load(source)
mask = np.zeros(image.shape, np.uint8)
middle = tuple(slice(n // 4, -n // 4) for n in mask.shape)
mask[middle] = 1
base = target.removesuffix(".gz").removesuffix(".nii")
nib.save(nib.Nifti1Image(mask, image.affine), base + "_mask.nii")
nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * mask, image.affine), base + ".nii")
"""


@pytest.fixture
def fsl(tmp_path):
    """A PATH on which `bet` is found first."""
    folder = tmp_path / "fsl"
    folder.mkdir()
    program = folder / "bet"
    program.write_text(STUB.format(python=sys.executable), "utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_fsl_bet_is_used_where_it_is_installed_and_the_report_says_so(small_head, tmp_path, run_qsmprep, fsl):
    done = run_qsmprep(small_head, tmp_path / "out", "--pipeline", "fast", "--separation", "none", path=fsl)
    assert done.status == 0, done.stderr
    mask = done.image("desc-brain_mask") > 0
    middle = tuple(slice(n // 4, -n // 4) for n in mask.shape)
    assert mask[middle].all()
    assert mask.sum() == mask[middle].size
    page = (done.out / "sub-01.html").read_text("utf-8")
    assert "FSL BET, found on the PATH" in page


def test_our_own_bet_can_be_asked_for_where_fsl_is_installed(small_head, tmp_path, run_qsmprep, fsl):
    done = run_qsmprep(small_head, tmp_path / "out", "--mask", "bet", "--dry-run", path=fsl)
    assert "mask: BET" in done.stdout
    assert "FSL" not in done.stdout


def test_fsl_bet_asked_for_where_there_is_none_is_refused(small_head, tmp_path, run_qsmprep):
    if shutil.which("bet"):
        pytest.skip("bet is installed here")
    done = run_qsmprep(small_head, tmp_path / "out", "--mask", "fsl-bet")
    assert done.status == 1
    assert "no program `bet`" in done.stderr


def test_masks_of_derivatives_are_used(small_head, tmp_path, run_qsmprep):
    truth = small_head / "derivatives" / "truth"
    done = run_qsmprep(
        small_head, tmp_path / "out", "--pipeline", "fast", "--separation", "none", "--derivatives", f"truth={truth}"
    )
    assert done.status == 0, done.stderr
    assert ((done.image("desc-brain_mask") > 0) == (done.truth("desc-brain_mask") > 0)).all()
    assert "of the derivatives truth" in (done.out / "sub-01.html").read_text("utf-8")


def test_every_other_method_runs(small_head, tmp_path, run_qsmprep):
    done = run_qsmprep(
        small_head, tmp_path / "out", "--unwrapping", "laplacian", "--echo-combination", "nonlinear-fit",
        "--mask", "robust", "--background", "pdf", "--inversion", "medi", "rts", "--relaxometry", "log-linear",
        "--phase-offset", "none", "--reference", "none", "--echoes", "1,2,4",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert (done.out / "sub-01" / "anat" / "sub-01_desc-rts_Chimap.nii.gz").is_file()
    assert "echoes 1, 2, 4" in (done.out / "sub-01.html").read_text("utf-8")


def test_a_failure_in_one_run_leaves_the_others_and_is_told(small_head, tmp_path, run_qsmprep, merge_subjects):
    import nibabel as nib
    import numpy as np

    bids = merge_subjects(tmp_path / "bids", {"good": small_head, "dark": small_head})
    for path in (bids / "sub-dark" / "anat").glob("*part-mag*.nii.gz"):
        image = nib.load(path)
        nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine).to_filename(path)
    done = run_qsmprep(bids, tmp_path / "out", "--pipeline", "fast", "--separation", "none", "--skip-bids-validation",
                       "--plugin", "pool")  # fmt: skip
    assert done.status == 1
    assert (done.out / "sub-good" / "anat" / "sub-good_Chimap.nii.gz").is_file()
    assert "failed" in (done.out / "sub-dark.html").read_text("utf-8")
