"""Runs of one simulated head as other machines would make them, held against the first: a table, and exit status 1
where a map differs by more than its bound.

Another machine is imitated as far as the libraries let themselves be told that the processor knows less: OpenBLAS by
OPENBLAS_CORETYPE, numpy by NPY_DISABLE_CPU_FEATURES, torch by ATEN_CPU_CAPABILITY, numba by NUMBA_CPU_NAME, the C
library by GLIBC_TUNABLES. That each took effect is asked of the library before anything is run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qsmprep.analysis.differences import compare
from qsmprep.app.comparison import Found, compare_results
from qsmprep.interfaces.step import NETWORK_ROUNDING

# In the order of work: the first of them that differs tells where to look.
ORDER = ("magnitude", "desc-brain_mask", "desc-total_fieldmap", "desc-reliable_mask", "desc-bfr_mask", "R2starmap",
         "desc-misfit_S0map", "S0map", "T2starmap", "desc-local_fieldmap", "desc-qsm_mask", "Chimap",
         "desc-paramagnetic_Chimap", "desc-diamagnetic_Chimap")  # fmt: skip
PIPELINES = {
    "consensus-fansi": (),
    "consensus-medi": ("--pipeline", "consensus-medi", "--swi"),
    "fast": ("--pipeline", "fast"),
    "accurate": ("--pipeline", "accurate"),
    "modl": ("--inversion", "modl", "--separation", "none"),
    "r2star-qsm": ("--separation", "r2star-qsm", "--inversion", "rts"),
    "chisep-ilsqr": ("--separation", "chisep-ilsqr", "--inversion", "rts"),
    "decompose": ("--separation", "decompose", "--inversion", "rts"),
}
LINEAR = ("--plugin", "linear", "--nprocs", "1", "--omp-nthreads", "1")
TWO = ("--plugin", "linear", "--nprocs", "2", "--omp-nthreads", "2")


@dataclass(frozen=True, eq=False)  # a key by itself: its environment is a dictionary
class Machine:
    """How one run is made: name, environment, words of the command line, and how that is asked of the library."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = LINEAR
    probe: str = ""
    expected: str = ""


_BLAS = (
    "import numpy, threadpoolctl as t; print({i['architecture'] for i in t.threadpool_info() if i['user_api']=='blas'})"
)
_NUMPY = "import numpy; print(numpy.show_config(mode='dicts')['SIMD Extensions'].get('found', []))"
_TORCH = "import torch; print(torch.backends.cpu.get_cpu_capability())"
_NUMBA = "import numba; print(numba.config.CPU_NAME)"
NUMPY_OFF = {"NPY_DISABLE_CPU_FEATURES": "X86_V3"}
NUMPY_OFF_512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}
BLAS_OLD, TORCH_OLD = {"OPENBLAS_CORETYPE": "Prescott"}, {"ATEN_CPU_CAPABILITY": "default"}
NUMBA_OLD = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
GLIBC_OLD = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX,-AVX512F"}
WITHOUT = {**BLAS_OLD, **NUMPY_OFF_512, **TORCH_OLD, **NUMBA_OLD, **GLIBC_OLD}
FIRST = Machine("this machine, linear, two threads", words=TWO)
SAME = (
    Machine("again", words=TWO),
    Machine("a third time", words=TWO),
    Machine("one thread"),
    Machine("pool of two processes", words=("--nprocs", "2")),
)
OTHERS = (
    Machine("OpenBLAS: Haswell", {"OPENBLAS_CORETYPE": "Haswell"}, probe=_BLAS, expected="Haswell"),
    Machine("OpenBLAS: Zen", {"OPENBLAS_CORETYPE": "Zen"}, probe=_BLAS, expected="Zen"),
    Machine("OpenBLAS: SkylakeX", {"OPENBLAS_CORETYPE": "SkylakeX"}, probe=_BLAS, expected="SkylakeX"),
    Machine("OpenBLAS: Prescott (SSE3)", BLAS_OLD, probe=_BLAS, expected="Katmai"),
    Machine("numpy without AVX2 and FMA", NUMPY_OFF_512, probe=_NUMPY, expected="[]"),
    Machine("numpy without AVX-512", {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}, probe=_NUMPY,
            expected="['X86_V3']"),
    Machine("torch without AVX2", TORCH_OLD, probe=_TORCH, expected="DEFAULT"),
    Machine("numba for any x86-64", NUMBA_OLD, probe=_NUMBA, expected="x86-64"),
    Machine("C library without AVX and FMA", GLIBC_OLD),
)  # fmt: skip
ALL = Machine("all of these together", WITHOUT, probe=_NUMPY, expected="[]")
# The largest difference that passes, relative to the largest value of the map; 0: the same bits. As measured, with
# room: docs/scale.md holds the numbers.
NETWORKS = (("background", "sharqnet"), *(("inversion", name) for name in ("qsmnet", "modl", "lpcnn", "autoqsm")))
BOUNDS: dict[tuple[str, str], float] = {("modl", machine.name): NETWORK_ROUNDING for machine in (*OTHERS, ALL)}
METHOD_BOUNDS = dict.fromkeys((f"{stage} {name}" for stage, name in NETWORKS), NETWORK_ROUNDING)


def bound(pipeline: str, machine: Machine) -> float:
    """What docs/scale.md promises."""
    return BOUNDS.get((pipeline, machine.name), 0.0)


