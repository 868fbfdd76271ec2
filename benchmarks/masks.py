"""Brain masks of every method on heads of every generator, as they are and made harder.

    python benchmarks/masks.py [--heads NAME ...] [--voxel-size MM] [--work FOLDER] [--methods NAME ...]

writes benchmarks/masks.md. The heads are those of benchmarks/generators.py, whose folder serves again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from generator_scores import scores_of_mask
from generator_tables import voxel_size
from generators import NAMES, prepared
from heads import EVERY_HEAD, GENERATOR, GENERATORS, with_voxels_of

from qsmprep import registry
from qsmprep.bids.grid import Grid
from qsmprep.interfaces.masking import world_direction
from qsmprep.masking.bet import brain_image
from qsmprep.masking.tissue import decay_rate
from qsmprep.phantom.head import SimulatedHead
from qsmprep.phantom.tissues import TISSUES
from qsmprep.settings import build

HERE = Path(__file__).parent
METHODS = ("bet", "net", "robust")
SCALP = [TISSUES[name].label for name in ("muscle", "fat", "marrow", "skin")]
LOST = {"dice": 0.0, "outside": 100.0, "lost": 100.0}  # of a method that refuses the head
SCORES = {"dice": ("Dice", "{:.3f}", min), "outside": ("mask outside the brain (%)", "{:.1f}", max),
          "lost": ("brain lost (%)", "{:.1f}", max), "seconds": ("processor time (s)", "{:.1f}", max)}  # fmt: skip
INTRODUCTION = """\
# Brain masks

`{command}` makes these tables, one for each score. The heads are those of
[generators](generators.md), as they are and made harder; a column tells the worst of a generator's two heads. What of
the mask is no brain, and what of the brain it lacks, are shares of mask and brain. A method that refuses a head has a
Dice of 0. `qsm-forward` has the anatomy of `icbm152` and the forward model of another group; the network never saw its
images, nor these heads of the other generators, but other heads of both. No anatomy here is a person's. Times are of
one core of a machine busy with other work, and so too long. `–`: not measured.

In vivo, two scans of 2.8 and 3 mm, looked at in three planes: both methods follow the brain. On the first, an EPI,
`net` lies about 2 mm inside (Dice 0.91 with the mask of FSL that comes with it, 15 % lost; `bet` 0.97 and 5 %). On the
second, `net` keeps frontal and temporal poles that `bet` cuts, and takes in the roofs of the orbits. `deepbet` 1.0.2,
trained on T1w images, has a Dice of 0.94 to 0.97 on the tilted heads, with 6 to 12 % outside the brain, as its masks
hold the fluid around it.

`auto` is `bet`, and `net` where the mask of `bet` has not the shape of a brain and its own has. Of 24 masks of `bet`
(as it is, strong noise, low slab, bright rim) five were doubted, all of them wrong (Dice 0.53 to 0.86), in four of
which `net` stood in (0.92 to 0.96); no good one was. Three wrong ones (0.82 to 0.86) were not. The worst Dice in strong
noise goes so from 0.53 to 0.83.

