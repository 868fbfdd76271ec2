"""A chain may start at any stage: with the field, the phase or the rates that another program has computed."""

import json

import nibabel as nib
import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

FAST = ("--pipeline", "fast", "--separation", "none", "--skip-bids-validation")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, run_qsmprep):
    folder = tmp_path_factory.mktemp("reuse")
    bids = simulate(folder / "bids", SimulationOptions(voxel_size="4"))
    done = run_qsmprep(bids, folder / "out", *FAST)
    assert done.status == 0, done.stderr
    return done


@pytest.fixture
def sepia(plain, tmp_path):
    """A function: a folder as SEPIA leaves it, with one more image under its name, scaled."""

    def make(suffix, name, folder, factor=1.0, units=None):
        place = tmp_path / "sepia" / "sub-01"
        place.mkdir(parents=True, exist_ok=True)
        image = nib.load(plain.out / "sub-01" / folder / f"sub-01_{name}.nii.gz")
        values = (factor * np.asarray(image.dataobj)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, image.affine, image.header), place / f"Sepia_{suffix}.nii.gz")
        if units:
            (place / f"Sepia_{suffix}.json").write_text(json.dumps({"Units": units}))
        return f"sepia={tmp_path / 'sepia'}"

    return make


def assert_done_as_planned(done, *some):
    """What --dry-run lists of these stages was done, and nothing else: methods, and results taken over."""
    record = json.loads((done.out / "sub-01/figures/sub-01_record.json").read_text())
    stages = [stage for stage, _ in some]
    did = [step for step in record["steps"] if step["stage"] in stages]
    assert sorted((step["stage"], step["method"]) for step in did) == sorted(some)
    planned = [step for step in record["planned"] if step["stage"] in stages]
    assert [step["stage"] for step in planned] == stages
    taken = ["taken over" in step["title"] for step in planned]
    assert taken == [method == "imported" for _, method in some]


def came_from_outside(done, name):
    """Whether the activity that made an output used the result that was taken over, by the provenance."""
    (folder,) = (done.out / "prov").glob("prov-*")
    (path,) = folder.glob("*_act.json")
    activities = {one["Id"]: one for one in json.loads(path.read_text())["Activities"]}
    (path,) = folder.glob("*_ent.json")
    outside = {one["Id"] for one in json.loads(path.read_text())["ProvEntities"] if "Sepia" in one["AtLocation"]}
    assert outside
    (sidecar,) = (done.out / "sub-01").glob(f"*/sub-01_{name}.json")
    made = activities[json.loads(sidecar.read_text())["GeneratedBy"]]
    return not outside.isdisjoint(made["Used"])


def test_a_total_field_in_another_unit_gives_the_same_map_and_its_origin_is_told(plain, sepia, run_qsmprep, tmp_path):
    given = sepia("fieldmap", "desc-total_fieldmap", "fmap", 2 * np.pi, "rad/s")
    done = run_qsmprep(plain.bids, tmp_path / "out", *FAST, "--derivatives", given, "--reuse", "total-field")
    assert done.status == 0, done.stderr
    np.testing.assert_allclose(done.image("Chimap"), plain.image("Chimap"), atol=2e-4)
    steps = json.loads((done.out / "sub-01/anat/sub-01_Chimap.json").read_text())["ProcessingSteps"]
    assert "Sepia_fieldmap.nii.gz" in json.dumps(steps) and "rad/s" in json.dumps(steps)
    assert "Sepia_fieldmap.nii.gz" in (done.out / "logs" / "CITATION.md").read_text()
    assert_done_as_planned(done, ("echo-combination", "weighted"), ("field-scaling", "imported"))
    assert came_from_outside(done, "desc-total_fieldmap") and not came_from_outside(done, "desc-reliable_mask")


def test_tissue_field_and_rates_start_the_chain_behind_background_removal_and_the_fit(
    plain, sepia, run_qsmprep, tmp_path
):
    given = sepia("localfield", "desc-local_fieldmap", "fmap")
    sepia("R2starmap", "R2starmap", "anat", 1e-3, "1/ms")
    words = ("--derivatives", given, "--reuse", "tissue-field", "r2star")
    done = run_qsmprep(plain.bids, tmp_path / "out", *FAST, *words)
    assert done.status == 0, done.stderr
    np.testing.assert_allclose(done.image("Chimap"), plain.image("Chimap"), atol=2e-4)
    np.testing.assert_allclose(done.image("R2starmap"), plain.image("R2starmap"), rtol=1e-4, atol=1e-3)
    methods = (done.out / "logs" / "CITATION.md").read_text()
    assert "Sepia_localfield.nii.gz" in methods and "V-SHARP" not in methods
    assert_done_as_planned(done, ("background", "imported"), ("relaxometry", "arlo"), ("relaxometry", "imported"))


def test_unwrapped_phase_is_combined_as_if_it_had_been_unwrapped_here(plain, run_qsmprep, tmp_path):
    (unwrapped,) = plain.work.glob("*/*/field_wf/unwrap/unwrapped.nii")
    place = tmp_path / "sepia" / "sub-01"
    place.mkdir(parents=True)
    (place / "Sepia_part-phase_unwrapped.nii").write_bytes(unwrapped.read_bytes())
    words = ("--derivatives", f"sepia={tmp_path / 'sepia'}", "--reuse", "unwrapped")
    done = run_qsmprep(plain.bids, tmp_path / "out", *FAST, *words)
    assert done.status == 0, done.stderr
    assert np.array_equal(done.image("Chimap"), plain.image("Chimap"))
    assert "quality map alone" in (done.out / "logs" / "CITATION.md").read_text()
    assert_done_as_planned(done, ("unwrapping", "romeo"), ("unwrapping", "imported"))


def test_a_field_that_is_not_in_its_unit_is_refused_and_the_likely_one_named(plain, sepia, run_qsmprep, tmp_path):
    given = sepia("fieldmap", "desc-total_fieldmap", "fmap", 1 / 127.7)  # ppm, and no sidecar says so
    done = run_qsmprep(plain.bids, tmp_path / "out", *FAST, "--derivatives", given, "--reuse", "total-field")
    assert done.status == 1
    assert "Sepia_fieldmap.nii.gz" in done.stderr and "as ppm" in done.stderr


def test_what_cannot_be_taken_over_is_refused_before_anything_runs(plain, sepia, run_qsmprep, tmp_path):
    given = sepia("localfield", "desc-local_fieldmap", "fmap", units="T")
    for words, told in (
        (("--reuse", "tissue-field"), "--derivatives"),
        (("--derivatives", given, "--reuse", "tissue-field"), "rad/s"),
        (("--derivatives", given, "--reuse", "total-field"), "*_fieldmap.nii.gz"),
    ):
        done = run_qsmprep(plain.bids, tmp_path / "out", *FAST, "--dry-run", *words)
        assert done.status != 0 and told in done.stderr, done.stderr
