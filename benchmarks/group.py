"""Time of the group page over 200 simulated subjects' result files, and whether it finds what was planted in them.

    python benchmarks/group.py

writes benchmarks/group.md. The result files are made up: no image is read at the group level.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from qsmprep.report.acquisition import describe_acquisition

# Manufacturer, model, institution, centre frequency in MHz, offset of susceptibility in ppm.
SCANNERS = (
    ("Siemens", "Prisma_fit", "North", 123.2496, 0.000),
    ("Siemens", "Skyra", "East", 123.2371, 0.002),
    ("GE", "SIGNA Premier", "South", 127.7712, -0.003),
    ("Philips", "Ingenia Elition X", "West", 127.7583, 0.004),
    ("United Imaging", "uMR 790", "Centre", 127.6849, 0.001),
)
# Region: susceptibility in ppm, its slope a year, R2* in 1/s.
REGIONS = {
    "caudate": (0.045, 0.0004, 24), "putamen": (0.055, 0.0009, 28), "globus_pallidus": (0.130, 0.0005, 42),
    "thalamus": (0.010, -0.0001, 21), "red_nucleus": (0.100, 0.0005, 36), "substantia_nigra": (0.120, 0.0004, 38),
    "dentate_nucleus": (0.080, 0.0006, 33), "hippocampus": (0.002, 0.0, 18), "amygdala": (0.001, 0.0, 18),
    "csf": (0.000, 0.0, 3), "white_matter": (-0.030, 0.0, 22), "cortex": (0.008, 0.0001, 19),
}  # fmt: skip
MAPS = {"chi": "ppm", "chi_para": "ppm", "chi_dia": "ppm", "r2star": "1/s"}
# Number: mean, s.d., unit, title, low, high, decimals.
METRICS = {
    "snr_first_echo": (85.0, 7.0, "1", "Signal to noise, first echo", 20.0, None),
    "phase_linearity_residual": (0.12, 0.015, "rad", "Phase linearity residual", None, 0.3),
    "unwrapping_jumps": (0.0004, 0.0001, "1", "Share of voxels beside a jump", None, 0.005),
    "brain_volume": (1400.0, 110.0, "ml", "Volume of the brain mask", 900.0, 2000.0),
    "reliable_share": (0.94, 0.01, "1", "Share of the brain with reliable phase", 0.8, None),
    "field_sd": (28.0, 3.0, "Hz", "Spread of the total field", None, 60.0),
    "tissue_field_sd": (2.4, 0.2, "Hz", "Spread of the tissue field", None, 6.0),
    "edge_field": (0.008, 0.001, "ppm", "Tissue field left at the edge", None, 0.02),
    "streaking": (0.021, 0.002, "1", "Streaking", None, 0.05),
    "ghosting": (0.015, 0.002, "1", "Ghosting of the background", None, 0.05),
    "chi_sd": (0.042, 0.002, "ppm", "Spread of susceptibility", 0.02, 0.1),
    "slice_jumps": (0.0, 0.0, "1", "Slices out of line", None, 3.0),
}

FIRST_IMAGE = "_echo-1_part-mag_MEGRE.nii.gz"


@dataclass(frozen=True)
class Planted:
    """What was hidden in the results: run -> number of quality, the run of another version, who left nothing."""

    outliers: dict[str, str]
    version: str
    missing: str
    icc: float


def write_study(bids_dir: Path, output_dir: Path, *, subjects: int = 200, seed: int = 0) -> Planted:
    """Write participants.tsv and the result files of made-up subjects on five scanners, a fourth with two sessions."""
    rng = np.random.default_rng(seed)
    bids_dir.mkdir(parents=True, exist_ok=True)
    lines, runs = ["participant_id\tage\tsex\tsite"], []
    for i in range(subjects):
        label, scanner = f"{i + 1:03d}", i % len(SCANNERS)
        age = int(rng.integers(20, 81))
        lines.append(f"sub-{label}\t{age}\t{'FM'[i % 2]}\t{SCANNERS[scanner][2]}")
        (bids_dir / f"sub-{label}").mkdir(exist_ok=True)
        person = rng.normal(0, 1, len(REGIONS))
        for session in ("1", "2") if i % 4 == 0 else ("1",):
            runs.append((label, session, scanner, age, person))
    lines.append(f"sub-{subjects + 1:03d}\t40\tF\tNorth")  # was scanned, but left no result
    (bids_dir / "participants.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    places = rng.choice(len(runs), 4, replace=False)
    names = [f"sub-{label}_ses-{session}" for label, session, *_ in runs]
    planted = dict(zip((names[p] for p in places[:3]), ("snr_first_echo", "streaking", "slice_jumps"), strict=True))
    version = names[places[3]]
    for i, (name, run) in enumerate(zip(names, runs, strict=True)):
        _write_scans(bids_dir, name, date(2024, 1, 1) + timedelta(days=5 * i))
        _write_run(output_dir, name, run, rng, planted.get(name), "0.1.9" if name == version else "0.2.0")
    return Planted(planted, version, f"{subjects + 1:03d}", 0.012**2 / (0.012**2 + 0.003**2))


def _write_run(output_dir: Path, name: str, run: tuple, rng: np.random.Generator, bad: str | None, version: str):
    label, session, scanner, age, person = run
    folder = output_dir / f"sub-{label}" / f"ses-{session}"
    (folder / "anat").mkdir(parents=True, exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    quality = _quality(name, label, session, scanner, rng, bad, version)
    _write_json(folder / "anat" / f"{name}_qc.json", quality)
    (folder / "anat" / f"{name}_desc-roi_stats.tsv").write_text(_regions(scanner, age, person, rng), "utf-8")
    _write_json(folder / "figures" / f"{name}_record.json", _record(name, label, scanner, rng, version))
    (output_dir / f"sub-{label}.html").write_text(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>sub-{label}</title></head></html>', "utf-8"
    )


def _write_scans(bids_dir: Path, name: str, day: date) -> None:
    subject, session = name.split("_")
    folder = bids_dir / subject / session
    folder.mkdir(exist_ok=True)
    lines = ["filename\tacq_time", f"anat/{name}{FIRST_IMAGE}\t{day}T09:30:00"]
    (folder / f"{name}_scans.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def _write_json(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=1), "utf-8")


def _quality(name, label, session, scanner, rng, bad, version) -> dict:
    metrics = {key: round(float(rng.normal(mean, sd)), 6) for key, (mean, sd, *_) in METRICS.items()}
    metrics["snr_first_echo"] += 4.0 * scanner
    flags = []
    if bad:
        metrics[bad] = {"snr_first_echo": 12.0, "streaking": 0.061, "slice_jumps": 2.0}[bad]
    definitions = {}
    for key, (_, _, unit, title, low, high) in METRICS.items():
        definitions[key] = {
            "unit": unit, "title": title, "description": "", "low": low, "high": high,
            "artefact": "", "remedy": "Look at the pictures.",
        }  # fmt: skip
        for side, limit, over in (("low", low, -1), ("high", high, 1)):
            if limit is not None and over * (metrics[key] - limit) > 0:
                message = f"{title}: {metrics[key]:.3g} is beyond {limit:g}"
                flags.append({"metric": key, "value": metrics[key], "limit": limit, "side": side, "message": message,
                              "remedy": "Look at the pictures."})  # fmt: skip
    return {
        "run": name, "subject": label, "session": session, "software": {"qsmprep": version}, "metrics": metrics,
        "definitions": definitions, "flags": flags, "verdict": "check" if flags else "usable",
    }  # fmt: skip


def _regions(scanner, age, person, rng) -> str:
    columns = ("segmentation", "index", "name", "map", "unit", "n", "n_region", "excluded_share", "mean", "sd",
               "median", "p5", "p25", "p75", "p95")  # fmt: skip
    lines = ["\t".join(columns)]
    for i, (region, (chi, slope, r2star)) in enumerate(REGIONS.items()):
        middle = chi + slope * (age - 50) + 0.012 * person[i] + 0.003 * rng.normal() + SCANNERS[scanner][4]
        means = {"chi": middle, "chi_para": max(middle, 0) + 0.02, "chi_dia": max(-middle, 0) + 0.02,
                 "r2star": r2star + 60 * (middle - chi)}  # fmt: skip
        for quantity, unit in MAPS.items():
            mean, sd = means[quantity], 0.02 if unit == "ppm" else 3.0
            spread = [mean + sd * z for z in (0, -1.64, -0.67, 0.67, 1.64)]
            numbers = [2400, 2500, 0.04, mean, sd, *spread]
            texts = ["deepgm", str(i + 1), region, quantity, unit]
            lines.append("\t".join(texts + [f"{number:.6g}" for number in numbers]))
    return "\n".join(lines) + "\n"


def _record(name, label, scanner, rng, version) -> dict:
    vendor, model, institution, frequency, _ = SCANNERS[scanner]
    metadata = {
        "MagneticFieldStrength": 3, "Manufacturer": vendor, "ManufacturersModelName": model,
        "InstitutionName": institution, "MRAcquisitionType": "3D", "RepetitionTime": 0.04, "FlipAngle": 15,
        "ImagingFrequency": round(frequency + 0.0002 * rng.normal(), 6),
    }  # fmt: skip
    acquisition = describe_acquisition(
        metadata, affine=np.eye(4), shape=(192, 224, 160), echo_times_s=(0.006, 0.012, 0.018, 0.024, 0.03)
    )
    methods = {
        "input": ("phase in radians", {}), "mask": ("bet", {"fraction": 0.5}), "unwrapping": ("romeo", {}),
        "echo-combination": ("nonlinear", {"iterations": 30}), "background": ("vsharp", {"radius_max": 12.0}),
        "inversion": ("fansi", {"alpha1": 0.0005, "iterations": 400}), "reference": ("brain", {}),
    }  # fmt: skip
    steps = [
        {"stage": stage, "method": method, "title": method, "facts": [], "notes": [], "warnings": [], "figures": [],
         "parameters": [{"name": key, "value": value, "unit": "", "default": True, "help": ""}
                        for key, value in options.items()]}
        for stage, (method, options) in methods.items()
    ]  # fmt: skip
    return {
        "run": name, "subject": label, "software": {"qsmprep": version, "numpy": "2.4.6"}, "command": "qsmprep",
        "started": "2026-01-02T03:04:05", "seconds": 300.0, "status": "ok", "errors": [], "warnings": [],
        "inputs": [f"{name.replace('_', '/')}/anat/{name}{FIRST_IMAGE}"], "acquisition": acquisition, "steps": steps,
    }  # fmt: skip


def main() -> None:
    """Make the results, time the group level in this process, check what was planted, write the table."""
    from qsmprep.cli.run import main as qsmprep

    with tempfile.TemporaryDirectory() as folder:
        bids_dir, output_dir = Path(folder) / "bids", Path(folder) / "out"
        planted = write_study(bids_dir, output_dir)
        files = sum(1 for path in output_dir.rglob("*") if path.is_file())
        start, busy = time.perf_counter(), time.process_time()
        status = qsmprep([str(bids_dir), str(output_dir), "group"])
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        page = (output_dir / "group.html").read_text("utf-8")
        table = (output_dir / "group_qc.tsv").read_text("utf-8").splitlines()
    header = table[0].split("\t")
    marked = {}
    for line in table[1:]:
        cells = dict(zip(header, line.split("\t"), strict=True))
        marked[cells["run"]] = cells["outliers"]
    found = [run for run, metric in planted.outliers.items() if metric in marked[run]]
    others = sum(1 for run, text in marked.items() if text != "n/a" and run not in planted.outliers)
    lines = [
        "# Group page: time and what it finds", "",
        "Made by `python benchmarks/group.py`: result files of 200 made-up subjects on five scanners, every "
        "fourth with two sessions, with three planted outliers, one run of another version and one participant without "
        "results.", "",
        "| | |", "|---|---|",
        f"| runs | {len(marked)} |", f"| result files | {files} |", f"| exit status | {status} |",
        f"| seconds | {seconds:.1f} (aim: 30) |", f"| seconds of one core, without waiting | {busy:.1f} |",
        f"| size of group.html | {len(page.encode()) / 1e6:.1f} MB |",
        f"| planted outliers found | {len(found)} of {len(planted.outliers)} |",
        f"| other runs marked as outliers | {others} of {len(marked)} |",
        f"| run of another version named | {'yes' if planted.version in page and '0.1.9' in page else 'no'} |",
        f"| missing participant named | {'yes' if 'sub-' + planted.missing in page else 'no'} |", "",
        f"Python {platform.python_version()}, {platform.machine()}, one process.",
    ]  # fmt: skip
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
