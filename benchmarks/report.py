"""How long the report of a subject takes and how large it is, with pictures of a 1 mm head: writes report.md.

python benchmarks/report.py [--shape 160,200,180] [--inversions 3]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.figures import save_mosaic
from qsmprep.report.histogram import SUFFIX, histogram
from qsmprep.report.page import write_subject_report
from qsmprep.report.pictures import PICTURES, further_inversion

LIMIT_SECONDS, LIMIT_MB = 15, 25


def head(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A noisy map, the worst case of a PNG, and the mask of an ellipsoid brain."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    brain = sum(axis**2 for axis in grid) < 0.8
    smooth = np.sin(7 * grid[0]) * np.cos(5 * grid[1]) * np.sin(6 * grid[2])
    noise = np.random.default_rng(0).normal(scale=0.1, size=shape)
    return (smooth + noise).astype(np.float32), brain


def draw(folder: Path, run: str, shape: tuple[int, ...], inversions: int) -> tuple[list[dict], float]:
    """Every picture of a run, drawn as the pipeline does; the steps that hold them and the seconds of one."""
    volume, brain = head(shape)
    kinds = [*PICTURES.values(), *(further_inversion(f"method{i}") for i in range(1, inversions))]
    steps: dict[str, list[dict]] = {}
    started = time.perf_counter()
    for kind in kinds:
        file = f"{run}_desc-{kind.name}_{kind.suffix}.png"
        whole = kind.name in ("firstecho", "lastecho", "magnitude", "masks")
        window = kind.display["window"]
        scale = 0.2 if kind.suffix == "Chimap" else np.pi if kind.suffix == "phase" else 1.0
        values = np.angle(np.exp(9j * volume)) if kind.name in ("firstecho", "lastecho") else scale * volume
        mask = None if whole else brain
        save_mosaic(
            folder / file, values.astype(np.float32), np.eye(4), mask=mask, frame=brain,
            contours=[("mask", brain)] if kind.name == "masks" else (), **{**kind.display, "window": window},
        )  # fmt: skip
        if kind.histogram:
            counted = histogram(values, brain, label=kind.display["label"])
            (folder / f"{file[:-4]}{SUFFIX}").write_text(json.dumps(counted.document()))
        for stage in kind.stages:
            steps.setdefault(stage, []).append({"file": file, "caption": kind.caption})
    seconds = (time.perf_counter() - started) / len(kinds)
    return [
        {"stage": stage, "method": "m", "title": stage, "figures": shown} for stage, shown in steps.items()
    ], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="160,200,180")
    parser.add_argument("--inversions", type=int, default=3)
    given = parser.parse_args()
    shape = tuple(int(n) for n in given.shape.split(","))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sub-01" / "figures"
        folder.mkdir(parents=True)
        steps, each = draw(folder, "sub-01", shape, given.inversions)
        acquisition = describe_acquisition({}, affine=np.eye(4), shape=shape, echo_times_s=(0.005, 0.011, 0.017))
        record = {"run": "sub-01", "status": "ok", "acquisition": acquisition, "steps": steps}
        (folder / "sub-01_record.json").write_text(json.dumps(record))
        pictures = len(list(folder.glob("*.png")))
        megabytes = sum(path.stat().st_size for path in folder.glob("*.png")) / 1e6
        started = time.perf_counter()
        page = write_subject_report(Path(name), "01")
        seconds, size = time.perf_counter() - started, page.stat().st_size / 1e6
    lines = [
        "# The report of a subject: time and size",
        "",
        "Made by `python benchmarks/report.py`: pictures of a noisy head, which PNG compresses worst, one run.",
        "",
        "| what | found | limit |",
        "|---|---|---|",
        f"| shape of the maps | {' x '.join(map(str, shape))} | |",
        f"| pictures, {given.inversions} inversions, with source separation and spin echoes | {pictures} | |",
        f"| pictures together | {megabytes:.1f} MB | |",
        f"| drawing a picture, histogram included | {each:.1f} s | |",
        f"| writing the report from them | {seconds:.1f} s | {LIMIT_SECONDS} s |",
        f"| size of the report | {size:.1f} MB | {LIMIT_MB} MB |",
        "",
        f"Measured on {platform.machine()} with Python {platform.python_version()}; other work ran beside it.",
        "",
    ]
    Path(__file__).with_name("report.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
