"""Do quality numbers tell bad runs from good ones? Twenty runs with one planted fault each against twenty clean ones.

    python benchmarks/quality.py [--work FOLDER] [--only limits faults clean] [--tables-only]

simulates heads at 2 mm, runs the command line as a user does, reads the `_qc.json` it writes, and keeps a row a run in
benchmarks/quality.csv (appended as they come, so that a stopped benchmark continues). benchmarks/quality.md is the
table: each fault with its number, limit and whether it was flagged; each clean run with its flags. The set "limits" is
twelve more clean heads with seeds of their own, on which limits are checked before the other two sets are run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from quality_faults import FAULTS, Fault

from qsmprep.cli.run import main as qsmprep
from qsmprep.engine.node import read_result, write_result
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions
from qsmprep.quality.assessment import DEFINITIONS, flag_of

HERE = Path(__file__).parent
SETS = ("limits", "faults", "clean")
COMMON = {"voxel_size": "2", "variation": 0.05}
SEVEN_TESLA = {"field_strength": 7.0, "echo_times": "0.004,0.008,0.012,0.016,0.02"}
THREE_ECHOES = {"echo_times": "0.006,0.014,0.022"}
SNR = (50.0, 100.0, 150.0, 200.0, 300.0)
TILTS = ({}, {"tilt_x": 10.0}, {"tilt_x": 20.0}, {"tilt_x": -25.0, "tilt_y": 10.0}, {"head_tilt_x": 15.0})
LESIONS = ({}, {"bleed": True}, {"calcification": True}, {"bleed": True, "calcification": True})
SCANS = ({}, {}, THREE_ECHOES, SEVEN_TESLA, {"vendor": "siemens"}, {"vendor": "ge"}, {"vendor": "philips"})


@dataclass(frozen=True)
class Case:
    """One run: the set it belongs to, its name, its head, its fault."""

    set: str
    name: str
    options: SimulationOptions
    fault: Fault | None = None


def varied(seed: int, number: int) -> SimulationOptions:
    """A head that differs from the others in anatomy, noise, tilt, lesions, texture and scan."""
    tilt = TILTS[number % 5]
    texture = {"texture": 0.01 * (number % 3 == 1)} if "head_tilt_x" not in tilt else {}
    facts = COMMON | tilt | LESIONS[number // 2 % 4] | SCANS[number % 7] | texture
    return SimulationOptions(seed=seed, peak_snr=SNR[(number + number // 5) % 5], **facts)


def cases() -> list[Case]:
    """All runs of the benchmark."""
    found = [Case("limits", f"limits-{n:02d}", varied(5000 + n, n + 3)) for n in range(12)]
    for n, fault in enumerate(FAULTS):
        facts = COMMON | {"seed": 7000 + n, "peak_snr": 100.0} | fault.simulation
        found.append(Case("faults", f"fault-{n:02d}", SimulationOptions(**facts), fault))
    return found + [Case("clean", f"clean-{n:02d}", varied(9000 + n, n)) for n in range(20)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for data and results (default: a temporary one)")
    parser.add_argument("--only", nargs="*", default=SETS, choices=SETS, help="sets of runs")
    parser.add_argument("--tables-only", action="store_true", help="only write the table anew from the CSV")
    arguments = parser.parse_args()
    table = HERE / "quality.csv"
    done = {row["name"] for row in read_rows(table)}
    with tempfile.TemporaryDirectory() as temporary:
        for case in () if arguments.tables_only else cases():
            if case.set in arguments.only and case.name not in done:
                add_row(table, case, run(case, (arguments.work or Path(temporary)) / case.name))
    write_table(read_rows(table), HERE / "quality.md")


def run(case: Case, folder: Path) -> dict[str, float | None]:
    """Simulate, plant, process; the quality numbers of the run. The images are thrown away."""
    fault = case.fault or Fault("", "", ())
    bids, out, work = folder / "bids", folder / "out", folder / "work"
    simulate(bids, case.options, overwrite=True)
    random = np.random.default_rng([case.options.seed, 4])
    words = list(fault.words) + ((fault.plant(bids, random) or []) if fault.plant else [])
    command = [str(bids), str(out), "participant", "--skip-bids-validation", "-w", str(work), "--plugin", "linear",
               "--separation", "none", *words]  # fmt: skip
    process(command)
    numbers = out / "sub-01" / "anat" / "sub-01_qc.json"
    if fault.middle:
        path = next(work.glob("**/unwrap/unwrapped.nii"))
        image = nib.load(path)
        unwrapped = np.array(image.dataobj, np.float32)
        places = np.tensordot(image.affine[:3, :3], np.indices(unwrapped.shape[:3]), 1)
        fault.middle(unwrapped, places + image.affine[:3, 3].reshape(3, 1, 1, 1), case.options.echo_times_s())
        nib.save(nib.Nifti1Image(unwrapped, image.affine), path)
        acknowledge(path)
        numbers.unlink()
        process(command)  # goes on from the changed phase
    metrics = json.loads(numbers.read_text("utf-8"))["metrics"]
    shutil.rmtree(folder)
    return metrics


def acknowledge(path: Path) -> None:
    """Make a changed file the result of its node, which would else take it for damaged and make it anew."""
    result, there = read_result(path.parent), path.stat()
    state = (there.st_size, there.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    write_result(path.parent, replace(result, files={**result.files, path.name: state}))


def process(command: list[str]) -> None:
    if qsmprep(command) != 0:
        raise SystemExit(f"The run failed: qsmprep {' '.join(command)}")


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def add_row(path: Path, case: Case, numbers: dict[str, float | None]) -> None:
    """Append a run to the CSV."""
    columns = ["set", "name", "fault", "variant", *DEFINITIONS]
    fresh = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
        if fresh:
            writer.writeheader()
        fault = {"fault": case.fault.name, "variant": case.fault.variant} if case.fault else {}
        writer.writerow({"set": case.set, "name": case.name} | fault | numbers)
    print(case.name, flags_of(numbers), flush=True)


def flags_of(row: dict) -> list[str]:
    """Names of the numbers beyond the limits in force now."""
    values = {name: float(row[name]) for name in DEFINITIONS if row.get(name) not in (None, "")}
    return [name for name, value in values.items() if flag_of(name, value)]


def write_table(rows: list[dict[str, str]], path: Path) -> None:
    """The table for people."""
    by_name = {row["name"]: row for row in rows}
    present = [case for case in cases() if case.name in by_name]
    faults, clean = ([case for case in present if case.set == name] for name in ("faults", "clean"))
    found = [bool(set(case.fault.numbers) & set(flags_of(by_name[case.name]))) for case in faults]
    bad = [case for case in clean if flags_of(by_name[case.name])]
    lines = [
        "# Quality numbers: planted faults against clean runs", "",
        "Made by `python benchmarks/quality.py`; what the numbers are and how their limits were chosen: "
        "[quality](../docs/quality.md).", "",
        f"* {sum(found)} of {len(faults)} planted faults are flagged by their number.",
        f"* {len(bad)} of {len(clean)} clean runs have a flag.",
        "* Known to be missed, seen on heads of 3 mm and replaced among the twenty: a mask that takes in cavities "
        "within 10 mm only (2 ml of air in thin pieces: `air_in_mask` is 0), and TSVD with a threshold of 0.05 (it "
        "empties the cone that the streaking index looks at: 0.6 to 1.0; with 0.02 it is 2.6 to 3.2).",
        "* All were processed twice. After the first time, with the same result, the regions of `echo_time_offset` and "
        "of the open fringes were narrowed, because a real scan was flagged by them.", "",
        "## Planted faults", "", "| fault | form | its number | value | limits | flagged | all flags |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for case, hit in zip(faults, found, strict=True):
        row = by_name[case.name]
        lines += [fault_line(case.fault, row, flags_of(row), hit)]
    lines += ["", "## Clean runs", "", "| run | head | flags |", "|---|---|---|"]
    lines += [f"| {case.name} | {head_words(case.options)} | {', '.join(flags_of(by_name[case.name])) or 'none'} |"
              for case in clean]  # fmt: skip
    lines += ["", "## Range of each number", "",
              "| number | unit | limits | heads for limits | clean runs |", "|---|---|---|---|---|"]  # fmt: skip
    for name, definition in DEFINITIONS.items():
        ranges = [span([row for row in rows if row["set"] == kind], name) for kind in ("limits", "clean")]
        lines += [f"| {name} | {definition.unit} | {limits_of(name)} | {ranges[0]} | {ranges[1]} |"]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def fault_line(fault: Fault, row: dict[str, str], flags: list[str], hit: bool) -> str:
    shown = next((name for name in fault.numbers if name in flags), fault.numbers[0])
    value = f"{float(row[shown]):.3g}" if row[shown] else "n/a"
    return (f"| {fault.name} | {fault.variant} | {shown} | {value} | {limits_of(shown)} | {'yes' if hit else '**no**'} "
            f"| {', '.join(flags) or 'none'} |")  # fmt: skip


def limits_of(name: str) -> str:
    pairs = (("at least", DEFINITIONS[name].low), ("at most", DEFINITIONS[name].high))
    return ", ".join(f"{word} {limit:g}" for word, limit in pairs if limit is not None) or "none"


def span(rows: list[dict[str, str]], name: str) -> str:
    values = [float(row[name]) for row in rows if row.get(name)]
    return f"{min(values):.3g} to {max(values):.3g}" if values else "n/a"


def head_words(options: SimulationOptions) -> str:
    plain = replace(SimulationOptions(), seed=options.seed, **COMMON)
    told = [f"{name} {value}" for name, value in vars(options).items() if value != getattr(plain, name)]
    return f"seed {options.seed}" + "".join(f", {words}" for words in told)


if __name__ == "__main__":
    main()
