"""The command line on what a scanner wrote."""

from pathlib import Path

import pytest

from qsmprep.cli.commands import run_command


@pytest.fixture
def dicom(tmp_path) -> Path:
    return tmp_path / "dicom"


@pytest.fixture
def convert(tmp_path, dicom):
    """Convert the folder `dicom`; gives the exit status and the names of the images in the dataset."""

    def convert(*options, confirm=("--yes",)):
        status = run_command(["convert", str(dicom), str(tmp_path / "bids"), *confirm, *map(str, options)])
        return status, sorted(path.name.removesuffix(".nii.gz") for path in (tmp_path / "bids").rglob("*.nii.gz"))

    return convert
