"""Whatever lies in the folder of one participant: it is named, at once, and the other participant is processed."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.checks import check_run
from qsmprep.bids.problem import errors
from qsmprep.bids.query import find_runs

LONGEST_S = 20
COMMON = {"MagneticFieldStrength": 3, "Manufacturer": "Siemens"}


def add_participant(bids: Path, label: str) -> None:
    anat = bids / f"sub-{label}" / "anat"
    anat.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for echo in (1, 2):
        for part in ("mag", "phase"):
            values = rng.uniform(-np.pi, np.pi, (8, 8, 8)).astype(np.float32)
            values.flat[:2] = -np.pi, np.pi
            stem = anat / f"sub-{label}_echo-{echo}_part-{part}_MEGRE"
            image = nib.Nifti1Image(values if part == "phase" else np.abs(values) * 100, np.eye(4))
            image.set_qform(np.eye(4), 1)
            image.to_filename(f"{stem}.nii.gz")
            units = {"Units": "rad"} if part == "phase" else {}
            Path(f"{stem}.json").write_text(json.dumps({**COMMON, **units, "EchoTime": 0.005 * echo}))


@pytest.fixture
def bids(tmp_path) -> Path:
    folder = tmp_path / "bids"
    for label in ("01", "02"):
        add_participant(folder, label)
    (folder / "dataset_description.json").write_text('{"Name": "made up", "BIDSVersion": "1.10.0"}')
    return folder


FIRST = "sub-02_echo-1_part-phase_MEGRE"


def sidecar(change):
    """Spoil a sidecar of sub-02 by a function of its path."""
    return lambda anat: change(anat / f"{FIRST}.json")


def image(change):
    return lambda anat: change(anat / f"{FIRST}.nii.gz")


def content(data: bytes | str):
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def value(**entries):
    """Entries of every sidecar of sub-02 as they stand in JSON, whatever Python makes of them."""

    def change(anat):
        for path in sorted(anat.glob("*.json")):
            document = json.loads(path.read_text()) | {key: f"<{key}>" for key in entries}
            text = json.dumps(document)
            for key, words in entries.items():
                text = text.replace(f'"<{key}>"', words)
            path.write_text(text)

    return change


def instead(make):
    def change(path):
        path.unlink()
        make(path)

    return change


def renamed(old: str, new: str | bytes, *, folder: bool = False):
    """Replace a piece of the names of sub-02's files (or of its folder)."""

    def change(anat):
        paths = [anat.parent] if folder else sorted(anat.iterdir())
        for path in paths:
            name = os.fsencode(path.name).replace(old.encode(), new if isinstance(new, bytes) else new.encode())
            os.rename(path, os.fsencode(path.parent) + b"/" + name)

    return change


def bomb(path):
    """A small header, and behind it as many zeros as take minutes to unpack."""
    header = path.read_bytes()
    block = gzip.compress(bytes(2**24))
    path.write_bytes(header + block * 512)


def bomb_of_its_size(path):
    """A header that says as many voxels as there are: 8 GB, all zero."""
    raw = bytearray(gzip.decompress(path.read_bytes())[:352])
    raw[40:48] = np.array([3, 1000, 1000, 1000], np.int16).tobytes()
    raw[70:74] = np.array([64, 64], np.int16).tobytes()
    path.write_bytes(gzip.compress(bytes(raw)) + gzip.compress(bytes(2**24)) * 480)


def bomb_in_the_header(path):
    """A header that says its extensions have 2 GB, and as many zeros."""
    raw = bytearray(gzip.decompress(path.read_bytes())[:352])
    raw[108:112] = np.float32(2**31).tobytes()
    raw[348:352] = b"\1\0\0\0"
    extension = np.array([2**31 - 16, 4], np.int32).tobytes()
    path.write_bytes(gzip.compress(bytes(raw) + extension) + gzip.compress(bytes(2**24)) * 128)


def shape_of(*dims):
    def change(path):
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[40:56] = np.array([len(dims), *dims, *[1] * (7 - len(dims))], np.int16).tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))

    return change


