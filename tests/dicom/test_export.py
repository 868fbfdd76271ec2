"""A map as DICOM: the same values at the same places, the patient's own study, nothing overwritten, no error."""

import json
import os
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from qsmprep.bids.grid import Grid
from qsmprep.cli.tools import main
from qsmprep.dicom.export_geometry import lay_on
from qsmprep.dicom.export_values import LARGEST, store

spec = spec_from_file_location("export_reference_files", Path(__file__).with_name("export_reference_files.py"))
files = module_from_spec(spec)
spec.loader.exec_module(files)

REAL = Path(os.environ.get("QSMPREP_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "dicom-philips"
KINDS = {"classic": files.classic, "enhanced": files.enhanced}


def chi(seed=0):
    return np.random.default_rng(seed).normal(0, 0.05, (files.COLUMNS, files.ROWS, files.SLICES)).astype("f4")


def save(path, volume, affine, *, units="ppm"):
    image = nib.Nifti1Image(volume, affine)
    image.set_sform(affine, 1), image.set_qform(affine, 1)
    nib.save(image, path)
    sidecar = {"Units": units, "Description": "Magnetic susceptibility (SI).", "EstimationAlgorithm": "FANSI"}
    Path(str(path).removesuffix(".gz").removesuffix(".nii") + ".json").write_text(json.dumps(sidecar))
    return path


def turned(volume, affine, axes, flips):
    """The same map with its axes in another order and some turned around, as other programs write it."""
    image = nib.Nifti1Image(volume, affine)
    ornt = np.array([[axes.index(axis), -1 if axis in flips else 1] for axis in range(3)], float)
    moved = image.as_reoriented(ornt)
    return np.asarray(moved.dataobj), moved.affine


def read_back(folder):
    """Values (column, row, slice) in the stored unit, and the images, by their own attributes alone."""
    images = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda image: image.InstanceNumber)
    stack = [(image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)).T for image in images]
    return np.stack(stack, axis=-1), images


def export(*words):
    return main(["export-dicom", *map(str, words)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), ()), ((2, 0, 1), (1,)), ((1, 2, 0), (0, 2))])
def test_every_value_stands_at_its_place(tmp_path, kind, axes, flips):
    volume, reference = chi(), KINDS[kind](tmp_path / "in")
    path = save(tmp_path / "sub-1_Chimap.nii.gz", *turned(volume, files.affine(), axes, flips))
    assert export(path, reference, tmp_path / "out") == 0
    found, images = read_back(tmp_path / "out")
    step = float(images[0].RescaleSlope)
    np.testing.assert_allclose(found, 1000 * volume, atol=0.51 * step)
    assert step < 0.01  # ppb
    for number, image in enumerate(images):
        np.testing.assert_allclose(image.ImagePositionPatient, np.array(files.position(number), float), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_series_belongs_to_patient_study_and_frame_and_is_a_new_one(tmp_path, kind):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    export(path, KINDS[kind](tmp_path / "in"), tmp_path / "out")
    _, images = read_back(tmp_path / "out")
    assert len({image.SOPInstanceUID for image in images}) == files.SLICES
    for image in images:
        assert (image.StudyInstanceUID, image.FrameOfReferenceUID) == (files.STUDY, files.FRAME)
        assert image.SeriesInstanceUID not in (files.SERIES, files.STUDY)
        assert (str(image.PatientName), image.PatientID, image.AccessionNumber) == ("Müller^Jo", "P7", "A9")
        assert image.ClinicalTrialProtocolID == "T1"
        assert list(image.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert "NOT FOR DIAGNOSIS" in image.ImageComments
        assert image.ContentQualification == "RESEARCH"
        assert "not for diagnosis" in image.SeriesDescription
        assert (image.RescaleType, image.WindowCenter, image.WindowWidth) == ("ppb", 0, 400)
        unit = image.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0]
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[ppb]", "UCUM")
        assert image.RealWorldValueMappingSequence[0].RealWorldValueSlope == float(image.RescaleSlope)
        assert image.ScanningSequence == "GR"
        assert image.RepetitionTime == 30
        assert image.EchoTime is None  # of several echoes
        assert image.ContributingEquipmentSequence[0].Manufacturer == "Maker"
        assert "FANSI" in image.DerivationDescription


@pytest.mark.parametrize("kind", KINDS)
def test_each_slice_names_the_images_that_lie_there(tmp_path, kind):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    export(path, KINDS[kind](tmp_path / "in"), tmp_path / "out")
    for number, image in enumerate(read_back(tmp_path / "out")[1]):
        sources = [(s.ReferencedSOPInstanceUID, s.get("ReferencedFrameNumber")) for s in image.SourceImageSequence]
        classic = [(f"1.2.3.4.{echo}.{number}", None) for echo in (1, 2)]
        frames = [("1.2.3.5", 2 * number + 1), ("1.2.3.5", 2 * number + 2)]
        assert sources == (classic if kind == "classic" else frames)
        assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == files.SERIES


def test_the_same_input_gives_the_same_bytes_and_another_map_another_series(tmp_path):
    reference = files.classic(tmp_path / "in")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export(save(tmp_path / "sub-1_Chimap.nii.gz", chi(seed), files.affine()), reference, tmp_path / name)
    a, b = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "ab")
    assert a == b
    uids = [pydicom.dcmread(tmp_path / name / "0001.dcm").SeriesInstanceUID for name in "ac"]
    assert uids[0] != uids[1]


