"""Accuracy of every method on varied simulated heads: on the true input of its stage, and in the whole chain.

    python benchmarks/accuracy.py [--heads NAME ...] [--work FOLDER] [--tables-only]

writes benchmarks/accuracy.csv (a row a method and head, appended as they come, so that a stopped benchmark continues),
benchmarks/accuracy.md and benchmarks/accuracy.png. The chain is the command line as a user runs it; the truth is used
for scoring only. Seconds, iterations and memory are those of the isolated method, in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from accuracy_tables import write_tables
from heads import HEADS
from isolated import background_inputs, inversion_inputs, measure
from results import Results

from qsmprep import registry
from qsmprep.analysis.metrics import evaluate
from qsmprep.cli.run import main as qsmprep
from qsmprep.cli.warmup import usable
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import SimulatedHead, simulate_head

HERE = Path(__file__).parent
COLUMNS = ("head", "input", "stage", "method", "mask_share", "seconds", "iterations", "converged", "peak_mb",
           "rmse_demeaned", "rmse_detrended", "rmse_detrended_tissue", "rmse_detrended_deep_grey",
           "rmse_detrended_blood", "hfen", "xsim", "correlation", "slope_deep_grey", "calcification_streak",
           "deviation_from_calcification_moment", "rmse_common")  # fmt: skip
MAIN = "fansi"  # the inversion that follows each background method in the chain
ACCURATE = "accurate"
# FANSI as it was before it counted the phase until the last echo; the background methods are compared with it.
SPACING = "fansi, echo spacing"
FORMER = {"inversion": {"fansi": {"scale": "echo-spacing"}}}
FORMER_WORDS = ["--fansi-scale", "echo-spacing"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="*", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--work", type=Path, help="folder for simulated data and results (default: a temporary one)")
    parser.add_argument("--tables-only", action="store_true", help="only write the tables anew from the CSV")
    arguments = parser.parse_args()
    table = Results(HERE / "accuracy.csv", COLUMNS)
    if not arguments.tables_only:
        with tempfile.TemporaryDirectory() as temporary:
            for name in arguments.heads:
                run_head(name, arguments.work or Path(temporary), table)
    write_tables(table.rows(), HERE)


def run_head(name: str, folder: Path, table: Results) -> None:
    options = HEADS[name]
    folder = folder / name.replace(" ", "_").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    head = simulate_head(options)
    isolated(name, head, folder, table)
    dataset = folder / "bids"
    if not dataset.exists():
        simulate(dataset, options)
    chains(name, head, dataset, folder, table)


def compared(stage: str) -> list[str]:
    """The methods of a stage but for networks, which benchmarks/networks.py compares."""
    return [method for method in usable(stage) if not registry.find(stage, method).needs_network()]


def isolated(name: str, head: SimulatedHead, folder: Path, table: Results) -> None:
    """Every method on the true input of its stage."""
    for stage, inputs in (("background", background_inputs), ("inversion", inversion_inputs)):
        wanted = [*compared(stage), *([SPACING] if stage == "inversion" else [])]
        missing = [method for method in wanted if not table.has(head=name, input="true", stage=stage, method=method)]
        if not missing:
            continue
        np.savez(folder / f"{stage}.npz", **inputs(head))
        for method in missing:
            with get_context("spawn").Pool(1) as pool:
                given = (MAIN, FORMER) if method == SPACING else (method, None)
                found = pool.apply(measure, (stage, given[0], str(folder / f"{stage}.npz"), given[1]))
            found |= field_scores(found.pop("map"), head, found["mask"]) if stage == "background" else \
                chi_scores(found.pop("map"), head, found["mask"])  # fmt: skip
            found["mask_share"] = float(found.pop("mask").sum() / head.brain_mask.sum())
            table.add(head=name, input="true", stage=stage, method=method, **found)


def chains(name: str, head: SimulatedHead, dataset: Path, folder: Path, table: Results) -> None:
    """The command line with every inversion, then with every background method, then the preset `accurate`."""
    inversions = (MAIN, *(method for method in compared("inversion") if method != MAIN))
    inversions = tuple(m for m in inversions if not table.has(head=name, input="chain", stage="inversion", method=m))
    default = registry.names("background")[0]
    jobs = [(default, ["--inversion", *inversions], {method: "inversion" for method in inversions})]
    jobs.append((SPACING, FORMER_WORDS, {SPACING: "inversion"}))
    for method in compared("background"):
        if method != default:
            jobs.append((method, ["--background", method, *FORMER_WORDS], {MAIN: "background"}))
    jobs.append((ACCURATE, ["--pipeline", ACCURATE], {ACCURATE: "pipeline"}))
    reference = folder / f"out-{default}"
    for label, words, methods in jobs:
        rows = {m: (stage, label if stage == "background" else m) for m, stage in methods.items()}
        if all(table.has(head=name, input="chain", stage=stage, method=row) for stage, row in rows.values()):
            continue
        out = folder / f"out-{label}"
        command = [str(dataset), str(out), "participant", "--skip-bids-validation", *words, "-w", str(folder / "work")]
        if qsmprep(command) != 0:
            raise SystemExit(f"The chain {label} failed; see {out}.")
        for i, (method, (stage, row)) in enumerate(rows.items()):
            desc = "" if i == 0 else f"desc-{method.replace('-', '')}_"
            chi = load(out, f"anat/sub-01_{desc}Chimap")
            mask = (chi != 0) & head.brain_mask
            scores = chi_scores(chi, head, mask)
            scores["mask_share"] = float(mask.sum() / head.brain_mask.sum())
            both = mask & (load(reference, "anat/sub-01_desc-qsm_mask") > 0)
            scores["rmse_common"] = evaluate(chi, head.chi_ppm, both)["rmse_demeaned"].value
            table.add(head=name, input="chain", stage=stage, method=row, **scores)


def chi_scores(chi: np.ndarray, head: SimulatedHead, mask: np.ndarray) -> dict[str, float]:
    """The columns of the table that are scores, both maps referenced to the mask's mean."""
    chi, truth = (np.where(mask, image - image[mask].mean(), 0) for image in (chi, head.chi_ppm))
    scores = evaluate(chi, truth, mask, head.labels, head.voxel_size_mm)
    return {key: float(score.value) for key, score in scores.items() if key in COLUMNS}


def field_scores(field_hz: np.ndarray, head: SimulatedHead, mask: np.ndarray) -> dict[str, float]:
    """Error of a tissue field, demeaned in its mask, and its correlation with the truth."""
    found, truth = (image[mask] - image[mask].mean() for image in (field_hz, head.local_field_hz))
    return {
        "rmse_demeaned": float(100 * np.linalg.norm(found - truth) / np.linalg.norm(truth)),
        "correlation": float(np.corrcoef(found, truth)[0, 1]),
    }


def load(out: Path, stem: str) -> np.ndarray:
    folder, name = stem.split("/")
    return np.asarray(nib.load(out / "sub-01" / folder / f"{name}.nii.gz").dataobj)


if __name__ == "__main__":
    main()
