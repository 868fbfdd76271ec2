"""Whatever sidecars, headers, filters and descriptions hold: problems come out, never another error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsmprep.bids.checks import check_run, check_spin_echo
from qsmprep.bids.entities import FILTER_NAMES, entities
from qsmprep.bids.metadata import KEYS, agreed, same
from qsmprep.bids.problem import errors
from qsmprep.bids.query import find_runs
from qsmprep.findings import document

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.one_of(st.integers(), st.integers(-(10**400), 10**400), st.floats())
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(["rad", "GE", "3T", "2D"]))
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
sidecars = st.dictionaries(
    st.sampled_from(sorted(KEYS)) | st.sampled_from(["subject", "echo", "suffix"]), values, max_size=8
)


@pytest.fixture(scope="module")
def bids(tmp_path_factory) -> Path:
    """Two participants of two echoes; what is tried goes into the files of sub-02."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label in ("01", "02"):
        anat = folder / f"sub-{label}" / "anat"
        anat.mkdir(parents=True)
        for echo in (1, 2):
            for part in ("mag", "phase"):
                data = rng.uniform(-np.pi, np.pi, (4, 4, 4)).astype(np.float32)
                data.flat[:2] = -np.pi, np.pi
                image = nib.Nifti1Image(np.abs(data) if part == "mag" else data, np.eye(4))
                image.set_qform(np.eye(4), 1)
                stem = f"sub-{label}_echo-{echo}_part-{part}_MEGRE"
                image.to_filename(anat / f"{stem}.nii.gz")
                units = {"Units": "rad"} if part == "phase" else {}
                facts = {"EchoTime": 0.005 * echo, "MagneticFieldStrength": 3, **units}
                (anat / f"{stem}.json").write_text(json.dumps(facts))
    (folder / "dataset_description.json").write_text('{"Name": "made up", "BIDSVersion": "1.10.0"}')
    return folder


def look(bids: Path, **asked) -> None:
    """Everything the input layer does; sub-01 is as it must be, and everything told can be written."""
    query = find_runs(bids, **asked)
    told = list(query.problems)
    for run in query.runs:
        problems = check_run(run)
        if run.subject == "01":
            assert not errors(problems), [str(problem) for problem in problems]
        told += problems
    for scan in query.spin_echoes:
        told += check_spin_echo(scan)
    for problem in told:
        str(problem).encode("utf-8")
        if problem.severity == "warning":
            json.dumps(document(problem.warning()), allow_nan=False).encode("utf-8")
        assert len(str(problem)) < 4000


@pytest.fixture
def spoiled(bids):
    """Maker of a file of sub-02 with another content, put back at the end."""
    kept: dict[Path, bytes] = {}

    def spoil(path: Path, content: bytes) -> None:
        kept.setdefault(path, path.read_bytes())
        path.write_bytes(content)

    yield spoil
    for path, content in kept.items():
        path.write_bytes(content)


SECOND = Path("sub-02", "anat", "sub-02_echo-1_part-phase_MEGRE")


@quick
@given(content=sidecars)
def test_a_sidecar_may_hold_anything(bids, spoiled, content):
    spoiled(bids / f"{SECOND}.json", json.dumps(content).encode())
    look(bids)


@quick
@given(content=st.binary(max_size=64) | st.text(alphabet='{}[]",:0123456789eE+-.ab\\u \n', max_size=64).map(str.encode))
def test_a_sidecar_or_description_may_be_any_bytes(bids, spoiled, content):
    spoiled(bids / f"{SECOND}.json", content)
    spoiled(bids / "dataset_description.json", content)
    look(bids)


@quick
@given(content=st.dictionaries(st.sampled_from(["Name", "BIDSVersion", "GeneratedBy", "DatasetType"]), values))
def test_a_description_may_hold_anything(bids, spoiled, content):
    spoiled(bids / "dataset_description.json", json.dumps(content).encode())
    look(bids)


@quick
@given(
    changes=st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    cut=st.integers(0, 700),
    packed=st.booleans(),
)
def test_a_header_may_hold_any_bytes(bids, spoiled, changes, cut, packed):
    path = bids / f"{SECOND}.nii.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    original = bytes(raw)
    for place, piece in changes:
        raw[place : place + len(piece)] = piece
    content = bytes(raw)[: max(len(raw) - cut, 0)] if cut % 2 else bytes(raw)
    spoiled(path, gzip.compress(content, 1) if packed else content)
    try:
        look(bids)
    finally:
        path.write_bytes(gzip.compress(original))


@quick
@given(
    filters=st.dictionaries(
        st.sampled_from([*FILTER_NAMES, "dwi"]) | st.text(max_size=3),
        st.dictionaries(st.sampled_from(sorted(entities())) | st.text(max_size=3), values, max_size=3) | values,
        max_size=2,
    )
    | values
)
def test_a_filter_may_be_anything_and_what_is_none_is_refused_by_a_value_error(bids, filters):
    try:
        query = find_runs(bids, filters=filters)
    except ValueError as error:
        assert "BIDS filter" in str(error) and len(str(error)) < 1000
    else:
        assert {run.subject for run in query.runs} <= {"01", "02"}


@quick
@given(one=values, other=values, key=st.sampled_from(sorted(KEYS)))
def test_whether_two_values_are_the_same_does_not_depend_on_their_order(one, other, key):
    assert same(key, one, one)
    assert same(key, one, other) == same(key, other, one)
    common, problems = agreed([(Path("a"), {key: one}), (Path("b"), {key: other})], frozenset())
    assert key in common or not same(key, one, other) or one in (None, "") or str(one).strip().lower() in ("", "n/a")
    assert len(problems) <= 1
