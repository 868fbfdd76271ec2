"""`qsmprep-tools score` and `tune` as a user meets them: files in, files out, and what they refuse."""

import csv
import json
import tomllib

import nibabel as nib
import numpy as np
import pytest
from documents import facts

from qsmprep import registry, settings
from qsmprep.app import tuning
from qsmprep.app.sidecars import scan_behind
from qsmprep.cli.parser import parse
from qsmprep.cli.tools import main
from qsmprep.numerics.dipole import b0_direction_from_affine, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn

SHAPE = (26, 24, 22)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
FREQUENCY = 123.2
STUDY = """
pipeline = "fast"
[background]
method = "pdf"
[inversion.fansi]
weak_harmonic = false
"""
FACTS = ["--centre-frequency", str(FREQUENCY), "--echo-times", "0.005,0.011"]


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sphere in a box: true susceptibility, its field with noise, mask, labels, magnitude."""
    folder = tmp_path_factory.mktemp("files")
    place = np.indices(SHAPE) - np.array([12.5, 11.5, 10.5])[:, None, None, None]
    mask = (place**2).sum(axis=0) < 9.5**2
    labels = np.where(mask, 8, 0)
    for label, x in enumerate((-5, 0, 5), 1):
        labels[((place - np.array([x, 0, 0])[:, None, None, None]) ** 2).sum(axis=0) < 2.5**2] = label
    rng = np.random.default_rng(0)
    chi = np.choose(np.minimum(labels, 4), [0, 0.05, 0.15, 0.1, -0.03]) * mask
    kernel = dipole_kernel(SHAPE, (2, 2, 2), b0_direction_from_affine(AFFINE))
    field = (irfftn(rfftn(chi.astype(np.float32)) * kernel, SHAPE) + 0.002 * rng.normal(size=SHAPE)) * mask
    return {
        "chi": save(folder / "chi.nii.gz", chi),
        "field": save(folder / "field.nii.gz", field * FREQUENCY),
        "mask": save(folder / "mask.nii.gz", mask),
        "labels": save(folder / "labels.nii.gz", labels),
        "magnitude": save(folder / "magnitude.nii.gz", mask * (100.0 + 50 * labels)),
    }


def run(*words):
    return main([str(word) for word in words])


def test_score_prints_and_writes_every_score(files, tmp_path, capsys):
    half = save(tmp_path / "half.nii.gz", 0.5 * np.asarray(nib.load(files["chi"]).dataobj) + 0.4)
    table = tmp_path / "scores.csv"
    assert run("score", half, files["chi"], files["mask"], "--labels", files["labels"], "--csv", table) == 0
    rows = {row["score"]: row for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    assert float(rows["rmse"]["value"]) == pytest.approx(50, rel=1e-4)
    assert float(rows["slope_deep_grey"]["value"]) == pytest.approx(0.5, abs=1e-3)
    assert rows["calcification_streak"]["value"] == "n/a"
    assert "no calcification" in rows["calcification_streak"]["warning"]
    shown = capsys.readouterr().out
    for name in rows:
        assert name.replace("_", " ") in shown
    assert run("score", half, files["chi"], files["mask"], "--keep-reference", "--csv", table) == 0
    rows = {row["score"]: row for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    assert float(rows["rmse"]["value"]) > 200
    assert "slope_deep_grey" not in rows


def test_score_refuses_another_grid_and_says_which_file_and_what_to_do(files, tmp_path, capsys):
    chi = np.asarray(nib.load(files["chi"]).dataobj)
    moved = AFFINE.copy()
    moved[0, 3] = 5
    for wrong, needle in (
        (save(tmp_path / "cut.nii.gz", chi[1:]), "25 x 24 x 22 voxels instead of 26 x 24 x 22"),
        (save(tmp_path / "moved.nii.gz", chi, moved), "5 mm (2.5 voxels) away"),
        (save(tmp_path / "flipped.nii.gz", chi, AFFINE @ np.diag([-1, 1, 1, 1])), "voxels) away"),
    ):
        assert run("score", wrong, files["chi"], files["mask"]) == 2
        told = capsys.readouterr().err
        assert wrong.name in told
        assert "chi.nii.gz" in told
        assert needle in told
        assert "Resample" in told


def test_score_refuses_what_is_no_image(files, tmp_path, capsys):
    assert run("score", tmp_path / "none.nii.gz", files["chi"], files["mask"]) == 2
    assert "none.nii.gz" in capsys.readouterr().err
    four = save(tmp_path / "four.nii.gz", np.zeros((*SHAPE, 3)))
    assert run("score", four, files["chi"], files["mask"]) == 2
    assert "three-dimensional" in capsys.readouterr().err


def read_table(folder):
    lines = (folder / "tune.tsv").read_text("utf-8").splitlines()
    return list(csv.DictReader(lines, delimiter="\t"))


def test_tune_takes_the_least_error_where_the_truth_is_known(files, tmp_path, capsys):
    words = ["tune", files["field"], files["mask"], tmp_path, "--method", "tkd", "--truth", files["chi"], *FACTS]
    assert run(*words, "--from", 0.02, "--to", 0.6, "--steps", 7) == 0
    rows = read_table(tmp_path)
    assert len(rows) == 7
    best = min(rows, key=lambda row: float(row["error_percent"]))
    chosen = tomllib.loads((tmp_path / "tune.toml").read_text("utf-8"))["inversion"]
    assert chosen["method"] == ["tkd"]
    assert chosen["tkd"]["threshold"] == pytest.approx(float(best["value"]), rel=1e-3)
    assert "least error" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tuned(files, tmp_path_factory):
    """The L-curve of FANSI's alpha1, its other options from a settings file."""
    folder = tmp_path_factory.mktemp("tuned")
    study = folder / "study.toml"
    study.write_text(
        'pipeline = "fast"\n[background]\nmethod = "pdf"\n[inversion.fansi]\nweak_harmonic = false\n', "utf-8"
    )
    words = ["tune", files["field"], files["mask"], folder / "out", "--method", "fansi", "--config-file", study]
    assert run(*words, "--magnitude", files["magnitude"], "--steps", 7, *FACTS) == 0
    return folder / "out"


