"""Accuracy of pipelines and methods on heads of every generator: what is tuned on one is judged on the others.

    python benchmarks/generators.py [--heads NAME ...] [--voxel-size MM] [--work FOLDER] [--jobs NAME ...]
                                    [--tables-only]

writes benchmarks/generators.csv (a row a method and head, appended as they come, so that a stopped benchmark continues)
and benchmarks/generators.md. The scan goes through the command line as a user runs it; the truth is used for scoring,
and where a row says so for the brain mask. The heads of qsm-forward need `pip install qsm-forward`.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from generator_scores import RIM_MM, depth_in, load, scores_of_map, scores_of_mask, scores_of_sources
from generator_tables import FAILED, document, voxel_size
from heads import EVERY_HEAD, GENERATOR, OF_GENERATOR, with_voxels_of
from isolated import inversion_inputs, network_inputs
from qsm_forward_head import forward_model, head_of_qsm_forward
from results import Results

from qsmprep import registry
from qsmprep.bids.outputs import write_json
from qsmprep.cli.run import main as qsmprep
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.settings import build

HERE = Path(__file__).parent
COLUMNS = ("generator", "head", "voxel_size", "method", "status", "nrmse", "xsim", "slope", "rim", "inner", "share",
           "dice", "outside", "lost", "para", "dia")  # fmt: skip
NAMES = [name for heads in OF_GENERATOR.values() for name in heads]
INVERSIONS = ("rts", "tv", "tfi", "l1-qsm", "hd-qsm", "star", "ndi", "tkd")
# Inversions of the true field in the true mask: what is left when all before is without error.
BOUNDS = {
    "true field, fansi": ("fansi", {}),
    "true field, fansi without weak harmonic field": ("fansi", {"weak_harmonic": False}),
    "true field, l1-qsm": ("l1-qsm", {}),
    "true field, tv": ("tv", {}),
    "true field, tkd": ("tkd", {}),
    "true field, qsmnet": ("qsmnet", {}),
    "true field, modl": ("modl", {}),
}
# Inversions of the tissue field that a run has left, as the command line would do it: the run, and the inversion.
AFTER = {
    f"{preset}, inversion {name}": (preset, name)
    for preset in ("consensus-fansi", "accurate")
    for name in ("qsmnet", "modl")
}


@dataclass(frozen=True)
class Job:
    """One run of the command line: its options, and the map of each method, by the `desc` entity of its file."""

    words: tuple[str, ...]
    maps: dict[str, str]
    true_mask: bool = False


def preset(name: str, *, true_mask: bool = False) -> Job:
    return Job(("--pipeline", name), {name + (", true mask" if true_mask else ""): ""}, true_mask)


JOBS = {
    **{name: preset(name) for name in ("consensus-fansi", "accurate", "consensus-medi", "fast")},
    **{f"{name}-true-mask": preset(name, true_mask=True) for name in ("consensus-fansi", "accurate")},
    **{name: Job(("--background", name), {f"background {name}": ""}) for name in ("iharperella", "lbv")},
    "accurate-plain": Job(
        ("--pipeline", "accurate", "--no-fansi-weak-harmonic"), {"accurate, no weak harmonic field": ""}
    ),
    "sharqnet": Job(("--background", "sharqnet"), {"background sharqnet": ""}),
    "autoqsm": Job(("--inversion", "autoqsm", "--separation", "none"), {"inversion autoqsm": ""}),
    "sharqnet-qsmnet": Job(
        ("--background", "sharqnet", "--inversion", "qsmnet", "--separation", "none"),
        {"background sharqnet, inversion qsmnet": ""},
    ),
    "inversions": Job(
        ("--inversion", *INVERSIONS, "--separation", "none"),
        {f"inversion {name}": f"desc-{name.replace('-', '')}_" if i else "" for i, name in enumerate(INVERSIONS)},
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="*", default=NAMES, choices=NAMES)
    edge = "shortest edge of the voxels of every head, for a quick trial (default: each its own)"
    parser.add_argument("--voxel-size", type=float, metavar="MM", help=edge)
    parser.add_argument("--work", type=Path, help="folder for simulated data and results (default: a temporary one)")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS), help="runs (default: all)")
    parser.add_argument("--tables-only", action="store_true", help="only write the tables anew from the CSV")
    arguments = parser.parse_args()
    table = Results(HERE / "generators.csv", COLUMNS)
    if not arguments.tables_only:
        if any(GENERATOR[name] == "qsm-forward" for name in arguments.heads):
            forward_model()
        with tempfile.TemporaryDirectory() as temporary:
            for name in arguments.heads:
                folder = (arguments.work or Path(temporary)).resolve()
                run_head(name, arguments.voxel_size, folder, table, arguments.jobs)
                write_document(table, arguments.voxel_size)
    write_document(table, arguments.voxel_size)
    return 1 if any(row["status"] == FAILED for row in table.rows()) else 0


def write_document(table: Results, edge_mm: float | None) -> None:
    (HERE / "generators.md").write_text(document(table.rows(), NAMES, edge_mm, RIM_MM), "utf-8")


def run_head(name: str, edge_mm: float | None, folder: Path, table: Results, jobs: Sequence[str]) -> None:
    """Every one of the jobs that the table lacks, and what is done with the true field and with those of runs."""
    size = voxel_size(name, edge_mm)
    key = {"generator": GENERATOR[name], "head": name, "voxel_size": size}
    missing = {
        label: JOBS[label] for label in jobs if not all(table.has(**key, method=method) for method in JOBS[label].maps)
    }
    bounds = [method for method in BOUNDS if not table.has(**key, method=method)]
    after = [method for method in AFTER if not table.has(**key, method=method)]
    if not missing and not bounds and not after:
        return
    folder = folder / f"{name}-{size}".replace(" ", "_").replace(",", "")
    head = prepared(name, with_voxels_of(EVERY_HEAD[name], edge_mm), folder)
    depth_mm = depth_in(head.brain_mask, head.voxel_size_mm)
    for method in bounds:
        chi = from_true_field(head, *BOUNDS[method])
        table.add(**key, method=method, status="ok", **scores_of_map(chi, head, depth_mm))
    for label, job in missing.items():
        for method, scores in scored(label, job, head, depth_mm, folder).items():
            if not table.has(**key, method=method):
                table.add(**key, method=method, **scores)
    for method in after:
        preset, inversion = AFTER[method]
        if (anat := folder / f"out-{preset}" / "sub-01" / "anat").exists():
            chi = from_field_of(anat, head, inversion)
            table.add(**key, method=method, status="ok", **scores_of_map(chi, head, depth_mm))


def scored(label: str, job: Job, head: SimulatedHead, depth_mm: np.ndarray, folder: Path) -> dict[str, dict]:
    """Run the command line and score every map of it."""
    out = folder / f"out-{label}"
    command = [str(folder / "bids"), str(out), "participant", "--skip-bids-validation", *job.words, "-w",
               str(folder / "work")]  # fmt: skip
    command += ["--mask-file", str(folder / "true_mask.nii.gz")] if job.true_mask else []
    if qsmprep(command) != 0:
        return {method: {"status": FAILED} for method in job.maps}
    anat = out / "sub-01" / "anat"
    shared = {}
    if not job.true_mask:
        shared = scores_of_mask(load(anat / "sub-01_desc-brain_mask.nii.gz") > 0, head.brain_mask)
    shared |= scores_of_sources(anat, head)
    return {
        method: {"status": "ok", **scores_of_map(load(anat / f"sub-01_{desc}Chimap.nii.gz"), head, depth_mm), **shared}
        for method, desc in job.maps.items()
    }


def from_true_field(head: SimulatedHead, name: str, options: dict[str, object]) -> np.ndarray:
    """Susceptibility from the true tissue field, in the true brain mask."""
    method = registry.find("inversion", name)
    inputs = {"scan": head.scan, **inversion_inputs(head)}
    wanted = {name: value for name, value in inputs.items() if name in method.inputs()}
    chosen = build({"inversion": {name: options}}).options_of("inversion", name)
    return method.run(chosen, **wanted, **network_inputs(method, chosen)).chi_ppm


def from_field_of(anat: Path, head: SimulatedHead, name: str) -> np.ndarray:
    """Susceptibility from the tissue field that a run has left, in the mask of its map."""
    method = registry.find("inversion", name)
    field_hz = load(anat.parent / "fmap" / "sub-01_desc-local_fieldmap.nii.gz")
    mask = load(anat / "sub-01_desc-qsm_mask.nii.gz") > 0
    inputs = {"scan": head.scan, "field_ppm": field_hz / head.centre_frequency_mhz, "mask": mask}
    chosen = build({}).options_of("inversion", name)
    return method.run(chosen, **inputs, **network_inputs(method, chosen)).chi_ppm


def prepared(name: str, options: SimulationOptions, folder: Path) -> SimulatedHead:
    """The head, simulated once; its scan as a BIDS dataset and its true brain mask lie in the folder."""
    stored = folder / "head.pickle"
    if stored.exists():
        return pickle.loads(stored.read_bytes())
    print(name, "is simulated", flush=True)
    head = (head_of_qsm_forward if GENERATOR[name] == "qsm-forward" else simulate_head)(options)
    folder.mkdir(parents=True, exist_ok=True)
    write_scan(folder / "bids", head, options, GENERATOR[name])
    nib.Nifti1Image(head.brain_mask.astype(np.uint8), head.affine).to_filename(folder / "true_mask.nii.gz")
    unfinished = stored.with_suffix(".part")
    unfinished.write_bytes(pickle.dumps(head, pickle.HIGHEST_PROTOCOL))
    unfinished.rename(stored)
    return head


def write_scan(bids: Path, head: SimulatedHead, options: SimulationOptions, generator: str) -> None:
    """Magnitude and phase of every echo, with what a sidecar must tell."""
    anat = bids / "sub-01" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    description = {"Name": "Simulated head", "BIDSVersion": "1.9.0", "GeneratedBy": [{"Name": generator}]}
    write_json(bids / "dataset_description.json", description)
    for number, te in enumerate(head.echo_times_s, 1):
        for part, image, unit in (("mag", head.magnitude, "arbitrary"), ("phase", head.phase, "rad")):
            stem = anat / f"sub-01_echo-{number}_part-{part}_MEGRE"
            written = nib.Nifti1Image(image[number - 1].astype(np.float32), head.affine)
            written.header.set_xyzt_units("mm")
            written.to_filename(f"{stem}.nii.gz")
            sidecar = {
                "EchoTime": float(te), "EchoNumber": number, "MagneticFieldStrength": head.field_strength_t,
                "RepetitionTimeExcitation": options.repetition_time, "FlipAngle": options.flip_angle,
                "MRAcquisitionType": "3D", "Units": unit,
            }  # fmt: skip
            write_json(Path(f"{stem}.json"), sidecar)


if __name__ == "__main__":
    raise SystemExit(main())
