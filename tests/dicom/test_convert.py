"""DICOM becomes BIDS: the same voxels, names by metadata, nobody's name, and what is wrong is told by name."""

import gzip
import json
import shutil
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scanner
from scanner import random_scan

from qsmprep.bids.query import find_runs
from qsmprep.cli.commands import run_command

HABITS = ("siemens", "siemens-xa", "ge", "philips", "philips-enhanced")
NAMES = [f"sub-01_echo-{echo}_part-{part}_MEGRE" for echo, part in product((1, 2), ("mag", "phase"))]
# How each maker says that an image is something else: facts of the header -> word of the reason.
LEFT_OUT = {
    "filtered": ({"SequenceName": "*swi3d1r"}, "high-pass"),
    "filtered by its type": ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "SWI"]}, "high-pass"),
    "derived": ({"ImageType": ["DERIVED", "PRIMARY", "M", "MPR"]}, "derived"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]}, "localizer"),
    "field map": ({"ImageType": ["ORIGINAL", "PRIMARY", "B0", "B0 MAP"]}, "field map"),
    "echo planar": ({"ScanningSequence": "EP"}, "echo planar"),
    "flow": ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "PCA"]}, "flow"),
    "field mapping": ({"SequenceName": "*fm2d2r"}, "phase difference"),
}


