"""`qsmprep-tools diff`: what differs between two folders of results, where, by how much, and with which settings."""

import numpy as np
import pytest

from qsmprep.bids.outputs import write_image, write_json, write_text
from qsmprep.cli.commands import run_command

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def folders(tmp_path):
    """Two folders of the same results, but for the times and versions that they tell of."""
    chi = np.zeros((6, 7, 8), np.float32)
    chi[1:5, 1:6, 1:7] = np.random.default_rng(0).normal(0, 0.05, (4, 5, 6))
    for number, name in enumerate(("one", "two")):
        anat = tmp_path / name / "sub-01" / "anat"
        write_image(anat / "sub-01_Chimap.nii.gz", chi, AFFINE)
        steps = [{"stage": "inversion", "seconds": number, "facts": [{"key": "iterations", "value": 12}]}]
        document = {"Units": "ppm", "ProcessingSoftware": {"numpy": f"2.{number}"}, "ProcessingSteps": steps}
        write_json(anat / "sub-01_Chimap.json", document)
        write_text(anat / "sub-01_desc-roi_stats.tsv", "region\tchi\nputamen\t0.05\n")
        write_text(tmp_path / name / "logs" / "1" / "qsmprep.toml", f'[software]\nnumpy = "2.{number}"\n')
    return tmp_path / "one", tmp_path / "two"


def change_map(folder, by=0.01, voxel=(2, 3, 4)):
    from nibabel import load

    path = folder / "sub-01" / "anat" / "sub-01_Chimap.nii.gz"
    chi = np.asarray(load(path).dataobj).copy()
    chi[voxel] += by
    write_image(path, chi, AFFINE)


def diff(folders, *words):
    return run_command(["diff", *map(str, folders), *words])


def test_times_and_versions_make_no_difference_but_are_told(folders, capsys):
    assert diff(folders) == 0
    told = capsys.readouterr().out
    assert "setting software.numpy: 2.0 / 2.1" in told and "3 of 3 files are the same" in told


def test_a_voxel_that_differs_is_told_with_its_place_and_size(folders, capsys, tmp_path):
    change_map(folders[1])
    picture = tmp_path / "picture.png"
    assert diff(folders, "--picture", str(picture)) == 1
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "sub-01_Chimap" in line]
    for word in ("0.01 ppm", "2,3,4", "4,6,8", "0.8%"):
        assert word in row
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_tolerance_lets_small_differences_pass(folders):
    change_map(folders[1], by=1e-7)
    assert diff(folders) == 1
    assert diff(folders, "--tolerance", "1e-4") == 0


def test_a_value_that_is_no_number_in_one_map_differs_whatever_the_tolerance(folders):
    change_map(folders[1], by=np.nan)
    assert diff(folders, "--tolerance", "10") == 1


def test_a_number_of_a_table_and_of_a_sidecar_that_differs_is_named(folders, capsys):
    anat = folders[1] / "sub-01" / "anat"
    write_text(anat / "sub-01_desc-roi_stats.tsv", "region\tchi\nputamen\t0.06\n")
    sidecar = anat / "sub-01_Chimap.json"
    sidecar.write_text(sidecar.read_text("utf-8").replace("12", "13"), "utf-8")
    assert diff(folders) == 1
    told = capsys.readouterr().out
    assert "0.05 / 0.06" in told and "ProcessingSteps[inversion].facts[iterations].value: 12 / 13" in told


def test_a_file_of_one_folder_alone_is_told(folders, capsys):
    (folders[0] / "sub-01" / "anat" / "sub-01_desc-roi_stats.tsv").unlink()
    assert diff(folders) == 1
    assert "sub-01_desc-roi_stats.tsv: in OUT2 alone" in capsys.readouterr().out


def test_what_is_no_folder_of_results_is_wrong_usage(folders, tmp_path, capsys):
    assert diff((folders[0], tmp_path / "none")) == 2
    (tmp_path / "empty").mkdir()
    assert diff((folders[0], tmp_path / "empty")) == 2
    assert "no results in it" in capsys.readouterr().err