def swapped(anat):
    for magnitude in sorted(anat.glob("*part-mag*.nii.gz")):
        phase = magnitude.with_name(magnitude.name.replace("part-mag", "part-phase"))
        magnitude.rename(anat / "kept")
        phase.rename(magnitude)
        (anat / "kept").rename(phase)


def broken_links(anat):
    for path in sorted(anat.iterdir()):
        instead(lambda path: path.symlink_to("../../.git/annex/none"))(path)


def huge_sidecar(path):
    path.write_text(json.dumps({"SeriesDescription": "a" * 11 * 2**20}))


ANAT = Path("sub-02", "anat")
HOSTILE = {
    # what the sidecar is
    "sidecar linked to /dev/zero": (sidecar(instead(lambda path: path.symlink_to("/dev/zero"))), f"{FIRST}.json"),
    "sidecar linked to /dev/urandom": (sidecar(instead(lambda path: path.symlink_to("/dev/urandom"))), "a device"),
    "sidecar a pipe": (sidecar(instead(os.mkfifo)), "a named pipe"),
    "sidecar a folder": (sidecar(instead(os.mkdir)), "a folder"),
    "sidecar 1,000 deep": (sidecar(content('{"a":' * 1000 + "1" + "}" * 1000)), f"{FIRST}.json"),
    "sidecar 100,000 deep": (sidecar(content("[" * 10**5)), f"{FIRST}.json"),
    "sidecar not UTF-8": (sidecar(content(b'{"a": "\xff"}')), "UTF-8"),
    "sidecar half a surrogate": (sidecar(content(r'{"Manufacturer": "\ud800"}')), r"\ud800"),
    "sidecar too large": (sidecar(huge_sidecar), "MiB"),
    "sidecars and images links to nothing": (broken_links, "Fetch or restore the data."),
    # what stands in it
    "echo time of 400 digits": (value(EchoTime="9" * 400), "EchoTime is inf"),
    "echo time of 5,000 digits": (value(EchoTime="9" * 5000), "EchoTime is inf"),
    "echo time NaN": (value(EchoTime="NaN"), "EchoTime is nan"),
    "echo time a list": (value(EchoTime="[0.005]"), "EchoTime is [0.005]"),
    "echo time an object": (value(EchoTime='{"a": {}}'), "EchoTime is {"),
    "units an object": (value(Units="{}"), "Units is {}"),
    "units a list": (value(Units='["rad"]'), "Units is ['rad']"),
    "field strength an object": (value(MagneticFieldStrength="{}"), "MagneticFieldStrength is {}"),
    "field strength NaN": (value(MagneticFieldStrength="NaN"), "MagneticFieldStrength is nan"),
    "frequency a text": (value(ImagingFrequency='"3T"'), "ImagingFrequency is '3T'"),
    "frequency an object": (value(ImagingFrequency='{"a": []}'), "ImagingFrequency is {"),
    "manufacturer a list": (value(Manufacturer='["GE"]'), "Manufacturer is ['GE']"),
    # what its images are
    "image a pipe": (image(instead(os.mkfifo)), "a named pipe"),
    "image linked to /dev/zero": (image(instead(lambda path: path.symlink_to("/dev/zero"))), "a device"),
    "image a folder": (image(instead(os.mkdir)), "a folder"),
    "image of 8 GB of zeros": (image(bomb), "goes on"),
    "image of 8 GB of zeros that its header tells": (image(bomb_of_its_size), f"{FIRST}.nii.gz"),
    "image with extensions of 2 GB": (image(bomb_in_the_header), f"{FIRST}.nii.gz"),
    "image of 30,000 voxels an edge": (image(shape_of(30000, 30000, 30000)), f"{FIRST}.nii.gz"),
    "image of negative edges": (image(shape_of(-8, 8, 8)), f"{FIRST}.nii.gz"),
    "image of 8 dimensions": (image(shape_of(*[8] * 7)), f"{FIRST}.nii.gz"),
    "magnitude and phase exchanged": (swapped, "Exchange the names"),
    # what it is called
    "apostrophe in the label": (renamed("sub-02", "sub-a'b", folder=True), "sub-a'b"),
    "space in the label": (renamed("sub-02", "sub-0 2", folder=True), "sub-0 2"),
    "semicolon in the label": (renamed("sub-02", "sub-02;ls", folder=True), "sub-02;ls"),
    "underscore in the label": (renamed("sub-02", "sub-a_b", folder=True), "sub-a_b"),
    "no label": (renamed("sub-02", "sub-", folder=True), "/sub-:"),
    "label not UTF-8": (renamed("sub-02", b"sub-\xff2", folder=True), r"sub-\udcff2"),
    "file of another participant": (renamed("sub-02", "sub-01"), "sub-02/anat/sub-01_echo-1"),
    "files not UTF-8": (renamed("sub-02", b"sub-02_acq-\xe9"), r"acq-\udce9"),
    "files with an apostrophe": (renamed("sub-02", "sub-02_acq-a'b"), "acq-a'b"),
    "files with a line end": (renamed("sub-02", "sub-02_acq-a\nb"), "sub-02_acq-a"),
    "files with a word that is no entity": (renamed("sub-02", "sub-02_new"), "new"),
    "echo in another script": (renamed("echo-2", "echo-²"), "echo-²"),
    "echo of 20 digits": (renamed("echo-2", "echo-" + "9" * 20), "1, " + "9" * 20),
    "echo of 200 digits": (renamed("echo-2", "echo-" + "9" * 200), "1, " + "9" * 200),
}  # fmt: skip