@pytest.mark.parametrize("change", ["shifted", "turned", "cropped"])
def test_a_map_of_another_grid_is_refused_with_both_grids(tmp_path, capsys, change):
    affine, volume = files.affine(), chi()
    if change == "shifted":
        affine[2, 3] += 0.5
    elif change == "turned":
        affine[:3, :3] = np.diag([-1.0, -1.5, 2])
    else:
        volume = volume[:, :-1]
    path = save(tmp_path / "sub-1_Chimap.nii.gz", volume, affine)
    assert export(path, files.classic(tmp_path / "in"), tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "the map has" in told and "the reference has 6 x 5 x 4 voxels of 1 x 1.5 x 2 mm" in told
    assert not (tmp_path / "out").exists()


def test_a_mirrored_map_is_not_taken_for_the_same_grid():
    # the mirror image of a volume centred on the mirror has the same corners
    grid = Grid((4, 4, 4), np.array([[1.0, 0, 0, -1.5], [0, 1, 0, -1.5], [0, 0, 1, -1.5], [0, 0, 0, 1]]))
    mirrored = Grid(grid.shape, np.diag([-1.0, 1, 1, 1]) @ grid.affine)
    volume = np.arange(64, dtype="f4").reshape(4, 4, 4)
    np.testing.assert_array_equal(lay_on(volume, grid, mirrored), volume[::-1])


def test_nothing_is_overwritten(tmp_path, capsys):
    path, reference = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine()), files.classic(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    assert export(path, reference, tmp_path / "empty") == 0
    assert export(path, reference, tmp_path / "empty") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["empty", "in", "sub-1_Chimap.json", path.name]


def test_what_is_no_stack_is_refused(tmp_path, capsys):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    missing = files.classic(tmp_path / "missing", leave_out=(1,))
    assert export(path, missing, tmp_path / "out") == 2
    assert "no even stack" in capsys.readouterr().err
    assert export(path, missing / "1-1.dcm", tmp_path / "out") == 2
    assert "a single slice" in capsys.readouterr().err
    several = files.classic(tmp_path / "several")
    files.classic(tmp_path / "several" / "phase", SeriesInstanceUID="1.2.3.9", SeriesNumber=6)
    assert export(path, several, tmp_path / "out") == 2
    assert "5 (gre), 6 (gre)" in capsys.readouterr().err
    assert export(path, several, tmp_path / "out", "--series", 6) == 0
    assert export(path, tmp_path / "nothing", tmp_path / "out2") == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no image")
    assert export(path, tmp_path / "other", tmp_path / "out2") == 2
    assert "no MR image" in capsys.readouterr().err


def test_nan_becomes_zero_infinity_is_refused_and_a_range_cuts():
    volume = np.array([[[np.nan, 0.2, -0.1, 5.0]]], "f4")
    stored = store(volume, "ppm")
    assert stored.not_finite == 1 and stored.numbers[0, 0, 0] == 0
    np.testing.assert_allclose(stored.numbers[0, 0] * stored.slope, [0, 200, -100, 5000], atol=stored.slope / 2)
    cut = store(volume, "ppm", limits=(-1000, 1000))
    assert cut.cut == 1 and cut.slope == pytest.approx(1000 / LARGEST, rel=1e-6)
    assert np.abs(cut.numbers).max() == LARGEST
    with pytest.raises(ValueError, match="1 infinite"):
        store(np.array([[[np.inf, 0]]]), "ppm")
    assert store(volume, "ppm", keep_unit=True).unit == "ppm"


@pytest.mark.parametrize("largest", [1e-9, 0.123456789, 1.0, 3.3333333e7])
def test_the_slope_fits_a_decimal_string_and_no_number_overflows(largest):
    stored = store(np.array([[[largest, -largest]]]), "Hz")
    assert np.abs(stored.numbers).max() in (LARGEST, LARGEST - 1)
    assert stored.numbers[0, 0, 0] == -stored.numbers[0, 0, 1] > 0


def test_a_map_without_a_unit_says_what_to_give(tmp_path, capsys):
    path = save(tmp_path / "strange.nii.gz", chi(), files.affine(), units="")
    assert export(path, files.classic(tmp_path / "in"), tmp_path / "out") == 2
    assert "give --unit" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [(), ("--keep-unit",)])