def canonical(values, affine):
    """Values in an order of axes that does not depend on how a file stores them, and where they lie."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(values, float), affine))
    return image.get_fdata(), image.affine


def in_the_world(path: Path):
    image = nib.load(path)
    return canonical(image.dataobj, image.affine)


LARGE = (40, 50, 10)  # from such a size on dcm2niix makes garbage of several enhanced files that it is given at once
CASES = [*((habit, "axial") for habit in HABITS), ("siemens", "sagittal"), ("ge", "coronal")]


@pytest.mark.parametrize(("habit", "plane"), CASES)
def test_the_voxels_are_those_that_the_scanner_stored(dicom, convert, tmp_path, habit, plane):
    parts = ("real", "imag") if habit == "ge" else ("mag", "phase")
    images = random_scan(parts, plane=plane, shape=LARGE)
    scanner.write(dicom, images, habit)
    status, names = convert()
    assert status == 0
    assert names == sorted(f"sub-01_echo-{e}_part-{p}_MEGRE" for e, p in product((1, 2), parts))
    for image in images:
        name = f"sub-01_echo-{image.echo}_part-{image.part}_MEGRE.nii.gz"
        values, affine = in_the_world(tmp_path / "bids/sub-01/anat" / name)
        slope, scale = image.slope, 1.0
        if habit.startswith("philips"):  # its precise scaling: the phase in radians, the magnitude as it was received
            slope, scale = scanner.philips_slope(image), scanner.PHILIPS_SCALE[image.part]
        expected, place = canonical((image.stored * slope + image.intercept) / scale, image.affine)
        # dcm2niix writes Philips' slope to some 1e-4
        np.testing.assert_allclose(values, expected, atol=(5e-4 if "philips" in habit else 0) * np.abs(expected).max())
        np.testing.assert_allclose(affine, place, atol=1e-4)


def test_a_real_philips_scan_is_the_same_from_both_forms_and_as_its_reference(real_data, tmp_path, capsys):
    source = real_data / "dicom-philips"
    if not source.is_dir():
        pytest.skip(f"no scan: {source} does not exist")
    for form in ("classic", "enhanced"):
        assert run_command(["convert", str(source / form), str(tmp_path / form), "--yes"]) == 0
    for echo, (part, end) in product((1, 2), (("mag", ""), ("phase", "_ph"))):
        name = f"sub-01/anat/sub-01_echo-{echo}_part-{part}_MEGRE.nii.gz"
        (reference,) = (source / "reference-nifti").glob(f"*_e{echo}{end}.nii.gz")
        expected, affine = in_the_world(reference)
        for form in ("classic", "enhanced"):
            values, found = in_the_world(tmp_path / form / name)
            assert np.array_equal(values, expected)
            np.testing.assert_allclose(found, affine, atol=1e-4)
    told = json.loads((tmp_path / "enhanced" / name).with_suffix("").with_suffix(".json").read_text())
    assert told["Units"] == "rad" and told["EchoTime"] == 0.0046
    assert told["FlowCompensation"] == "velocity, slice and freq" and told["EllipticalShutter"] is True


def test_the_scan_is_a_run_of_the_pipeline_with_what_the_consensus_asks_for(dicom, convert, tmp_path):
    scanner.write(dicom, random_scan(echoes=3), "siemens")
    assert convert()[0] == 0
    (run,) = find_runs(tmp_path / "bids").runs
    assert run.echo_times_s == (0.005, 0.01, 0.015) and not run.problems and run.manufacturer == "Siemens"
    expected = {"AcquisitionDuration": 333, "TransmitCoilName": "BODY", "FrequencyEncodingSteps": 48,
                "CoilString": "HEA;HEP", "AcquisitionMatrixPE": 40, "RepetitionTimeExcitation": 0.033,
                "FlipAngle": 15, "FlowCompensation": "on",
                "SoftwareVersions": "1.0", "PixelBandwidth": 220, "MRAcquisitionType": "3D"}  # fmt: skip
    assert {key: run.metadata.get(key) for key in expected} == expected


@pytest.mark.parametrize("habit", ["siemens", "philips-enhanced"])
def test_nothing_in_the_dataset_names_the_person_or_the_day(dicom, convert, tmp_path, habit):
    scanner.write(dicom, random_scan(), habit, ProtocolName="qsm doe", SeriesDescription="MR-0815 qsm")
    assert convert()[0] == 0
    secrets = (b"Doe", b"doe", b"Jane", b"0815", b"1977", b"20260317", b"2026-03-17", b"1.2.826", b"Oz", b"MR77",
               b"31337", b"Smith", b"4711", b"10:00:00", b"100000.0")  # fmt: skip
    files = [path for path in (tmp_path / "bids").rglob("*") if path.is_file()]
    assert len(files) == 11
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".gz":
            assert content[3] == 0 and content[4:8] == bytes(4)  # neither a file name nor a time in gzip's header
            content = gzip.decompress(content)[:352]
            assert nib.load(path).header["descrip"] == b""
        assert not [secret for secret in secrets if secret in content], path


def test_identifiers_stay_where_that_is_asked_for(dicom, convert, tmp_path):
    scanner.write(dicom, random_scan(), "siemens")
    assert convert("--keep-identifiers")[0] == 0
    told = json.loads((tmp_path / f"bids/sub-01/anat/{NAMES[0]}.json").read_text())
    assert told["PatientID"] == "MR-0815" and told["DeviceSerialNumber"] == "31337"


def test_the_same_call_again_changes_nothing_and_other_voxels_are_not_overwritten(dicom, convert, tmp_path, capsys):
    scanner.write(dicom, random_scan(), "siemens")
    assert convert() == (0, NAMES)
    added = tmp_path / f"bids/sub-01/anat/{NAMES[0]}.json"
    added.write_text(added.read_text().replace('"EchoTime"', '"ReadoutPolarity": "monopolar", "EchoTime"'))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "bids").rglob("*.*")
              if path.is_file()}  # fmt: skip
    assert convert() == (0, NAMES)
    shutil.rmtree(dicom)
    scanner.write(dicom, random_scan(seed=1), "siemens")
    capsys.readouterr()
    assert convert()[0] == 1
    assert "not overwritten" in capsys.readouterr().err
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}


def test_two_scans_are_two_runs_in_the_order_of_time(dicom, convert, tmp_path):
    late, early = random_scan(seed=1), random_scan(seed=2)
    scanner.write(dicom / "b", late, "siemens", begin=10.5, first=5)
    scanner.write(dicom / "a", early, "siemens", begin=9.25, first=8)
    status, names = convert()
    assert status == 0 and len(names) == 8
    for number, images in enumerate((early, late), 1):
        values, _ = in_the_world(tmp_path / f"bids/sub-01/anat/sub-01_run-{number}_echo-1_part-mag_MEGRE.nii.gz")
        assert np.array_equal(values, canonical(images[0].stored, images[0].affine)[0])


def test_several_participants_and_visits_in_one_call(dicom, convert, tmp_path):
    jane, john = scanner.Patient(), scanner.Patient("Roe^John", "MR-0007", "19500101")
    scanner.write(dicom / "x", random_scan(), "siemens", patient=jane, study="1")
    scanner.write(dicom / "y", random_scan(), "siemens", patient=jane, study="2", StudyDate="20270401")
    scanner.write(dicom / "z", random_scan(), "ge", patient=john, study="3")
    status, names = convert()
    assert status == 0
    assert {name.split("_echo")[0] for name in names} == {"sub-01", "sub-02_ses-01", "sub-02_ses-02"}
    table = (tmp_path / "bids/participants.tsv").read_text().split()
    assert table == ["participant_id", "sub-01", "sub-02"]
    rules = tmp_path / "rules.toml"
    rules.write_text('[participants]\n"MR-0815" = "jd"\n[sessions]\n20270401 = "late"\n20260317 = "early"\n')
    shutil.rmtree(tmp_path / "bids")
    _, names = convert("--rules", rules, "--participants-from", "id")
    assert {name.split("_echo")[0] for name in names} == {"sub-MR0007_ses-early", "sub-jd_ses-early", "sub-jd_ses-late"}


def test_a_label_for_one_participant_is_not_given_to_two(dicom, convert, capsys):
    scanner.write(dicom / "x", random_scan(), "siemens")
    assert convert("--participant-label", "sub-x7", "--session-label", "a")[1][0].startswith("sub-x7_ses-a_")
    scanner.write(dicom / "y", random_scan(), "siemens", patient=scanner.Patient("Roe^John", "MR-0007"), study="2")
    assert convert("--participant-label", "x7")[0] == 2
    assert "2 persons" in capsys.readouterr().err


def test_what_is_no_image_is_named_and_left_out(dicom, convert, capsys):
    scanner.write(dicom, random_scan(), "siemens")
    (dicom / "notes.txt").write_text("none")
    (dicom / "DICOMDIR").write_bytes(b"index")
    whole = (dicom / "0005_00001.dcm").read_bytes()
    (dicom / "broken.dcm").write_bytes(whole[:300])
    status, names = convert()
    told = capsys.readouterr().err
    assert (status, names) == (0, NAMES)
    assert "notes.txt: not a DICOM file" in told and "broken.dcm: a damaged DICOM file" in told


def remove(folder, series, numbers):
    for one, number in product(series, numbers):
        (folder / f"{one:04d}_{number:05d}.dcm").unlink()


def cut(folder):
    path = folder / "0005_00004.dcm"
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(("damage", "word"), [
    (lambda folder: remove(folder, (5,), (4,)), "1 of 12 slices of the magnitude of the echo at 5 ms"),
    (cut, "cut off"),
    (lambda folder: remove(folder, (5, 6), (4, 16)), "missing in every image"),
    (lambda folder: remove(folder, (6,), range(13, 25)), "no phase of the echo at 10 ms"),
    (lambda folder: remove(folder, (5, 6), range(1, 13)), "echo 1 is missing"),
])  # fmt: skip
def test_what_a_copy_lost_is_named_and_not_converted(dicom, convert, capsys, damage, word):
    echoes = 3 if "phase of" in word else 2
    scanner.write(dicom, random_scan(echoes=echoes), "siemens")
    damage(dicom)
    assert convert() == (1, [])
    told = capsys.readouterr()
    assert word in told.err


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_qsm_cannot_use_is_left_out_with_the_reason(dicom, convert, capsys, case):
    facts, word = LEFT_OUT[case]
    scanner.write(dicom, random_scan(), "siemens")
    parts = ("mag", "phase") if case in ("filtered", "field mapping") else ("mag",)
    scanner.write(dicom, random_scan(parts), "siemens", begin=11, first=20, **facts)
    status, names = convert()
    assert (status, names) == (0, NAMES)
    assert word in capsys.readouterr().out


def test_a_phase_difference_alone_is_refused(dicom, convert, capsys):
    images = [image for image in random_scan() if image.part == "mag" or image.echo == 2]
    scanner.write(dicom, images, "siemens")
    assert convert() == (1, [])
    assert "refused: a phase difference alone" in capsys.readouterr().out


def test_t1w_and_spin_echoes_are_told_by_their_sequence(dicom, convert, tmp_path):
    scanner.write(dicom, random_scan(), "siemens", ProtocolName="t1_mprage")
    scanner.write(dicom, random_scan(("mag",), echoes=1), "siemens", begin=11, first=20, ProtocolName="x",
                  InversionTime=900, ScanningSequence=["GR", "IR"], SequenceName="*tfl3d1_16ns")  # fmt: skip
    scanner.write(dicom, random_scan(("mag",), echoes=4), "siemens", begin=12, first=30, ProtocolName="y",
                  ScanningSequence="SE", SequenceName="*se2d")  # fmt: skip
    status, names = convert()
    assert status == 0
    assert names == sorted([*NAMES, "sub-01_T1w", *(f"sub-01_echo-{echo}_MESE" for echo in range(1, 5))])
    query = find_runs(tmp_path / "bids")
    assert len(query.runs) == len(query.spin_echoes) == 1


def test_uncombined_coils_are_a_file_a_coil_in_the_order_of_their_numbers(dicom, convert, tmp_path):
    images = random_scan(coils=("H10", "H2"))
    scanner.write(dicom, images, "siemens")
    status, names = convert()
    assert status == 0
    assert names == sorted(name.replace("_echo", f"_acq-coil{c:02d}_echo") for name in NAMES for c in (1, 2))
    values, _ = in_the_world(tmp_path / "bids/sub-01/anat/sub-01_acq-coil01_echo-1_part-mag_MEGRE.nii.gz")
    first = next(image for image in images if image.coil == "H2")
    assert np.array_equal(values, canonical(first.stored, first.affine)[0])
    told = json.loads((tmp_path / "bids/sub-01/anat/sub-01_acq-coil01_echo-1_part-mag_MEGRE.json").read_text())
    assert told["CoilString"] == "H2"


def test_of_images_with_and_without_correction_the_less_resampled_are_taken(dicom, convert, tmp_path):
    plain, corrected = random_scan(seed=1), random_scan(seed=2)
    scanner.write(dicom / "b", corrected[:2], "siemens", first=3, ImageType=["ORIGINAL", "PRIMARY", "M", "DIS3D"])
    scanner.write(dicom / "a", plain, "siemens", first=5)
    assert convert() == (0, NAMES)
    values, _ = in_the_world(tmp_path / f"bids/sub-01/anat/{NAMES[0]}.nii.gz")
    assert np.array_equal(values, canonical(plain[0].stored, plain[0].affine)[0])


def test_a_rule_of_the_study_says_what_a_series_is(dicom, convert, tmp_path):
    scanner.write(dicom, random_scan(), "siemens", ProtocolName="QSM high")
    scanner.write(dicom, random_scan(), "siemens", begin=11, first=20, ProtocolName="test")
    rules = tmp_path / "rules.toml"
    rules.write_text('[[series]]\nwhere = { ProtocolName = "qsm*" }\nacq = "high"\n'
                     '[[series]]\nwhere = { SeriesNumber = [20, 21] }\nuse = "nothing"\n')  # fmt: skip
    assert convert("--rules", rules) == (0, [name.replace("_echo", "_acq-high_echo") for name in NAMES])
    rules.write_text('[[series]]\nwhere = { Protocol = "qsm*" }\n')
    assert convert("--rules", rules)[0] == 2


def test_protocols_that_differ_are_told_apart_by_their_names(dicom, convert):
    scanner.write(dicom, random_scan(), "siemens", ProtocolName="QSM high")
    scanner.write(dicom, random_scan(), "siemens", begin=11, first=20, ProtocolName="qsm_low")
    _, names = convert()
    assert {name.split("_")[1] for name in names} == {"acq-QSMhigh", "acq-qsmlow"}


def test_one_echo_beside_several_has_a_name_of_its_own_in_the_outputs(dicom, convert, tmp_path):
    scanner.write(dicom, random_scan(), "siemens")
    scanner.write(dicom, random_scan(echoes=1), "siemens", begin=11, first=20)
    assert convert()[0] == 0
    query = find_runs(tmp_path / "bids")
    assert [(run.name, run.suffix) for run in query.runs] == [("sub-01_run-1", "MEGRE"), ("sub-01_run-2", "T2starw")]
    assert not query.problems


def test_nothing_is_written_before_the_table_is_agreed_to(dicom, convert, capsys):
    scanner.write(dicom, random_scan(), "siemens")
    assert convert(confirm=("--dry-run",)) == (0, [])
    assert "sub-01_echo-{1,2}_part-{mag,phase}_MEGRE" in capsys.readouterr().out
    assert convert(confirm=()) == (2, [])
    assert "--yes" in capsys.readouterr().err


def test_the_pipeline_says_what_to_do_with_a_folder_of_dicom(dicom):
    scanner.write(dicom, random_scan(), "siemens")
    (problem,) = find_runs(dicom).problems
    assert problem.code == "dataset-is-dicom" and "qsmprep-tools convert" in problem.remedy