def process(bids: Path, **asked) -> tuple[set[str], str]:
    """Names of the runs without error, and everything that is told, as text that can be printed anywhere."""
    query = find_runs(bids, **asked)
    found = {run.name: check_run(run) for run in query.runs}
    told = [str(problem) for problem in errors([*query.problems, *(one for own in found.values() for one in own)])]
    for line in told:
        line.encode("utf-8")
        assert "\n" not in line
    return {name for name, problems in found.items() if not errors(problems)}, "\n".join(told)


@pytest.mark.parametrize("kind", HOSTILE)
def test_one_participant_is_told_what_is_wrong_and_the_other_is_processed(bids, kind):
    spoil, words = HOSTILE[kind]
    spoil(bids / ANAT)
    start = time.monotonic()
    good, told = process(bids)
    assert time.monotonic() - start < LONGEST_S
    assert good == {"sub-01"}
    assert words in told, told
    assert len(told.splitlines()) <= 2, "one cause makes one line"


HARMLESS = {
    "a key called as an entity": value(subject='"01"', run="{}", echo="7"),
    "a number of 5,000 digits under a key that nobody reads": value(SeriesNumber="9" * 5000),
    "a byte order mark": sidecar(lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())),
    "a file of macOS beside each image": lambda anat: (anat / f"._{FIRST}.nii.gz").write_bytes(b"\0\5\26\7"),
    "a frequency that is null": value(ImagingFrequency="null"),
    "flip angle of any type": value(FlipAngle='{"a": [{}, null]}', RepetitionTime="[]"),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_decides_nothing_stops_nobody(bids, kind):
    HARMLESS[kind](bids / ANAT)
    assert process(bids) == ({"sub-01", "sub-02"}, "")


def test_a_sidecar_of_50_000_keys_costs_no_time_and_no_memory_in_the_runs(bids):
    (bids / "MEGRE.json").write_text(json.dumps({f"Key{n}": n for n in range(50_000)}))
    start = time.monotonic()
    query = find_runs(bids)
    assert time.monotonic() - start < 1
    assert all(len(facts) < 10 for run in query.runs for echo in run.echoes for facts in echo.metadata.values())


