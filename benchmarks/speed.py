"""Time and memory of every step, and of whole runs from the command line, at 160x200x180 with five echoes.

    python benchmarks/speed.py [--repeats 3] [--work FOLDER]

writes benchmarks/speed.md. Each step runs in a process of its own: once to compile, then `repeats` times; the median
counts. The floor is the time that step spent inside the FFT itself, measured in the same run: what remains is memory
traffic and arithmetic. For steps without transforms the ratio is to one real FFT pair of the volume.
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
from multiprocessing import get_context
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STEPS = ("mcpc-3d-s", "romeo", "field map", "nonlinear-fit", "bet", "v-sharp", "pdf", "tkd", "rts", "fansi", "medi",
         "arlo")  # fmt: skip
RUNS = ("fast", "consensus-fansi", "consensus-medi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for the simulated data (default: a temporary one)")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=STEPS)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        data = prepared(folder)
        steps = [(name, *in_own_process(name, data, arguments.repeats)) for name in arguments.steps]
        runs = [(name, *whole_run(name, folder, arguments.repeats)) for name in arguments.runs]
    text = table(steps, runs, arguments.repeats)
    (HERE / "speed.md").write_text(text, "utf-8")
    print(text)


def prepared(folder: Path) -> Path:
    """Inputs of every step as one file, so that each step's process loads them alone."""
    from qsmprep.field.weighted import weighted_field
    from qsmprep.field.weights import data_weights
    from qsmprep.phantom.dataset import simulate
    from qsmprep.phantom.head import simulate_head
    from qsmprep.phantom.options import SimulationOptions

    options = SimulationOptions(shape="160,200,180")
    simulate(folder / "bids", options, overwrite=True)
    head = simulate_head(options)
    times = head.echo_times_s
    unwrapped = (2 * np.pi * times[:, None, None, None] * head.total_field_hz).astype(np.float32)
    noise = weighted_field(unwrapped, echo_times_s=times, magnitude=head.magnitude, mask=head.brain_mask).noise_hz
    arrays = {
        "phase": head.phase, "magnitude": head.magnitude, "times": times, "mask": head.brain_mask, "noise": noise,
        "total": head.total_field_hz, "local": head.local_field_hz, "b0": head.b0_direction,
        "weights": data_weights(noise_hz=noise, mask=head.brain_mask), "voxel": head.voxel_size_mm,
        "frequency": head.centre_frequency_mhz,
    }  # fmt: skip
    np.savez(folder / "inputs.npz", **arrays)
    return folder / "inputs.npz"


def in_own_process(name: str, data: Path, repeats: int) -> tuple[float, float, float, float, str]:
    context = get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (name, str(data), repeats))


def measure(name: str, data: str, repeats: int) -> tuple[float, float, float, float, str]:
    """Median seconds, of them inside the FFT, memory added at the peak in GB, seconds of one FFT pair, remarks."""
    import scipy.fft

    arrays = dict(np.load(data))
    work = step(name, arrays)
    work()
    volume = np.zeros(arrays["mask"].shape, np.float32)
    pair = min(timed(lambda: scipy.fft.irfftn(scipy.fft.rfftn(volume, workers=-1), s=volume.shape, workers=-1))[0]
               for _ in range(5))  # fmt: skip
    peak = memory_added(work)
    clock = [0.0]
    for transform in ("rfftn", "irfftn", "dctn", "idctn"):
        setattr(scipy.fft, transform, counted(getattr(scipy.fft, transform), clock))
    seconds, floors, remark = [], [], ""
    for _ in range(repeats):
        clock[0] = 0.0
        took, result = timed(work)
        seconds.append(took)
        floors.append(clock[0])
        convergence = getattr(result, "convergence", None)
        remark = f"{convergence.iterations} iterations" if convergence else ""
    return statistics.median(seconds), statistics.median(floors), peak, pair, remark


def memory_added(work) -> float:
    """How much the resident memory of this process grows at its peak while `work` runs, in GB."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status_gb("VmRSS")
    work()
    return status_gb("VmHWM") - before


def status_gb(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 2**20


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
    from qsmprep import registry
    from qsmprep.units import hz_to_ppm

    frequency, mask = float(a["frequency"]), a["mask"]
    common = {"voxel_size_mm": tuple(a["voxel"]), "b0_direction": tuple(a["b0"])}
    echoes = {"phase": a["phase"], "magnitude": a["magnitude"], "echo_times_s": a["times"]}
    rss = np.sqrt(np.einsum("exyz,exyz->xyz", a["magnitude"], a["magnitude"]))

    def run(stage, method, **inputs):
        entry = registry.find(stage, method)
        options_type = entry.options_type()
        return entry.run(options_type() if options_type else None, **inputs)

    def field_map():
        offset = run("phase-offset", "mcpc-3d-s", **echoes, **common)
        unwrapped = run("unwrapping", "romeo", **{**echoes, "phase": offset.phase}, mask=mask)
        return run("echo-combination", "weighted", unwrapped_phase=unwrapped.phase, mask=mask,
                   magnitude=a["magnitude"], echo_times_s=a["times"])  # fmt: skip

    inversion = {
        "field_ppm": hz_to_ppm(a["local"], frequency), "mask": mask, "weights": a["weights"], "noise_hz": a["noise"],
        "magnitude": rss, "echo_times_s": a["times"], "centre_frequency_mhz": frequency, **common,
    }  # fmt: skip
    return {
        "mcpc-3d-s": lambda: run("phase-offset", "mcpc-3d-s", **echoes, **common),
        "romeo": lambda: run("unwrapping", "romeo", **echoes, mask=mask),
        "field map": field_map,
        "nonlinear-fit": lambda: run("echo-combination", "nonlinear-fit", **echoes, mask=mask),
        "bet": lambda: run("mask", "bet", magnitude=a["magnitude"][0], **common),
        "v-sharp": lambda: run("background", "v-sharp", total_field=a["total"], mask=mask, **common),
        "pdf": lambda: run("background", "pdf", total_field=a["total"], mask=mask, noise=a["noise"], **common),
        "arlo": lambda: run("relaxometry", "arlo", magnitude=a["magnitude"], mask=mask, echo_times_s=a["times"]),
        **{name: (lambda name=name: run("inversion", name, **inversion)) for name in ("tkd", "rts", "fansi", "medi")},
    }[name]


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
    lines = [
        "# Speed and memory",
        "",
        f"`python benchmarks/speed.py`: 160x200x180 voxels of 1 mm, five echoes, {os.cpu_count()} cores "
        f"({platform.machine()}), median of {repeats} after one run that compiles.",
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


if __name__ == "__main__":
    main()
