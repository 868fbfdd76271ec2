"""Runs of the command line on images of single coils, against the same head as one ideal coil saw it."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from qsmprep.findings import fact_values
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

WORDS = ("--pipeline", "fast", "--separation", "none", "--inversion", "tkd", "--mask", "bet", "--plugin", "linear",
         "--skip-bids-validation")  # fmt: skip
COILS = 6


def sensitivities(shape, voxel_mm):
    """Coils around the head, each with a phase of its own of two turns over the head; together of strength 1."""
    x, y, z = np.meshgrid(*[(np.arange(n) - n / 2) * voxel_mm for n in shape], indexing="ij")
    found = []
    for coil in range(COILS):
        angle = 2 * np.pi * coil / COILS
        a, b = 110 * np.cos(angle), 125 * np.sin(angle)
        strength = (1 + ((x - a) ** 2 + (y - b) ** 2 + z**2) / 90**2) ** -1.5
        phase = 0.08 * (np.cos(2 * angle) * x + np.sin(3 * angle) * y) + 0.05 * z * (-1) ** coil + 2 * coil
        found.append(strength * np.exp(1j * (phase + ((x - a / 3) ** 2 + (y - b / 3) ** 2) / 3000)))
    return np.array(found) / np.sqrt(np.sum(np.abs(found) ** 2, 0))


def seen_by(source, target, store):
    """A dataset of the same head, with what the coils saw of each echo as `store` writes it."""
    shutil.copytree(source, target)
    for phase_file in sorted((target / "sub-01" / "anat").glob("*_part-phase_MEGRE.nii.gz")):
        magnitude_file = phase_file.with_name(phase_file.name.replace("part-phase", "part-mag"))
        magnitude, phase = nib.load(magnitude_file), nib.load(phase_file)
        signal = np.asanyarray(magnitude.dataobj) * np.exp(1j * np.asanyarray(phase.dataobj))
        coils = sensitivities(signal.shape, 5.0) * signal
        stem = phase_file.name.removesuffix("_part-phase_MEGRE.nii.gz")
        sidecar = json.loads((phase_file.parent / f"{stem}_part-phase_MEGRE.json").read_text("utf-8"))
        for path in phase_file.parent.glob(f"{stem}_*"):
            path.unlink()
        store(phase_file.parent / stem, sidecar, coils, phase)
    return target


def save(stem, part, values, sidecar, like):
    nib.save(nib.Nifti1Image(values.astype(np.float32), like.affine, like.header), f"{stem}_part-{part}_MEGRE.nii.gz")
    stem.with_name(f"{stem.name}_part-{part}_MEGRE.json").write_text(json.dumps(sidecar), "utf-8")


def one_file_a_coil(stem, sidecar, coils, like):
    for number, image in enumerate(coils, start=1):
        own = stem.with_name(stem.name.replace("sub-01_", f"sub-01_acq-coil{number:02d}_"))
        save(own, "mag", np.abs(image), sidecar, like)
        save(own, "phase", np.angle(image), sidecar, like)


def last_axis(stem, sidecar, coils, like):
    images = np.moveaxis(coils, 0, -1)
    save(stem, "mag", np.abs(images), sidecar, like)
    save(stem, "phase", np.angle(images), sidecar, like)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    options = SimulationOptions(voxel_size="5", echo_times="0.005,0.010,0.015,0.020")
    return simulate(tmp_path_factory.mktemp("coils") / "one", options)


@pytest.fixture(scope="module")
def ideal(head, run_qsmprep):
    return run_qsmprep(head, head.with_name("one-out"), *WORDS)


@pytest.fixture(scope="module")
def combined(head, run_qsmprep):
    bids = seen_by(head, head.with_name("single"), one_file_a_coil)
    return run_qsmprep(bids, head.with_name("single-out"), *WORDS)


def record_of(done):
    return json.loads((done.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))


def step_of(done, stage):
    return next(step for step in record_of(done)["steps"] if step["stage"] == stage)


def test_the_map_is_that_of_one_ideal_coil(ideal, combined):
    assert ideal.status == combined.status == 0, combined.stderr
    mask = (ideal.image("desc-qsm_mask") > 0) & (combined.image("desc-qsm_mask") > 0)
    expected, found = ideal.image("Chimap")[mask], combined.image("Chimap")[mask]
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < 0.1
    assert np.allclose(combined.image("R2starmap")[mask], ideal.image("R2starmap")[mask], rtol=0.02, atol=0.1)


def test_record_sidecar_methods_text_and_report_tell_it(combined):
    step = step_of(combined, "coil-combination")
    facts = fact_values(step["facts"])
    assert step["method"] == "aspire" and facts["coils"] == COILS and facts["coil_coherence_median"] > 0.98
    assert fact_values(step_of(combined, "input")["facts"])["open_fringe_lines"] == 0
    assert len(record_of(combined)["inputs"]) == 2 * 4 * COILS
    sidecar = json.loads((combined.out / "sub-01" / "anat" / "sub-01_R2starmap.json").read_text("utf-8"))
    assert sidecar["ProcessingSteps"][0]["stage"] == "coil-combination"
    assert any("acq-coil06" in source for source in sidecar["Sources"])
    text = (combined.out / "logs" / "CITATION.md").read_text("utf-8")
    assert "images of the single coils were combined by ASPIRE [@eckstein2018; @robinson2017]" in text
    page = (combined.out / "sub-01.html").read_text("utf-8")
    assert "Combination of the coils" in page and "that is left in the sum of the coils" in page


def test_a_last_axis_is_coils_where_the_user_says_so(head, run_qsmprep, tmp_path):
    bids = seen_by(head, tmp_path / "four", last_axis)
    done = run_qsmprep(bids, tmp_path / "out", *WORDS, "--coils", "last-axis", "--dry-run")
    assert done.status == 0 and "coil-combination: ASPIRE" in done.stdout + done.stderr