@pytest.mark.parametrize("place", ["sub-02", "sub-02/anat"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_read_belongs_to_its_participant(bids, monkeypatch, place, code):
    def refusing(real):
        def call(path="."):
            if os.fspath(path) == str(bids / place):
                raise OSError(code, os.strerror(code), str(path))
            return real(path)

        return call

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    good, told = process(bids)
    assert good == {"sub-01"}
    assert str(bids / place) in told and os.strerror(code) in told


@pytest.mark.parametrize("target", ["../annex/none", "sub-02"])
@pytest.mark.parametrize("place", ["sub-02", "sub-02/anat"])
def test_a_folder_that_links_to_nothing_or_to_itself_is_told(bids, place, target):
    folder = bids / place
    folder.rename(bids / "kept")
    folder.symlink_to(target if target.startswith("..") else folder.name)
    good, told = process(bids)
    assert good == {"sub-01"}
    assert str(folder) in told and "fetch or restore" in told


def test_a_folder_of_another_session_that_cannot_be_read_is_a_warning(bids):
    for label in ("a", "b"):
        anat = bids / "sub-02" / f"ses-{label}" / "anat"
        anat.mkdir(parents=True)
        for path in (bids / "sub-02" / "anat").iterdir():
            (anat / path.name.replace("sub-02_", f"sub-02_ses-{label}_")).write_bytes(path.read_bytes())
    for path in (bids / "sub-02" / "anat", bids / "sub-02" / "ses-b" / "anat"):
        path.rename(bids / f"kept-{path.parent.name}")
        path.symlink_to("nowhere")
    assert process(bids, session_labels=["a"]) == ({"sub-02_ses-a"}, "")
    good, told = process(bids)
    assert good == {"sub-01", "sub-02_ses-a"} and len(told.splitlines()) == 2


def test_an_error_that_nobody_thought_of_belongs_to_its_participant(bids, monkeypatch):
    from qsmprep.bids import query

    def fails(path, subject, session):
        if subject == "02":
            raise ZeroDivisionError("nobody thought of it")
        return None

    monkeypatch.setattr(query, "odd_name", fails)
    good, told = process(bids)
    assert good == {"sub-01"}
    assert "sub-02" in told and "nobody thought of it" in told


def test_odd_folders_do_not_matter_to_those_who_ask_for_others(bids):
    (bids / "sub-a'b" / "anat").mkdir(parents=True)
    assert process(bids, participant_labels=["01"]) == ({"sub-01"}, "")


@pytest.mark.parametrize("above", ["run-3", "echo-1", "acq-x", "ses-a", "rec-sos", "sub-09", "part-phase", "anat"])
def test_what_folders_above_the_dataset_are_called_does_not_matter(tmp_path, above):
    bids = tmp_path / above / "bids"
    add_participant(bids, "01")
    (bids / "dataset_description.json").write_text('{"Name": "made up", "BIDSVersion": "1.10.0"}')
    anat = bids / "sub-01" / "anat"
    for path in sorted(anat.iterdir()):
        text = path.read_bytes()
        path.with_name(path.name.replace("sub-01_", "sub-01_run-2_")).write_bytes(text.replace(b"0.005", b"0.006"))
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-01_run-1_")))
    runs = find_runs(bids, filters={"megre": {"reconstruction": None, "session": None, "acquisition": None}}).runs
    assert [(run.name, run.echo_times_s[0]) for run in runs] == [("sub-01_run-1", 0.005), ("sub-01_run-2", 0.006)]
    (second,) = find_runs(bids, filters={"megre": {"run": 2, "subject": "01"}}).runs
    assert second.name == "sub-01_run-2"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (instead(os.mkfifo), "a named pipe"),
        (instead(os.mkdir), "a folder"),
        (instead(lambda path: path.symlink_to("/dev/zero")), "a device"),
        (instead(lambda path: None), "missing"),
        (content('{"Name": 7, "BIDSVersion": "1.10.0"}'), "Name is 7"),
        (content('{"Name": "a", "GeneratedBy": 7}'), "GeneratedBy is 7"),
        (content(b"\xff\xfe"), "UTF-8"),
        (content("[" * 10**5), "deep"),
    ],
)
def test_a_description_that_is_none_is_a_warning(bids, spoil, words):
    spoil(bids / "dataset_description.json")
    (problem,) = find_runs(bids).problems
    assert problem.severity == "warning" and words in str(problem) and problem.remedy
    assert process(bids)[0] == {"sub-01", "sub-02"}
