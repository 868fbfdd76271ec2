"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans; the test is skipped where it does not exist."""
    folder = Path(os.environ.get("QSMPREP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans: {folder} does not exist (set QSMPREP_TEST_DATA)")
    return folder
