"""Coverage-guided fuzzing of the input layer: small datasets made of the fuzzer's bytes.

Needs atheris, which is not among the test requirements: `pip install atheris`. Then, for an hour:

    python tests/fuzz/fuzz_input.py -max_total_time=3600 -timeout=20 -rss_limit_mb=2048 \\
        -len_control=0 -max_len=512 CORPUS/

A finding is any error but the documented ValueError of a filter, a participant that harms the other, a message that
cannot be written, more than 20 s, or more than 2 GB of memory. libFuzzer keeps the input of a finding as `crash-*`,
`timeout-*` or `oom-*`; give that file as the only argument to see it again.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qsmprep.bids", "qsmprep.findings", "qsmprep.phase.scaling", "nibabel"]):
    import nibabel as nib
    import numpy as np

    from qsmprep.bids.anatomy import find_t1w
    from qsmprep.bids.checks import check_run, check_spin_echo
    from qsmprep.bids.derivatives import derivative_candidates, find_derivative
    from qsmprep.bids.entities import FILTER_NAMES, entities, read_filter
    from qsmprep.bids.metadata import KEYS
    from qsmprep.bids.problem import errors
    from qsmprep.bids.query import find_runs
    from qsmprep.bids.reading import UnreadableFileError, read_json_object

LONGEST_NAME = 200
PIECES = ("sub-02", "sub-", "ses-1", "echo-1", "echo-2", "echo-²", "echo-" + "9" * 30, "part-mag", "part-phase",
          "part-real", "part-imag", "run-01", "run-1", "acq-x", "acq-a'b", "coil-1", "MEGRE", "T2starw", "MESE", "T1w",
          ".nii", ".nii.gz", ".json", "_", "-", "+", " ", "\n", "\udcff", "desc-brain", "mask", "dseg")  # fmt: skip
ROOT = Path(tempfile.mkdtemp(prefix="fuzz_input_", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def template() -> dict[str, bytes]:
    """Files of one good participant by their name after "sub-XX_"."""
    files = {}
    rng = np.random.default_rng(0)
    for suffix, parts in (("MEGRE", ("mag", "phase")), ("MESE", ("mag",))):
        for echo in (1, 2):
            for part in parts:
                data = rng.uniform(-np.pi, np.pi, (3, 3, 3)).astype(np.float32)
                data.flat[:2] = -np.pi, np.pi
                image = nib.Nifti1Image(np.abs(data) if part == "mag" else data, np.eye(4))
                image.set_qform(np.eye(4), 1)
                stem = f"echo-{echo}_part-{part}_{suffix}"
                files[f"{stem}.nii.gz"] = gzip.compress(image.to_bytes(), 1)
                units = {"Units": "rad"} if part == "phase" else {}
                facts = {"EchoTime": 0.005 * echo, "MagneticFieldStrength": 3, "Manufacturer": "GE", **units}
                files[f"{stem}.json"] = json.dumps(facts).encode()
    return files


TEMPLATE = template()
(ROOT / "template").mkdir()
for _name, _content in TEMPLATE.items():
    (ROOT / "template" / _name).write_bytes(_content)


def any_value(data: atheris.FuzzedDataProvider, depth: int = 0) -> object:
    kind = data.ConsumeIntInRange(0, 9 if depth < 3 else 6)
    if kind == 0:
        return data.PickValueInList([None, True, False, 0, -1, 1, "", "rad", "GE", "3T", "*", "Query.NONE", "2D"])
    if kind == 1:
        return data.ConsumeFloat()
    if kind == 2:
        return data.ConsumeInt(8)
    if kind == 3:
        return int("9" * data.ConsumeIntInRange(1, 400))
    if kind <= 6:
        return data.ConsumeUnicode(data.ConsumeIntInRange(0, 12))
    if kind == 7:
        return [any_value(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    names = [data.ConsumeUnicode(4) for _ in range(data.ConsumeIntInRange(0, 3))]
    return {name: any_value(data, depth + 1) for name in names}


def any_json(data: atheris.FuzzedDataProvider) -> bytes:
    if data.ConsumeBool():
        return data.ConsumeBytes(data.ConsumeIntInRange(0, 60))
    if data.ConsumeIntInRange(0, 15) == 0:
        return b'{"a":' * data.ConsumeIntInRange(0, 2000)
    keys = [*sorted(KEYS), "subject", "Name", "GeneratedBy", "echo"]
    return json.dumps(
        {data.PickValueInList(keys): any_value(data) for _ in range(data.ConsumeIntInRange(0, 6))}
    ).encode()


def any_image(data: atheris.FuzzedDataProvider, content: bytes) -> bytes:
    """An image whose header, voxels or compression is damaged."""
    raw = bytearray(gzip.decompress(content))
    for _ in range(data.ConsumeIntInRange(0, 4)):
        place = data.ConsumeIntInRange(0, 351 if data.ConsumeBool() else len(raw) - 1)
        piece = data.ConsumeBytes(data.ConsumeIntInRange(1, 8))
        raw[place : place + len(piece)] = piece
    kind = data.ConsumeIntInRange(0, 7)
    if kind == 0:
        return bytes(raw)
    if kind == 1:
        return gzip.compress(bytes(raw[: data.ConsumeIntInRange(0, len(raw))]), 1)
    if kind == 2:
        return gzip.compress(bytes(raw), 1) + gzip.compress(bytes(2**24), 1) * data.ConsumeIntInRange(0, 8)
    packed = bytearray(gzip.compress(bytes(raw), 1))
    if kind == 3:
        return bytes(packed[: data.ConsumeIntInRange(0, len(packed))])
    if kind == 4:
        packed[data.ConsumeIntInRange(0, len(packed) - 1)] = data.ConsumeIntInRange(0, 255)
    return bytes(packed)


def any_name(data: atheris.FuzzedDataProvider) -> str:
    pieces = [data.PickValueInList(list(PIECES)) for _ in range(data.ConsumeIntInRange(1, 12))]
    return "".join(pieces)[:LONGEST_NAME].replace("/", "") or "x"


def put(path: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):  # a name too long, or taken by a folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a pipe would wait, and a good file is linked
        path.write_bytes(content)


def odd_file(data: atheris.FuzzedDataProvider, path: Path) -> None:
    """Something that is no regular file."""
    kind = data.ConsumeIntInRange(0, 5)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            path.mkdir()
        else:
            path.symlink_to(("/dev/zero", "/dev/urandom", path.name, "nowhere")[kind - 2])


def make(data: atheris.FuzzedDataProvider, bids: Path) -> object:
    """A dataset: sub-01 as it must be, sub-02 as the bytes say. Returns a filter."""
    good, spoiled = bids / "sub-01" / "anat", bids / "sub-02" / "anat"
    for folder, label in ((good, "01"), (spoiled, "02")):
        folder.mkdir(parents=True)
        for name in TEMPLATE:
            os.link(ROOT / "template" / name, folder / f"sub-{label}_{name}")
    names = sorted(TEMPLATE)
    for _ in range(data.ConsumeIntInRange(1, 5)):
        path = spoiled / f"sub-02_{data.PickValueInList(names)}"
        kind = data.ConsumeIntInRange(0, 8)
        if kind <= 1 and path.name.endswith(".gz"):
            put(path, any_image(data, TEMPLATE[path.name.removeprefix("sub-02_")]))
        elif kind <= 3 and path.name.endswith(".json"):
            put(path, any_json(data))
        elif kind == 4:
            put(spoiled / any_name(data), TEMPLATE[data.PickValueInList(names)])
        elif kind == 5:
            with contextlib.suppress(OSError, ValueError):
                path.rename(spoiled / any_name(data))
        elif kind == 6:
            odd_file(data, path)
        elif kind == 7:
            put(bids / any_name(data) / "anat" / any_name(data), any_json(data))
        else:
            put(bids / "dataset_description.json", any_json(data))
    if data.ConsumeIntInRange(0, 3):
        return None
    if data.ConsumeBool():
        return any_value(data)
    keys = sorted(entities())
    return {
        data.PickValueInList(list(FILTER_NAMES)): {data.PickValueInList(keys): any_value(data) for _ in range(2)}
        for _ in range(2)
    }


def look(bids: Path, filters: object) -> None:
    """Everything that the input layer does with a dataset; raises for a finding."""
    try:
        query = find_runs(bids, filters=filters)
    except ValueError:
        if filters is None:
            raise
        return
    told = list(query.problems)
    good = []
    for run in query.runs:
        problems = run.problems if run.name == "sub-01" else check_run(run)  # its images are always the same
        told += problems
        if not errors(problems):
            good.append(run.name)
        find_t1w(bids, run, None)
        with contextlib.suppress(ValueError):  # several fit
            find_derivative(bids, run, suffix="mask", desc="brain")
        derivative_candidates(bids, run, "dseg")
    for scan in query.spin_echoes:
        told += check_spin_echo(scan)
    for problem in told:
        str(problem).encode("utf-8")
        assert "\n" not in str(problem) and len(str(problem)) < 10_000
    assert filters is not None or "sub-01" in good, [str(problem) for problem in told]
    with contextlib.suppress(UnreadableFileError):
        json.dumps(read_json_object(bids / "dataset_description.json"))


def one_input(content: bytes) -> None:
    """What the fuzzer calls."""
    bids = Path(tempfile.mkdtemp(dir=ROOT))
    try:
        look(bids, make(atheris.FuzzedDataProvider(content), bids))
    finally:
        shutil.rmtree(bids)


def main() -> None:
    read_filter({"megre": {}}, "megre")
    atheris.Setup(sys.argv, one_input)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)


if __name__ == "__main__":
    main()
