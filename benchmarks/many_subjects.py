"""Time and memory of what grows with a dataset: finding, checking, planning, the report of many runs, the group level.

    python benchmarks/many_subjects.py [--subjects 1000] [--runs 200] [--work FOLDER]

makes a dataset of so many subjects and one of so many runs of one subject out of one simulated head (links to its small
images), processes that head once, copies its small result files under other labels, and prints the table of
docs/scale.md. CPU seconds are of all processes of a command; memory is the largest of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

SMALL = (".json", ".tsv", ".txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--work", type=Path, help="empty folder for data and results (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        subjects, runs = arguments.subjects, arguments.runs
        head = folder / "head"
        simulate = ("simulate", head, "--voxel-size", "6", "--echo-times", "0.01,0.02", "-q")
        measured(*simulate, module="qsmprep.cli.tools")
        many, repeated, one = folder / "subjects", folder / "runs", folder / "one"
        multiply_dataset(head, many, [(f"{i:04d}", "") for i in range(1, subjects + 1)])
        multiply_dataset(head, repeated, [("01", f"run-{i:03d}") for i in range(1, runs + 1)])
        measured(head, one, "participant", "--skip-bids-validation", "-w", folder / "work")
        multiply_results(one, folder / "group", [(f"{i:04d}", "") for i in range(1, subjects + 1)])
        multiply_results(one, folder / "report", [("01", f"run-{i:03d}") for i in range(1, runs + 1)])
        middle, nowhere = f"{(subjects + 1) // 2:04d}", folder / "nowhere"
        table = [
            ("one participant of all", (many, nowhere, "participant", "--dry-run", "--participant-label", middle)),
            ("all participants", (many, nowhere, "participant", "--dry-run", "--skip-bids-validation")),
            (f"{runs} runs of one subject", (repeated, nowhere, "participant", "--dry-run")),
            (f"report of {runs} runs", (repeated, folder / "report", "participant", "--reports-only")),
            ("group level", (many, folder / "group", "group")),
        ]  # fmt: skip
        print(f"\n{subjects} subjects; {runs} runs of one subject; two echoes of 6 mm, {os.cpu_count()} cores:\n")
        print("| | seconds | CPU seconds | memory (MB) |\n|---|---|---|---|")
        for name, words in table:
            seconds, busy, megabytes = measured(*words)
            print(f"| {name} | {seconds:.1f} | {busy:.1f} | {megabytes:.0f} |", flush=True)
        pages = {path.name: path.stat().st_size / 1e6 for path in (folder / "report").glob("*.html")}
        print(f"\ngroup.html: {(folder / 'group' / 'group.html').stat().st_size / 1e6:.1f} MB; pages of the report: "
              f"{len(pages)}, the largest of {max(pages.values()):.1f} MB")  # fmt: skip


def multiply_dataset(head: Path, target: Path, names: list[tuple[str, str]]) -> None:
    """The dataset of one head as that of many (subject, entity of the run)."""
    target.mkdir()
    shutil.copy(head / "dataset_description.json", target)
    for subject, run in names:
        folder = target / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        for path in (head / "sub-01" / "anat").iterdir():
            name = path.name.replace("sub-01_", f"sub-{subject}_" + (f"{run}_" if run else ""))
            os.link(path, folder / name)
    lines = ["participant_id", *dict.fromkeys(f"sub-{subject}" for subject, _ in names)]
    (target / "participants.tsv").write_text("\n".join(lines) + "\n")


def multiply_results(one: Path, target: Path, names: list[tuple[str, str]]) -> None:
    """The small result files and pictures of one run under the labels of many; quality numbers vary by 5 %."""
    rng = random.Random(0)
    files = [path for path in (one / "sub-01").rglob("*") if path.suffix in (*SMALL, ".png")]
    texts = {path: path.read_text() for path in files if path.suffix in SMALL}
    target.mkdir()
    shutil.copy(one / "dataset_description.json", target)
    for subject, run in names:
        prefix = f"sub-{subject}" + (f"_{run}" if run else "")
        for path in files:
            new = target / f"sub-{subject}" / path.parent.name / path.name.replace("sub-01_", f"{prefix}_")
            new.parent.mkdir(parents=True, exist_ok=True)
            if path not in texts:
                os.link(path, new)
                continue
            text = texts[path].replace("sub-01_", f"{prefix}_").replace("sub-01/", f"sub-{subject}/")
            if path.name.endswith(("_qc.json", "_record.json")):
                document = json.loads(text) | {"run": prefix, "subject": subject}
                metrics = document.get("metrics", {})
                metrics |= {
                    key: value * rng.gauss(1, 0.05) for key, value in metrics.items() if isinstance(value, float)
                }
                text = json.dumps(document)
            new.write_text(text)
        (target / f"sub-{subject}.html").touch()


def measured(*words: object, module: str = "qsmprep.cli.run") -> tuple[float, float, float]:
    """Seconds, CPU seconds and memory in MB of a command, which must succeed."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (module, [str(word) for word in words]))


def _measured(module: str, words: list[str]) -> tuple[float, float, float]:
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", module, *words], stdout=subprocess.DEVNULL)
    if ended.returncode:
        raise SystemExit(f"{module} {' '.join(words)}: exit status {ended.returncode}")
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
