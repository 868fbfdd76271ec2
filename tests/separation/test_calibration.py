"""The relaxometric constant of a data set by regression."""

import tomllib

import nibabel as nib
import numpy as np
import pytest

from qsmprep.cli.tools import main
from qsmprep.separation.calibration import calibrate

LABELS = {1: "caudate", 2: "putamen", 3: "globus_pallidus", 4: "red_nucleus", 5: "substantia_nigra"}


@pytest.fixture
def maps():
    """Five nuclei of rising susceptibility, R2' 137 times it plus 2, with noise."""
    labels = np.repeat(np.arange(6), 6 * 36).reshape(36, 6, 6)
    random = np.random.default_rng(0)
    chi = 0.03 * labels + 0.002 * random.standard_normal(labels.shape)
    rate = 137 * 0.03 * labels + 2 + 0.3 * random.standard_normal(labels.shape)
    return labels, chi.astype(np.float32), rate.astype(np.float32)


def test_the_slope_is_found_whatever_the_reference(maps):
    labels, chi, rate = maps
    regions = {name: labels == index for index, name in LABELS.items()}
    for shift in (0.0, 0.02):
        found = calibrate(chi + np.float32(shift), rate, regions)
        assert found.constant == pytest.approx(137, rel=0.01)
        assert found.r_squared > 0.99
    assert calibrate(chi, rate - 2, regions, through_origin=True).constant == pytest.approx(137, rel=0.01)


def test_one_odd_region_does_not_move_the_line_far(maps):
    labels, chi, rate = maps
    odd = np.where(labels == 3, rate + 8, rate)
    found = calibrate(chi, odd, {name: labels == index for index, name in LABELS.items()})
    assert found.constant == pytest.approx(137, rel=0.1)


def test_too_few_regions_are_refused(maps):
    labels, chi, rate = maps
    with pytest.raises(ValueError, match="Only 2 of the 2 regions"):
        calibrate(chi, rate, {"a": labels == 1, "b": labels == 2})


def test_the_command_writes_table_picture_and_settings(maps, tmp_path, capsys):
    labels, chi, rate = maps
    for name, image in (("chi", chi), ("r2prime", rate), ("dseg", labels.astype(np.int16))):
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / f"{name}.nii.gz")
    (tmp_path / "dseg.tsv").write_text("index\tname\n" + "".join(f"{i}\t{n}\n" for i, n in LABELS.items()), "utf-8")
    words = [str(tmp_path / f"{name}.nii.gz") for name in ("chi", "r2prime", "dseg")]
    assert main(["calibrate", *words, str(tmp_path / "out"), "--field-strength", "7"]) == 0
    settings = tomllib.loads((tmp_path / "out" / "calibrate.toml").read_text("utf-8"))
    assert settings["relaxometric"]["para"] == pytest.approx(137 * 3 / 7, rel=0.01)
    assert len((tmp_path / "out" / "calibrate.tsv").read_text("utf-8").splitlines()) == 6
    assert (tmp_path / "out" / "calibrate.png").read_bytes().startswith(b"\x89PNG")
    assert main(["calibrate", *words, str(tmp_path / "out"), "--labels", "hippocampus"]) == 2
    assert "hippocampus" in capsys.readouterr().err
