"""How well the template of regions lies on simulated heads that it was not made from: Dice and regional means.

    python benchmarks/regions.py [--voxel-size 2]

Each head runs through the default pipeline; none of its options, seeds or tilts chose anything of the registration.
Writes benchmarks/regions.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from heads import EVERY_HEAD, LESIONS, OF_GENERATOR, SEVEN_TESLA, TEXTURED, with_voxels_of

from qsmprep.analysis.brain_template import NAMES, SMALLEST_CORRELATION, LaidTemplate, lay_brain_template
from qsmprep.interfaces.template import load_brain_template
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.tissues import DEEP_GREY
from qsmprep.pipeline import reconstruct

OUTPUT = Path(__file__).with_suffix(".md")
FRESH = {
    "icbm152, head nods 15": SimulationOptions(anatomy="icbm152", seed=102, head_tilt_x=15.0, **TEXTURED),
    "icbm152, 7 T, head tilts -12": SimulationOptions(
        anatomy="icbm152", seed=103, head_tilt_y=-12.0, tilt_x=20.0, **SEVEN_TESLA, **TEXTURED
    ),
    "icbm152, thick, noisy, lesions": SimulationOptions(
        anatomy="icbm152", seed=104, voxel_size="1,1,1.5", peak_snr=50.0, **LESIONS, **TEXTURED
    ),
    "icbm152, head nods -15, tilts 8": SimulationOptions(
        anatomy="icbm152", seed=105, head_tilt_x=-15.0, head_tilt_y=8.0, tilt_x=-10.0, **TEXTURED
    ),
    "icbm152, varied 1.6 times": SimulationOptions(anatomy="icbm152", seed=106, variation=0.08, texture=0.01),
}  # fmt: skip
INTRODUCTION = """\
# Regions laid by the template

Made by `benchmarks/regions.py` ({edge:g} mm voxels, default pipeline). The
heads of `icbm152` and `qsm-forward` are deformed, tilted and scaled by other seeds than the template, which is the
anatomy without variation: their nuclei have its shapes, so that a person's agree less. The ellipsoid heads have another
anatomy, which the template does not know.

`r` is the correlation of susceptibility around the nuclei, by which a poor registration is told: below {limit:g} no
values are given.
Dice is of both sides together. Of internal capsule and white matter, which are drawn narrower than what is truly
white, the share that is truly white is told; of the ventricles the share that is truly fluid. The last column is the
mean over nuclei of the difference in mean susceptibility between region and truth, in ppb.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-size", type=float, default=2.0)
    parser.add_argument("--heads", nargs="*", help="only these")
    edge = parser.parse_args().voxel_size
    chosen = parser.parse_args().heads
    rows = []
    for name, head in every_head(edge, chosen):
        result = reconstruct(head.magnitude, head.phase, head.scan)
        template, magnitude = load_brain_template(), np.sqrt(np.square(head.magnitude).sum(0))
        try:
            laid = lay_brain_template(template, magnitude, result.chi_ppm, result.masks.brain, head.affine)
        except ValueError as error:
            rows.append([name, str(error)])
            continue
        rows.append([name, f"{laid.correlation:.2f}", *scores(head, laid, result.chi_ppm)])
        print(" | ".join(rows[-1]), flush=True)
    words = [name.replace("_", " ") for name in DEEP_GREY]
    heading = ["head", "r", *words, "capsule", "white", "fluid", "error"]
    lines = ["| " + " | ".join(row + [""] * (len(heading) - len(row))) + " |" for row in
             (heading, ["---"] * len(heading), *rows)]  # fmt: skip
    text = INTRODUCTION.format(edge=edge, limit=SMALLEST_CORRELATION)
    OUTPUT.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


def every_head(edge: float, chosen: list[str] | None) -> Iterator[tuple[str, SimulatedHead]]:
    """Name and head of each, simulated when it is its turn."""
    from qsm_forward_head import head_of_qsm_forward

    for generator, heads in {"icbm152, fresh": FRESH, **OF_GENERATOR}.items():
        for name in heads:
            if chosen and name not in chosen:
                continue
            options = FRESH.get(name) or EVERY_HEAD[name]
            options = replace(options, voxel_size=",".join(map(str, options.voxel_size_mm())))
            smallest = min(options.voxel_size_mm())
            sizes = ",".join(f"{edge * h / smallest:g}" for h in options.voxel_size_mm())
            options = replace(options, voxel_size=sizes) if name in FRESH else with_voxels_of(options, edge)
            yield name, (head_of_qsm_forward if generator == "qsm-forward" else simulate_head)(options)


def scores(head: SimulatedHead, laid: LaidTemplate, chi_ppm: np.ndarray) -> list[str]:
    """Dice of each nucleus, shares of the others that are right, and the error of the nuclei's means in ppb."""
    numbers = {tissue: index for index, tissue in head.label_names.items()}
    cells, errors = [], []
    for name in DEEP_GREY:
        truth = head.labels == numbers[name]
        found = np.isin(laid.labels, [n for n, region in NAMES.items() if region.endswith(name)])
        cells.append(f"{2 * (truth & found).sum() / max(truth.sum() + found.sum(), 1):.2f}")
        if truth.any() and found.any():
            errors.append(abs(chi_ppm[found].mean() - chi_ppm[truth].mean()) * 1000)
    for region, tissue in (("internal_capsule", "white_matter"), ("white_matter", "white_matter"),
                           ("lateral_ventricles", "ventricle")):  # fmt: skip
        found = np.isin(laid.labels, [n for n, name in NAMES.items() if name.endswith(region)])
        cells.append(f"{(head.labels[found] == numbers[tissue]).mean():.2f}" if found.any() else "")
    return [*cells, f"{np.mean(errors):.1f}" if errors else ""]


if __name__ == "__main__":
    main()
