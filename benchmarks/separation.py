"""Source separation against the truth of a simulated head: from the true field and R2', and by the command line.

    python benchmarks/separation.py [--work FOLDER] [--voxel-size 1]

writes benchmarks/separation.md. The head is the standard one at peak SNR 100 with a spin echo scan whose transmit field
falls from 1.1 in the middle to 0.7 at the rim. Isolated: true tissue field, true R2 and R2*, susceptibility by FANSI
from that field, referenced by the signs of the sources as in the pipeline. Chain: the command line with the presets
`consensus-fansi` and `accurate`, with the spin echoes and with gradient echoes alone. Errors are relative to the truth
itself, means included; slope and R2 are of the means over nuclei, white and grey matter. With --times-only the last two
tables alone are made anew: seconds and memory of the whole stage, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from isolated import network_inputs

from qsmprep import registry
from qsmprep.analysis.similarity import hfen, sepnet_ssim, xsim
from qsmprep.cli.run import main as qsmprep
from qsmprep.cli.warmup import usable
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.tissues import DEEP_GREY, TISSUES
from qsmprep.relaxometry.dictionary import dictionary_match
from qsmprep.relaxometry.epg import echo_train
from qsmprep.separation.constants import RelaxometricOptions, constants_at
from qsmprep.separation.offset import offset_by_signs

HERE = Path(__file__).parent
REGIONS = (*DEEP_GREY, "white_matter", "grey_matter")
SPIN_ECHO = {
    "closed-form": [], "chisep-medi": [], "chisep-ilsqr": [],
}  # fmt: skip
ALONE = {
    "closed-form, R2' = 0.3 R2*": ["--separation", "closed-form"],
    "closed-form, R2' = R2* - 13": ["--separation", "closed-form", "--r2prime-fallback", "constant-r2"],
    "chisep-medi, R2' = 0.3 R2*": ["--separation", "chisep-medi"],
    "chisep-medi, R2' = R2* - 13": ["--separation", "chisep-medi", "--r2prime-fallback", "constant-r2"],
    "chisep-ilsqr, R2' = 0.3 R2*": ["--separation", "chisep-ilsqr"],
    "r2star-qsm": ["--separation", "r2star-qsm"],
    "decompose": ["--separation", "decompose"],
}
TIMES = "## Time and memory of the stage, preset consensus-fansi\n\n"
COLUMNS = ("NRMSE (%)", "HFEN (%)", "SSIM", "XSIM", "slope", "R2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the data (default: a temporary one)")
    parser.add_argument("--voxel-size", default="1")
    parser.add_argument("--times-only", action="store_true")
    arguments = parser.parse_args()
    options = SimulationOptions(voxel_size=arguments.voxel_size, mese=True, mese_b1="1.1,0.7")
    path = HERE / "separation.md"
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        if not (folder / "bids").exists() or not arguments.times_only:
            simulate(folder / "bids", options, overwrite=True)
        if arguments.times_only:
            text = path.read_text("utf-8").partition(TIMES)[0]
        else:
            text = tables(simulate_head(options), folder)
        path.write_text(text + TIMES + times(folder), "utf-8")


def tables(head: SimulatedHead, folder: Path) -> str:
    """What is told of accuracy."""
    sections = {"Isolated: true field, R2 and R2*": isolated(head)}
    for pipeline in ("consensus-fansi", "accurate"):
        measured = {name: ["--separation", name] for name in SPIN_ECHO}
        sections[f"Chain, {pipeline}, with spin echoes"] = chains(head, folder, pipeline, "auto", measured)
    title = "Chain, consensus-fansi, gradient echoes alone"
    sections[title] = chains(head, folder, "consensus-fansi", "none", ALONE)
    text = "# Source separation\n\n`python benchmarks/separation.py` " + " ".join(__doc__.split("\n\n")[2].split())
    text = text.replace("writes benchmarks/separation.md.", "makes these tables.") + "\n\n"
    return text + "\n".join(section(title, rows, head) for title, rows in sections.items()) + "\n"


def times(folder: Path) -> str:
    """Seconds and memory of the steps from R2* to the sources of a run with spin echoes; seconds of the dictionary."""
    lines = ["| step | seconds | memory of its process (GB) |", "|---|---|---|"]
    total = 0.0
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out"
        command = [str(folder / "bids"), str(out), "participant", "--skip-bids-validation", "-w", work]
        if qsmprep(command) != 0:
            raise SystemExit("The run failed.")
        timings = json.loads(next(out.glob("logs/*/timings.json")).read_text("utf-8"))
    for node in timings:
        if any(part in node["node"] for part in ("relaxometry_wf", "r2prime_wf", "separation_wf")):
            lines.append(f"| {node['node'].rpartition('.')[2]} | {node['seconds']:.1f} | {node['peak_gb']:.2f} |")
            total += node["seconds"]
    lines.append(f"| together | {total:.1f} | |")
    random = np.random.default_rng(0)
    shape = (250, 200, 200)
    trains = echo_train(
        random.uniform(0.03, 0.15, 10000), np.ones(10000), random.uniform(0.7, 1.1, 10000), echo_spacing_s=0.015,
        n_echoes=6,
    ).astype(np.float32)  # fmt: skip
    echoes = trains[random.integers(0, 10000, np.prod(shape))].T.reshape(6, *shape)
    echoes = echoes + np.float32(0.005) * random.standard_normal(echoes.shape, np.float32)
    given = {"echo_times_s": np.arange(1, 7) * 0.015, "voxel_size_mm": (1.0, 1.0, 1.0)}
    dictionary_match(echoes[:, :4], **given)  # compiles
    begin = time.perf_counter()
    dictionary_match(echoes, **given)
    lines += [
        "",
        f"The dictionary match of 10 million voxels with 6 echoes, both passes: {time.perf_counter() - begin:.0f} s.",
    ]
    return "\n".join(lines) + "\n"


Row = tuple[str, np.ndarray, np.ndarray, np.ndarray, float]


def isolated(head: SimulatedHead) -> list[Row]:
    """Every method on what is true."""
    mask, field = head.brain_mask, head.local_field_hz / head.centre_frequency_mhz
    constants = constants_at(RelaxometricOptions(), head.field_strength_t)
    given = {
        "field_ppm": field, "mask": mask, "constants": constants, "r2prime": head.r2prime, "r2star": head.r2star,
        "scan": head.scan,
        "magnitude_rss": np.sqrt(np.einsum("exyz,exyz->xyz", head.magnitude, head.magnitude)),
        "magnitude": head.magnitude,
    }  # fmt: skip
    invert = registry.find("inversion", "fansi")
    chi = invert.run(invert.options_type()(), **given).chi_ppm
    offset, _, _ = offset_by_signs(chi, head.r2prime, mask, constants=constants, voxel_size_mm=head.voxel_size_mm)
    given["chi_ppm"] = np.where(mask, chi + np.float32(offset), 0)
    given["echo_chi_ppm"] = np.broadcast_to(given["chi_ppm"], head.magnitude.shape)
    rows = []
    for name in usable("separation"):
        method = registry.find("separation", name)
        given |= network_inputs(method, method.options_type()())
        method.run(method.options_type()(), **{**given, "mask": box(mask)})  # compiles
        begin = time.perf_counter()
        found = method.run(method.options_type()(), **given)
        rows.append((name, found.chi_para, found.chi_dia, found.mask, time.perf_counter() - begin))
        print(name, f"{rows[-1][-1]:.1f} s", flush=True)
    return rows


def box(mask: np.ndarray) -> np.ndarray:
    """A small part of the mask."""
    part = np.zeros_like(mask)
    middle = tuple(slice(n // 2 - 6, n // 2 + 6) for n in mask.shape)
    part[middle] = mask[middle]
    return part


def chains(head: SimulatedHead, folder: Path, pipeline: str, r2: str, variants: dict[str, list[str]]) -> list[Row]:
    """The command line, its earlier steps taken from the work folder."""
    rows = []
    for number, (name, words) in enumerate(variants.items()):
        out = folder / f"out-{pipeline}-{r2}-{number}"
        command = [str(folder / "bids"), str(out), "participant", "--skip-bids-validation", "--pipeline", pipeline,
                   "--r2", r2, *words, "-w", str(folder / "work")]  # fmt: skip
        if qsmprep(command) != 0:
            raise SystemExit(f"The chain {name} failed; see {out}.")
        maps = [load(out, f"desc-{kind}magnetic_Chimap") for kind in ("para", "dia")]
        timings = json.loads(next(out.glob("logs/*/timings.json")).read_text("utf-8"))
        seconds = sum(node["seconds"] for node in timings if "separation_wf" in node["node"])
        rows.append((name, *maps, (maps[0] + maps[1] > 0) & head.brain_mask, seconds))
        print(pipeline, name, flush=True)
    return rows


def section(title: str, rows: list[Row], head: SimulatedHead) -> str:
    """Two tables: scores of both maps, and the means of every region."""
    lines = [f"## {title}\n", "| method | " + " | ".join(f"{kind}: {c}" for kind in ("para", "dia") for c in COLUMNS)
             + " | seconds |", "|---|" + "---|" * (2 * len(COLUMNS) + 1)]  # fmt: skip
    for name, para, dia, mask, seconds in rows:
        cells = [*scores(para, head.chi_para, mask, head), *scores(dia, head.chi_dia, mask, head)]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.1f} |")
    lines += ["", "Means of the regions (paramagnetic / diamagnetic, ppb):\n",
              "| method | " + " | ".join(region.replace("_", " ") for region in REGIONS) + " |",
              "|---|" + "---|" * len(REGIONS)]  # fmt: skip
    for name, para, dia, mask, _ in [("truth", head.chi_para, head.chi_dia, head.brain_mask, 0.0), *rows]:
        cells = [
            f"{1000 * para[where].mean():.1f} / {1000 * dia[where].mean():.1f}"
            for where in (region_in(head, region, mask) for region in REGIONS)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def scores(found: np.ndarray, truth: np.ndarray, mask: np.ndarray, head: SimulatedHead) -> list[str]:
    found, truth = np.where(mask, found, 0), np.where(mask, truth, 0)
    error = 100 * np.linalg.norm(found - truth) / np.linalg.norm(truth)
    means = np.array([
        (found[where].mean(), truth[where].mean()) for where in (region_in(head, r, mask) for r in REGIONS)
    ])  # fmt: skip
    slope = np.polyfit(means[:, 1], means[:, 0], 1)[0]
    fit = np.corrcoef(means.T)[0, 1] ** 2
    return [f"{error:.1f}", f"{hfen(found, truth):.1f}", f"{sepnet_ssim(found, truth, mask):.3f}",
            f"{xsim(found, truth, mask):.3f}", f"{slope:.2f}", f"{fit:.3f}"]  # fmt: skip


def region_in(head: SimulatedHead, name: str, mask: np.ndarray) -> np.ndarray:
    return (head.labels == TISSUES[name].label) & mask


def load(out: Path, stem: str) -> np.ndarray:
    return np.asarray(nib.load(out / "sub-01" / "anat" / f"sub-01_{stem}.nii.gz").dataobj)


if __name__ == "__main__":
    main()
