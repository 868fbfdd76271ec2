"""--bids-filter-file: what its values mean, and what is none."""

from __future__ import annotations

import pytest

from qsmprep.bids.entities import FILTER_NAMES, entities, read_filter
from qsmprep.bids.query import find_runs

PATH = "/sub-01/ses-2/anat/sub-01_ses-2_acq-x_run-01_echo-1_part-mag_MEGRE.nii.gz"


def admits(**wanted):
    return read_filter({"megre": wanted}, "megre").admits(PATH)


@pytest.mark.parametrize(
    "run", [1, "1", "01", "001", [1], [3, "1"], "*", "Query.ANY", "Query.REQUIRED", "Query.OPTIONAL", []]
)
def test_numbers_compare_as_numbers(run):
    assert admits(run=run)


@pytest.mark.parametrize("run", [2, "10", None, "Query.NONE", [None, 2]])
def test_other_numbers_do_not_fit(run):
    assert not admits(run=run)


def test_labels_compare_as_text():
    assert admits(subject="01", acquisition=["x", None], extension="nii.gz", datatype="anat", suffix="MEGRE")
    assert not admits(subject=1) and not admits(acquisition="X")
    assert admits(reconstruction=None) and not admits(reconstruction="*")


def test_t2starw_follows_megre_and_the_others_do_not():
    assert read_filter({"megre": {"run": 2}}, "t2starw").wanted == {"run": ("2",)}
    assert read_filter({"megre": {"run": 2}}, "mese").wanted == {}


@pytest.mark.parametrize("value", [{}, {"a": 1}, True, 1.5, [[1]], "x", -1, [1, {}]])
def test_a_value_of_another_type_is_refused_by_its_key(dataset, value):
    dataset.add_run()
    for kind in FILTER_NAMES:
        with pytest.raises(ValueError, match=f"{kind}: run"):
            find_runs(dataset.folder, filters={kind: {"run": value}})


def test_pybids_names_are_known_without_an_import_of_pybids():
    import subprocess
    import sys

    known = set(entities())
    assert {"subject", "session", "acquisition", "ceagent", "reconstruction", "run", "echo", "part", "suffix"} <= known
    used = "from qsmprep.bids.query import find_runs; find_runs('.', filters={'megre': {'run': 1}})"
    code = f"{used}; import sys; print('bids' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