def test_the_standard_is_kept(tmp_path, kind, words):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    export(path, KINDS[kind](tmp_path / "in"), tmp_path / "out", *words)
    done = subprocess.run(["dciodvfy", tmp_path / "out" / "0002.dcm"], capture_output=True, text=True, check=False)
    assert "MRImage" in done.stderr
    assert "Error" not in done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_the_standard_is_kept_where_the_reference_tells_little(tmp_path):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    without = ["BodyPartExamined", "PatientPosition", "PositionReferenceIndicator", "ReferringPhysicianName", "StudyID",
               "Manufacturer", "ScanningSequence", "SequenceVariant", "PatientBirthDate"]  # fmt: skip
    export(path, files.classic(tmp_path / "in", without=without), tmp_path / "out")
    done = subprocess.run(["dciodvfy", tmp_path / "out" / "0001.dcm"], capture_output=True, text=True, check=False)
    assert "MRImage" in done.stderr
    assert "Error" not in done.stderr, done.stderr


def test_a_description_that_dicom_cannot_hold_is_refused(tmp_path, capsys):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", chi(), files.affine())
    assert export(path, files.classic(tmp_path / "in"), tmp_path / "out", "--description", "x" * 65) == 2
    assert "64 characters" in capsys.readouterr().err


def dcm2niix(folder, out):
    program = pytest.importorskip("dcm2niix").bin
    out.mkdir()
    subprocess.run([program, "-f", "map", "-o", out, folder], check=True, capture_output=True)
    return nib.load(out / "map.nii")


@pytest.mark.parametrize("kind", KINDS)
def test_dcm2niix_gives_the_map_back(tmp_path, kind):
    path = save(tmp_path / "sub-1_Chimap.nii.gz", *turned(chi(), files.affine(), (1, 0, 2), (2,)))
    export(path, KINDS[kind](tmp_path / "in"), tmp_path / "out")
    found, given = dcm2niix(tmp_path / "out", tmp_path / "nifti"), nib.load(path)
    order = nib.orientations.ornt_transform(*(nib.io_orientation(image.affine) for image in (found, given)))
    found = found.as_reoriented(order)
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)
    np.testing.assert_allclose(found.get_fdata(), 1000 * given.get_fdata(), atol=0.01)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real DICOM in {REAL}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_on_the_grid_of_a_real_scan(tmp_path, kind):
    like = nib.load(next((REAL / "reference-nifti").glob("*_e1.nii.gz")))
    volume = (np.asanyarray(like.dataobj) / 20000).astype("f4")
    path = save(tmp_path / "sub-1_Chimap.nii.gz", volume, like.affine)
    assert export(path, REAL / kind, tmp_path / "out") == 0
    found, images = read_back(tmp_path / "out")
    assert len(images) == 53 and len(images[0].SourceImageSequence) == 4  # two echoes, magnitude and phase
    np.testing.assert_allclose(
        np.sort(found.ravel()), np.sort(1000 * volume.ravel()), atol=float(images[0].RescaleSlope)
    )
    if shutil.which("dciodvfy"):
        done = subprocess.run(["dciodvfy", tmp_path / "out" / "0030.dcm"], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr
