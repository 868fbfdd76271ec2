"""Throughput of many subjects in one call: time by --nprocs, and how busy the cores were.

    python benchmarks/throughput.py [--subjects 24] [--voxel-size 2] [--nprocs 1 2] [--work FOLDER] [-- FLAGS]

simulates the subjects, processes them once to compile (one subject) and once for each number of cores, and prints the
table of docs/scale.md: seconds, ratio, share of the cores' time in which steps ran (from begin and end of each step;
on a machine that others use too it tells the schedule apart from the load), most runs under way at once, and whether
the maps are the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--voxel-size", default="2")
    parser.add_argument("--nprocs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", type=Path, help="folder for data and results (default: a temporary one)")
    parser.add_argument("flags", nargs="*", help="further flags of qsmprep, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        bids = folder / "bids"
        if not bids.exists():
            words = ["--subjects", str(arguments.subjects), "--voxel-size", arguments.voxel_size, "--variation", "0.02"]
            call("qsmprep.cli.tools", "simulate", bids, "-q", *words)
        label = next(path.name for path in sorted(bids.glob("sub-*")))
        processed(bids, folder / "first", 2, ["--participant-label", label, *arguments.flags])  # compiles
        rows = []
        for nprocs in arguments.nprocs:
            out = folder / f"out-{nprocs}"
            seconds = processed(bids, out, nprocs, arguments.flags)
            rows.append((nprocs, seconds, *schedule(out, nprocs), maps_digest(out)))
    print(f"\n{arguments.subjects} subjects of {arguments.voxel_size} mm, {' '.join(arguments.flags) or 'default'}:\n")
    print("| --nprocs | seconds | ratio | cores busy | seconds of steps a subject | maps |")
    print("|---|---|---|---|---|---|")
    for nprocs, seconds, busy, each, digest in rows:
        same = "same bits" if digest == rows[0][-1] else "DIFFER"
        line = f"| {nprocs} | {seconds:.0f} | {rows[0][1] / seconds:.2f} | {100 * busy:.0f} % | {each:.1f} | {same} |"
        print(line, flush=True)


def call(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def processed(bids: Path, out: Path, nprocs: int, flags: list[str]) -> float:
    """Seconds of a whole call."""
    started = time.perf_counter()
    call("qsmprep.cli.run", bids, out, "participant", "-w", out.with_name(out.name + "-work"), "--nprocs", nprocs,
         "--skip-bids-validation", *flags)  # fmt: skip
    return time.perf_counter() - started


def schedule(out: Path, nprocs: int) -> tuple[float, float]:
    """Share of the cores' time, while steps ran, in which a thread was given to one; seconds of steps a subject."""
    (timings,) = out.glob("logs/*/timings.json")
    ran = [timing for timing in json.loads(timings.read_text()) if not timing["cached"]]
    span = max(t["began"] + t["seconds"] for t in ran) - min(t["began"] for t in ran)
    given = sum(t["seconds"] * t["threads"] for t in ran)
    return given / (span * nprocs), sum(t["seconds"] for t in ran) / len(list(out.glob("sub-*/")))


def maps_digest(out: Path) -> str:
    """One digest of every image: of the voxels alone where the file is compressed, as its header holds a time."""
    import nibabel as nib
    import numpy as np

    digest = hashlib.sha256()
    for path in sorted(out.rglob("*.nii.gz")):
        digest.update(path.name.encode())
        digest.update(np.ascontiguousarray(nib.load(path).dataobj.get_unscaled()).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
