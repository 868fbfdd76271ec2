"""Time and memory of every step, and of whole runs from the command line, at 160x200x180 with five echoes.

    python benchmarks/speed.py [--repeats 3] [--work FOLDER]

writes benchmarks/speed.md and benchmarks/memory.md. Each step runs in a process of its own: once to compile, then
`repeats` times; the median counts. The floor is the time that step spent inside the FFT itself, measured in the same
run: what remains is memory traffic and arithmetic. For steps without transforms the ratio is to one real FFT pair of
the volume. The memory of background removal and inversion is measured on heads of 1, 2, 4 and 8 million voxels, with
few iterations, on whose number memory does not depend.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from isolated import background_inputs, cubes, inversion_inputs, network_inputs, peak_memory_mb, stored_scan

from qsmprep import registry
from qsmprep.cli.warmup import usable
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import FIELD_OF_VIEW_MM, SimulationOptions

HERE = Path(__file__).parent
METHODS = tuple((stage, name) for stage in ("background", "inversion") for name in usable(stage))
STEPS = ("mcpc-3d-s", "romeo", "field map", "nonlinear-fit", "bet", "arlo", *(name for _, name in METHODS))
RUNS = ("fast", "consensus-fansi", "consensus-medi", "accurate")
MILLIONS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for the simulated data (default: a temporary one)")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=STEPS)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=RUNS)
    parser.add_argument("--millions", nargs="*", type=int, default=list(MILLIONS), help="of voxels, for the memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        simulate(folder / "bids", SimulationOptions(), overwrite=True)
        runs = [(name, *whole_run(name, folder, arguments.repeats)) for name in arguments.runs]
        data = prepared(folder, SimulationOptions())
        steps = [(name, *in_own_process(measure, name, data, arguments.repeats)) for name in arguments.steps]
        memory = {}
        for millions in arguments.millions:
            data = prepared(folder, of_size(millions))
            for stage, name in METHODS:
                memory[stage, name, millions] = in_own_process(memory_of, stage, name, data)
    if steps or runs:
        (HERE / "speed.md").write_text(table(steps, runs, arguments.repeats), "utf-8")
    if memory:
        (HERE / "memory.md").write_text(memory_table(memory, arguments.millions), "utf-8")


def of_size(millions: int) -> SimulationOptions:
    """The standard head in voxels of such a size that there are so many."""
    edge = (np.prod(FIELD_OF_VIEW_MM) / (millions * 1e6)) ** (1 / 3)
    return SimulationOptions(voxel_size=f"{edge:.4f}")


def prepared(folder: Path, options: SimulationOptions) -> Path:
    """Inputs of every step as one file, so that each step's process loads them alone."""
    head = simulate_head(options)
    inputs = {**inversion_inputs(head), **background_inputs(head)}
    np.savez(folder / "inputs.npz", phase=head.phase, **inputs)
    return folder / "inputs.npz"


def in_own_process(work, *arguments):
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def measure(name: str, data: Path, repeats: int) -> tuple[float, float, float, float, str]:
    """Median seconds, of them inside the FFT, memory added at the peak in GB, seconds of one FFT pair, remarks."""
    import scipy.fft

    arrays = loaded(data)
    work = step(name, arrays)
    work()
    volume = np.zeros(arrays["mask"].shape, np.float32)
    pair = min(timed(lambda: scipy.fft.irfftn(scipy.fft.rfftn(volume, workers=-1), s=volume.shape, workers=-1))[0]
               for _ in range(5))  # fmt: skip
    clock = [0.0]
    for transform in ("rfftn", "irfftn", "dctn", "idctn"):
        setattr(scipy.fft, transform, counted(getattr(scipy.fft, transform), clock))
    seconds, floors, peaks, remark = [], [], [], ""
    for _ in range(repeats):
        clock[0] = 0.0
        (took, result), peak = peak_memory_mb(lambda: timed(work))
        peaks.append(peak / 1024)
        seconds.append(took)
        floors.append(clock[0])
        end = getattr(result, "convergence", None)
        remark = f"{end.iterations} iterations{'' if end.converged else ', cap reached'}" if end else ""
    return statistics.median(seconds), statistics.median(floors), max(peaks), pair, remark


def memory_of(stage: str, name: str, data: Path) -> float:
    """Memory in GB that a method adds at its peak to its inputs and the interpreter."""
    arrays = loaded(data)
    method = registry.find(stage, name)
    options = method.options_type()()
    few = {field.name: 3 for field in fields(options) if field.name in ("max_iterations", "start_iterations")}
    options = replace(options, **few)
    arrays = {key: value for key, value in arrays.items() if key in method.inputs()} | network_inputs(method, options)
    method.run(options, **cubes(arrays))  # compiles
    return peak_memory_mb(lambda: method.run(options, **arrays))[1] / 1024