def test_the_pipeline_accepts_what_tune_chose(tuned):
    document = settings.read_settings(tuned / "tune.toml")
    built = settings.build(document)
    options = built.options_of("inversion", "fansi")
    assert built.methods["inversion"] == ("fansi",)
    assert options.alpha1 == document["inversion"]["fansi"]["alpha1"]
    assert options.mu1 == pytest.approx(100 * options.alpha1, rel=1e-3)
    assert (built.pipeline, built.method("background"), options.weak_harmonic) == ("fast", "pdf", False)
    from_flag = parse(["data", "out", "participant", "--config-file", str(tuned / "tune.toml")])[1]
    assert settings.to_document(from_flag) == settings.to_document(built)
    assert built.tuned["option"] == "alpha1" and built.tuned["value"] == options.alpha1
    assert built.tuned["followers"] == {"mu1": options.mu1} and built.tuned["reason"]


def test_a_note_of_tuning_that_is_none_is_refused():
    with pytest.raises(ValueError, match="tuned is 3; it must be the table"):
        settings.build({"tuned": 3})


def test_every_candidate_is_in_the_table_and_the_choice_lies_among_them(tuned):
    rows = read_table(tuned)
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values)
    assert len(values) == 7
    assert all(
        row["error_percent"] == "n/a" and float(row["misfit"]) > 0 and int(row["iterations"]) > 0 for row in rows
    )
    alpha1 = tomllib.loads((tuned / "tune.toml").read_text("utf-8"))["inversion"]["fansi"]["alpha1"]
    assert values[0] <= alpha1 <= values[-1]
    penalties = [float(row["penalty"]) for row in rows]
    assert penalties[0] > penalties[-1]