def main() -> int:
    """Make the runs, two at a time, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-size", default="6", help="of the simulated head [mm]")
    parser.add_argument("--pipelines", nargs="+", default=list(PIPELINES), choices=PIPELINES)
    parser.add_argument("--full", action="store_true", help="every machine for every pipeline, not for the first alone")
    parser.add_argument("--folder", type=Path, help="folder of the runs, kept (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        bids = folder / f"head{given.voxel_size}"
        if not bids.exists():
            tools("simulate", str(bids), "--voxel-size", given.voxel_size, "--mese", "--quiet")
        return max(compare_all(bids, folder, given.pipelines, full=given.full), compare_methods(bids, folder))


def compare_all(bids: Path, folder: Path, pipelines: list[str], *, full: bool) -> int:
    """Every pipeline on every machine; 1 where a bound is broken or a run fails."""
    usable = [machine for machine in OTHERS if takes_effect(machine)]
    left_out = [machine.name for machine in OTHERS if machine not in usable]
    jobs = [(pipeline, machine) for number, pipeline in enumerate(pipelines)
            for machine in (FIRST, *((*SAME, *usable) if full or not number else ()), ALL)]  # fmt: skip
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        outs = dict(zip(jobs, pool.map(lambda job: run(bids, folder, *job), jobs), strict=True))
    print("| pipeline | machine | maps that differ | first | largest difference of chi | relative | r.m.s. |")
    print("|---|---|---|---|---|---|---|")
    broken = []
    for (pipeline, machine), out in outs.items():
        if machine is FIRST:
            continue
        comparison = compare_results(outs[pipeline, FIRST], out)
        images = [one for one in comparison.found if one.difference]
        worst = max((one.difference.relative for one in images), default=0.0)
        alone = [*comparison.only_first, *comparison.only_second]
        if alone or worst > bound(pipeline, machine) or (comparison.found and not bound(pipeline, machine)):
            broken.append(f"{pipeline} on {machine.name}: {worst:.2g} > {bound(pipeline, machine):.2g}")
        print(f"| {pipeline} | {machine.name} | {told(images)} |", flush=True)
    for name in left_out:
        print(f"Not tried, as this processor or library does not know it: {name}.")
    print(f"{len(jobs)} runs in {time.monotonic() - started:.0f} s.")
    for line in broken:
        print(f"Broken bound: {line}", file=sys.stderr)
    return 1 if broken else 0


def compare_methods(bids: Path, folder: Path) -> int:
    """Every method by itself, on this machine and on the one that lacks all; 1 where a bound is broken."""
    script = Path(__file__).with_name("methods.py")
    outs = {machine: folder / f"methods-{number}" for number, machine in enumerate((FIRST, ALL))}
    for machine, out in outs.items():
        subprocess.run([sys.executable, str(script), str(bids), str(out)], env=environment(machine), check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    print("\n| method | voxels that differ | largest difference | relative |")
    print("|---|---|---|---|")
    same, broken = [], []
    for path in sorted(outs[FIRST].glob("*.npy")):
        found = compare(np.load(path), np.load(outs[ALL] / path.name))
        if not found.voxels:
            same.append(path.stem)
            continue
        print(f"| {path.stem} | {found.share:.1%} | {found.largest:.1e} | {found.relative:.1e} |")
        if found.relative > METHOD_BOUNDS.get(path.stem, 0.0):
            broken.append(f"{path.stem}: {found.relative:.2g}")
    print(f"The same bits: {', '.join(same)}.")
    for line in broken:
        print(f"Broken bound: {line}", file=sys.stderr)
    return 1 if broken else 0


def told(images: list[Found]) -> str:
    """The cells of a row."""
    if not images:
        return "none | | 0 | 0 | 0"
    by_name = {one.path.name.partition("_")[2].removesuffix(".nii.gz"): one for one in images}
    first = next((name for name in ORDER if name in by_name), next(iter(by_name)))
    chi = by_name.get("Chimap")
    if chi is None or chi.difference is None:
        return f"{len(images)} | {first} | 0 | 0 | 0"
    found = chi.difference
    numbers = f"{found.largest:.1e} ppm | {found.relative:.1e} | {found.root_mean_square:.1e} ppm"
    return f"{len(images)} | {first} | {numbers}"


def takes_effect(machine: Machine) -> bool:
    """Whether the library does as it is told, which it does not for a processor that lacks what is asked for."""
    if not machine.probe:
        return True
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", machine.probe], env=environment(machine),
                          capture_output=True, text=True, check=False)  # fmt: skip
    plain = subprocess.run([sys.executable, "-c", machine.probe], capture_output=True, text=True, check=False)
    return machine.expected in done.stdout and (done.stdout != plain.stdout or "Haswell" in machine.name)


def environment(machine: Machine) -> dict[str, str]:
    """That of this process, and of the machine."""
    return {**os.environ, **machine.environment}


def run(bids: Path, folder: Path, pipeline: str, machine: Machine) -> Path:
    """One run of the command line; its output folder. A finished one is used again."""
    name = "_".join(json.dumps([pipeline, machine.name]).lower().split())
    out = folder / "".join(c if c.isalnum() else "-" for c in name).strip("-")
    if (out / "sub-01.html").exists():
        return out
    words = [str(bids), str(out), "participant", "-w", f"{out}-work", "--skip-bids-validation"]
    command = [sys.executable, "-m", "qsmprep.cli.run", *words, *PIPELINES[pipeline], *machine.words]
    done = subprocess.run(command, env=environment(machine), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{pipeline} on {machine.name} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
    return out


def tools(*words: str) -> None:
    """Run `qsmprep-tools`."""
    subprocess.run([sys.executable, "-m", "qsmprep.cli.tools", *words], check=True)


if __name__ == "__main__":
    sys.exit(main())