def loaded(data: Path) -> dict:
    with np.load(data) as stored:
        arrays = {key: value if value.ndim else float(value) for key, value in stored.items()}
    arrays |= {key: tuple(map(float, arrays[key])) for key in ("voxel_size_mm", "b0_direction")}
    return arrays | {"scan": stored_scan(arrays)}


def counted(transform, clock):
    def wrapper(*args, **kwargs):
        started = time.perf_counter()
        result = transform(*args, **kwargs)
        clock[0] += time.perf_counter() - started
        return result

    return wrapper


def timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def step(name: str, a: dict):
    """The step as a function without arguments."""
    echoes = {"phase": a["phase"], "magnitude": a["magnitude"]}

    def run(stage, method, **inputs):
        entry = registry.find(stage, method)
        options_type = entry.options_type()
        return entry.run(options_type() if options_type else None, **{**a, **inputs})

    def field_map():
        offset = run("phase-offset", "mcpc-3d-s", **{**echoes, "mask": None})
        unwrapped = run("unwrapping", "romeo", **{**echoes, "phase": offset.phase})
        return run("echo-combination", "weighted", **echoes, unwrapped_phase=unwrapped.phase)

    special = {
        "mcpc-3d-s": lambda: run("phase-offset", "mcpc-3d-s", **{**echoes, "mask": None}),
        "romeo": lambda: run("unwrapping", "romeo", **echoes),
        "field map": field_map,
        "nonlinear-fit": lambda: run("echo-combination", "nonlinear-fit", **echoes),
        "bet": lambda: run("mask", "bet", image=a["magnitude"][0]),
        "arlo": lambda: run("relaxometry", "arlo", **echoes),
    }
    if name in special:
        return special[name]
    stage = next(stage for stage, method in METHODS if method == name)
    entry = registry.find(stage, name)
    network = network_inputs(entry, entry.options_type()())
    return lambda: run(stage, name, **network)


def whole_run(pipeline: str, folder: Path, repeats: int) -> tuple[float, float]:
    """Median seconds and largest peak memory (all processes together) of the command line, work folder empty."""
    seconds, peaks = [], []
    for number in range(repeats + 1):
        target = folder / f"{pipeline}-{number}"
        command = [sys.executable, "-m", "qsmprep.cli.run", str(folder / "bids"), str(target), "participant",
                   "--pipeline", pipeline, "-w", str(target / "work")]  # fmt: skip
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, group_memory_gb(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed.")
        if number:  # the first run compiles
            seconds.append(time.perf_counter() - started)
            peaks.append(peak)
    return statistics.median(seconds), max(peaks)


def group_memory_gb(session: int) -> float:
    """Proportional memory of all processes descended from a process, in GB."""
    parents, total = {}, 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != session:
            ancestor = parents[ancestor]
        if ancestor == session:
            try:
                rollup = (Path("/proc") / str(pid) / "smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 2**20
    return total


def table(steps: list, runs: list, repeats: int) -> str:
    how = "one run" if repeats == 1 else f"median of {repeats} runs"
    lines = [
        "# Speed and memory",
        "",
        f"`python benchmarks/speed.py`: 160x200x180 voxels of 1 mm, five echoes, {os.cpu_count()} cores "
        f"({platform.machine()}), {how} after one that compiles.",
        "",
        "| step | seconds | in the FFT (s) | ratio to the FFT floor | FFT pairs of the volume | memory added (GB) | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seconds, floor, peak, pair, remark in steps:
        ratio = f"{seconds / floor:.1f}" if floor > 0 else "no FFT"
        lines.append(
            f"| {name} | {seconds:.2f} | {floor:.2f} | {ratio} | {seconds / pair:.0f} | {peak:.2f} | {remark} |"
        )
    lines += ["", "Memory added is the peak of a step above what its inputs and the interpreter hold.", "",
              "Whole runs from the command line, empty work folder, compiled loops cached:", "",
              "| pipeline | seconds | peak memory of all processes (GB) |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {seconds:.1f} | {peak:.2f} |" for name, seconds, peak in runs]
    return "\n".join(lines) + "\n"


def memory_table(memory: dict, millions: list[int]) -> str:
    lines = ["# Memory", "",
             "`python benchmarks/speed.py`: memory in GB that a method adds at its peak to its inputs and the",
             "interpreter, by the number of voxels of the volume, and its growth from the smallest to the largest",
             "volume over that of the voxels (1: linear).", "",
             "| method | " + " | ".join(f"{n} million" for n in millions) + " | growth |",
             "|---|" + "---|" * (len(millions) + 1)]  # fmt: skip
    for stage, name in METHODS:
        row = [memory[stage, name, n] for n in millions]
        growth = row[-1] / row[0] / (millions[-1] / millions[0])
        lines.append(f"| {name} | " + " | ".join(f"{gb:.2f}" for gb in row) + f" | {growth:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