def test_the_figure_is_a_picture(tuned):
    from PIL import Image

    with Image.open(tuned / "tune.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 300


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["--method", "tkd", "--echo-times", "0.005"], "--centre-frequency"),
        (["--method", "fansi", "--centre-frequency", "123"], "--echo-times"),
        (["--method", "tkd", *FACTS, "--option", "kernel"], "threshold"),
        (["--method", "tkd", *FACTS, "--from", "0.1", "--to", "3"], "allowed is"),
        (["--method", "tkd", *FACTS, "--from", "0.3", "--to", "0.1"], "FROM < TO"),
        (["--method", "tkd", *FACTS, "--steps", "3"], "five values"),
        (["--method", "tkd", *FACTS, "--b0-direction", "0,0"], "0,0,1"),
        (["--method", "tkd", "--centre-frequency", "123", "--echo-times", "a"], "numbers"),
    ],
)
def test_tune_refuses_what_makes_no_sense(files, tmp_path, capsys, words, needle):
    assert run("tune", files["field"], files["mask"], tmp_path / "out", *words) == 2
    assert needle in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [m.name for m in registry.METHODS if m.tuning])
def test_the_default_option_of_a_method_can_be_varied(name):
    method = registry.find("inversion", name)
    option = tuning.default_option(method)
    start, stop = tuning.usual_range(method, option)
    assert option == method.tuning.option
    assert len(tuning.values_to_try(method.options_type()(), option, start, stop, 15)) >= 5


def test_whole_numbers_stay_whole():
    rts = registry.find("inversion", "rts").options_type()()
    assert tuning.values_to_try(rts, "lsmr_iterations", 1, 16, 5) == [1, 2, 4, 8, 16]
    assert tuning.values_to_try(rts, "lsmr_iterations", 1, 3, 9) == [1, 2, 3]


def test_facts_of_the_scan_are_found_behind_a_field_map_of_qsmprep(tmp_path):
    raw, out = tmp_path / "my data", tmp_path / "out"
    names = []
    for number, time in enumerate((0.004, 0.009, 0.014), 1):
        for part in ("mag", "phase"):
            name = f"sub-01/anat/sub-01_echo-{number}_part-{part}_MEGRE"
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            (raw / f"{name}.json").write_text(json.dumps({"EchoTime": time}), "utf-8")
            names.append(f"bids:raw:{name}.nii.gz")
    fmap = out / "sub-01" / "fmap"
    fmap.mkdir(parents=True)
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"raw": raw.as_uri()}}), "utf-8")
    (fmap / "sub-01_desc-total_fieldmap.json").write_text(json.dumps({"Sources": names}), "utf-8")
    steps = [{"facts": facts(centre_frequency=123.251)}]
    local = {
        "Sources": ["bids::sub-01/fmap/sub-01_desc-total_fieldmap.nii.gz"],
        "Units": "Hz",
        "ProcessingSteps": steps,
    }
    (fmap / "sub-01_desc-local_fieldmap.json").write_text(json.dumps(local), "utf-8")
    found = scan_behind(fmap / "sub-01_desc-local_fieldmap.nii.gz")
    assert found.centre_frequency_mhz == 123.251
    assert found.echo_times_s == (0.004, 0.009, 0.014)
    steps.append({"facts": facts(echoes_used=[1, 3])})
    (fmap / "sub-01_desc-local_fieldmap.json").write_text(json.dumps(local), "utf-8")
    assert scan_behind(fmap / "sub-01_desc-local_fieldmap.nii.gz").echo_times_s == (0.004, 0.014)
    assert scan_behind(tmp_path / "alone.nii.gz").echo_times_s == ()


def test_a_field_in_ppm_is_refused(files, tmp_path, capsys):
    field = save(tmp_path / "field.nii.gz", np.asarray(nib.load(files["field"]).dataobj))
    (tmp_path / "field.json").write_text('{"Units": "ppm"}', "utf-8")
    assert run("tune", field, files["mask"], tmp_path / "out", "--method", "tkd", *FACTS) == 2
    assert "in Hz" in capsys.readouterr().err


def test_score_takes_a_mask_by_the_rules_of_the_pipeline(files, tmp_path, capsys):
    mask = np.asarray(nib.load(files["mask"]).dataobj) > 0
    nan = save(tmp_path / "nan.nii.gz", np.where(mask, 1, np.nan).astype(np.float32))
    scores = []
    for given in (files["mask"], nan):
        assert run("score", files["chi"], files["chi"], given) == 0
        scores.append(capsys.readouterr())
    assert scores[0].out == scores[1].out
    assert "NaN" in scores[1].err
    assert run("score", files["chi"], files["chi"], save(tmp_path / "labels.nii.gz", mask + 1.0)) == 2
    assert "not binary" in capsys.readouterr().err