* **strong noise**: peak signal of the brain 8 times the noise's standard deviation.
* **slab**: the lowest 45 % of the brain, or 35 to 80 % of its height.
* **bright scalp**: three times brighter.
* **coils**: brightness falls to a third from the rim to the middle, or the other way round, and along one axis.
"""


@dataclass(frozen=True)
class Case:
    """What a mask is made of: magnitude of all echoes (first axis), times, affine, labels, and the true mask."""

    magnitude: np.ndarray
    echo_times_s: np.ndarray
    affine: np.ndarray
    labels: np.ndarray
    brain: np.ndarray


def of_head(head: SimulatedHead) -> Case:
    return Case(head.magnitude.astype(np.float32), head.echo_times_s, head.affine, head.labels, head.brain_mask)


def noisy(case: Case) -> Case:
    random = np.random.default_rng(5)
    deviation = np.percentile(case.magnitude[0][case.brain], 95) / 8
    real, imaginary = (deviation * random.standard_normal(case.magnitude.shape) for _ in range(2))
    return replace(case, magnitude=np.hypot(case.magnitude + real, imaginary).astype(np.float32))


def slab(low: float, high: float) -> Callable[[Case], Case]:
    """The part of the brain between two shares of its height along the third axis."""

    def cut(case: Case) -> Case:
        there = np.flatnonzero(case.brain.any(axis=(0, 1)))
        first, last = (int(there[0] + share * (there[-1] - there[0])) for share in (low, high))
        affine = np.array(case.affine)
        affine[:3, 3] += first * affine[:3, 2]
        part = slice(first, last)
        return Case(case.magnitude[..., part], case.echo_times_s, affine, case.labels[..., part], case.brain[..., part])

    return cut


def bright_scalp(case: Case) -> Case:
    factor = np.where(np.isin(case.labels, SCALP), 3, 1).astype(np.float32)
    return replace(case, magnitude=case.magnitude * factor)


def coils(strength: float) -> Callable[[Case], Case]:
    """Brightness exp(strength r^2) about the middle, r = 1 at the middle of each face, and a slope along one axis."""

    def shaded(case: Case) -> Case:
        axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in case.brain.shape]
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        return replace(case, magnitude=case.magnitude * np.exp(strength * (x**2 + y**2 + z**2) - 0.7 * y))

    return shaded


HARDER: dict[str, Callable[[Case], Case]] = {
    "as it is": lambda case: case,
    "strong noise": noisy,
    "slab, middle": slab(0.35, 0.8),
    "slab, low": slab(0.0, 0.45),
    "bright scalp": bright_scalp,
    "coils, bright rim": coils(1.2),
    "coils, bright middle": coils(-1.2),
}


def scores(name: str, case: Case) -> dict[str, float]:
    """Of the mask that a method makes of the first echo."""
    method = registry.find("mask", name)
    grid = Grid(case.brain.shape, np.asarray(case.affine, float))
    options = build({}).options_of("mask", name)
    available = {
        "image": brain_image(case.magnitude), "scan": scan_of(grid), "superior_direction": grid.superior_direction,
        "anterior_direction": world_direction(grid, 1), "decay": decay_rate(case.magnitude, case.echo_times_s),
    }  # fmt: skip
    if method.needs_network():
        from qsmprep.weights.search import find_weights
        from qsmprep.weights.store import load_network

        available["network"] = load_network(find_weights(options.weights))
    started = time.process_time()
    try:
        found = method.run(options, **available)
    except ValueError as error:
        print(name, error)
        return LOST | {"seconds": 0.0}
    return scores_of_mask(found, case.brain) | {"seconds": time.process_time() - started}


def scan_of(grid: Grid):
    from qsmprep.scan import Scan

    return Scan(grid.voxel_size_mm, grid.b0_direction)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--voxel-size", type=float, metavar="MM", help="shortest edge of the voxels of every head")
    parser.add_argument("--work", type=Path, help="folder for simulated heads (default: a temporary one)")
    arguments = parser.parse_args()
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.heads:
            size = voxel_size(name, arguments.voxel_size)
            folder = (arguments.work or Path(temporary)).resolve() / f"{name}-{size}".replace(" ", "_").replace(",", "")
            case = of_head(prepared(name, with_voxels_of(EVERY_HEAD[name], arguments.voxel_size), folder))
            for title, change in HARDER.items():
                for method in arguments.methods:
                    result = scores(method, change(case))
                    print(name, title, method, *(f"{value:.3g}" for value in result.values()), flush=True)
                    found.setdefault((title, method, GENERATOR[name]), []).append(result)
    edge = f" --voxel-size {arguments.voxel_size:g}" if arguments.voxel_size else ""
    (HERE / "masks.md").write_text(document(found, f"python benchmarks/masks.py{edge}", arguments.methods), "utf-8")
    return 0


def document(found: dict[tuple[str, str, str], list[dict[str, float]]], command: str, methods) -> str:
    """A table for each score: a row for each kind of head and method, a column for each generator and the worst."""
    lines = [INTRODUCTION.format(command=command)]
    for key, (title, form, worst) in SCORES.items():
        lines += [f"## {title[0].upper()}{title[1:]}", "", f"| heads | method | {' | '.join(GENERATORS)} | worst |"]
        lines.append("|" + "---|" * (3 + len(GENERATORS)))
        for kind in HARDER:
            for method in methods:
                rows = {g: [row[key] for row in found.get((kind, method, g), ())] for g in GENERATORS}
                told = {g: worst(values) for g, values in rows.items() if values}
                cells = [form.format(told[g]) if g in told else "–" for g in GENERATORS]
                last = form.format(worst(told.values())) if told else "–"
                lines.append(f"| {kind} | {method} | {' | '.join(cells)} | {last} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
