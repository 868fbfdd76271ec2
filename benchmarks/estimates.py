"""Memory that each step is expected to need, and its peak, in runs of the presets at two sizes.

    python benchmarks/estimates.py [--voxel-sizes 4 2] [--runs ...] [--work FOLDER]

writes benchmarks/estimates.md. Every run is done twice, as compiling for the first time takes memory of its own. The
peak is the resident memory of the step's process: its own, and what it shares with the server it is forked from.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
RUNS = {
    "consensus-fansi": (),
    "accurate": ("--pipeline", "accurate"),
    "consensus-medi": ("--pipeline", "consensus-medi"),
    "fast": ("--pipeline", "fast"),
    "network": ("--mask", "net", "--inversion", "qsmnet", "--separation", "chi-sepnet-r2s"),
}
ALIKE = ("save_", "figures_wf.")  # steps of which the worst stands for all
TOLERATED = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxel-sizes", nargs="+", default=["4", "2"])
    parser.add_argument("--runs", nargs="+", choices=tuple(RUNS), default=list(RUNS))
    parser.add_argument("--work", type=Path, help="folder for the data and results (default: a temporary one)")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        for size in arguments.voxel_sizes:
            bids = folder / f"head-{size}"
            if not bids.exists():
                call("qsmprep.cli.tools", "simulate", bids, "--voxel-size", size, "--mese", "-q")
            for run in arguments.runs:
                for timing in timings(bids, folder / f"{run}-{size}", RUNS[run]):
                    found[named(timing["node"])][size].append(timing)
    (HERE / "estimates.md").write_text(table(found, arguments.voxel_sizes), "utf-8")


def call(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def timings(bids: Path, out: Path, words: tuple[str, ...]) -> list[dict]:
    """What the second of two runs tells of its steps."""
    for number in range(2):
        target = out / str(number)
        call("qsmprep.cli.run", bids, target, "participant", "-w", target / "work", "--skip-bids-validation", *words)
    (path,) = target.glob("logs/*/timings.json")
    return json.loads(path.read_text())


def named(node: str) -> str:
    """A step's name in the table."""
    name = node.split(".", 2)[-1]
    return next((f"{kind}..." for kind in ALIKE if kind in name), name)


def table(found: dict[str, dict[str, list[dict]]], sizes: list[str]) -> str:
    lines = ["# Estimates of memory", "",
             "`python benchmarks/estimates.py`: peak of a step's process and what it was expected to need, in GB, for "
             f"simulated heads of {' and '.join(sizes)} mm with five echoes; of several runs and steps alike, the one "
             "farthest from its estimate. An exclamation mark: more than 30 % off.", "",
             "| step | " + " | ".join(f"peak, {size} mm | expected | ratio" for size in sizes) + " |",
             "|---|" + "---|---|---|" * len(sizes)]  # fmt: skip
    beyond = 0
    for name in sorted(found):
        cells = []
        for size in sizes:
            ratios = [(one["expected_gb"] / one["peak_gb"], one) for one in found[name][size] if one["peak_gb"]]
            if not ratios:
                cells += ["", "", ""]
                continue
            ratio, one = max(ratios, key=lambda item: abs(item[0] - 1))
            beyond += abs(ratio - 1) > TOLERATED
            mark = " !" if abs(ratio - 1) > TOLERATED else ""
            cells += [f"{one['peak_gb']:.2f}", f"{one['expected_gb']:.2f}", f"{ratio:.2f}{mark}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{beyond} estimates are more than 30 % off."]) + "\n"


if __name__ == "__main__":
    main()
