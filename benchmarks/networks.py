"""Deep networks against the methods they are to replace, on heads that no training has seen.

    python benchmarks/networks.py [--work FOLDER] [--only PART ...] [--heads N] [--tables-only]

writes benchmarks/networks.csv (a row a measurement, appended as they come, so that a stopped benchmark continues) and
benchmarks/networks.md. Eight held-out heads of 1 mm, with other seeds and tilts than those of training, peak SNR 50 to
300, four of them with a calcification and a bleed. Isolated is the true input of the stage; chain is the command line.
NRMSE is in percent, of susceptibility without its mean and of sources with it; a slope is the mean of a lesion over its
true mean, each less the mean of its surroundings. The truth is used for scoring only. Seconds in the CSV were taken on
a machine with other work, but for those of the speed part.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from isolated import (
    background_inputs,
    inversion_inputs,
    measure,
    network_inputs,
    noise_hz,
    peak_memory_mb,
    stored_scan,
)
from network_tables import write_tables
from results import Results
from scipy.ndimage import binary_dilation, gaussian_filter

from qsmprep import registry
from qsmprep.cli.run import main as qsmprep
from qsmprep.cli.warmup import usable
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.scan import Scan
from qsmprep.separation.constants import RelaxometricOptions, constants_at
from qsmprep.separation.offset import offset_by_signs
from qsmprep.settings import build

HERE = Path(__file__).parent
SIZE = "160x200x180"
FULL_WIDTH = "U-net of width 32, kernel 3, random weights, bfloat16"
COLUMNS = ("part", "head", "method", "setting", "error", "slope", "extra", "seconds", "peak_mb")
LESIONS = {"calcification": True, "bleed": True}
SNR_AND_TILT = (  # of the eight heads; the second four have lesions
    (50.0, 0.0), (100.0, 0.0), (200.0, 12.0), (300.0, 25.0), (50.0, 0.0), (100.0, 0.0), (200.0, 17.0), (300.0, 35.0),
)  # fmt: skip
HELD_OUT = {
    f"{n + 1}": SimulationOptions(
        seed=9000 + n, variation=0.06, peak_snr=snr, tilt_x=tilt, **(LESIONS if n >= 4 else {})
    )
    for n, (snr, tilt) in enumerate(SNR_AND_TILT)
}
CLASSICAL = ("tkd", "fansi")
NETWORKS = ("qsmnet", "modl", "lpcnn")
FINE_OF = ("qsmnet",)  # adaptation takes minutes, and of an unrolled network the better part of an hour
FINE_ON = ("6",)  # a head with lesions and B0 along the axis
FINE_IN = ("chi x 2", "tilt 20")
VARIED = SimulationOptions(seed=9100, variation=0.06, **LESIONS)
SETTINGS = {
    **{f"chi x {scale:g}": (VARIED, scale, 0.0) for scale in (0.5, 1.0, 2.0, 4.0)},
    **{
        f"{size} mm": (dataclasses.replace(VARIED, voxel_size=size), 1.0, 0.0)
        for size in ("0.7", "2", "1,1,3")
    },
    **{f"SNR {snr:g}": (VARIED, 1.0, snr) for snr in (25.0, 50.0, 100.0, 300.0)},
    **{f"tilt {tilt:g}": (dataclasses.replace(VARIED, tilt_x=tilt), 1.0, 0.0) for tilt in (10.0, 20.0, 30.0, 40.0)},
}  # fmt: skip


def main() -> None:
    parts = {"inversion": inversions, "chain": chains, "background": backgrounds, "separation": separations,
             "general": generalisation, "speed": speed}  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for simulated data and results (default: a temporary one)")
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    parser.add_argument("--heads", type=int, default=len(HELD_OUT), help="how many of the held-out heads")
    parser.add_argument("--tables-only", action="store_true", help="only write the tables anew from the CSV")
    arguments = parser.parse_args()
    table = Results(HERE / "networks.csv", COLUMNS)
    if not arguments.tables_only:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.work or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            heads = dict(list(HELD_OUT.items())[: arguments.heads])
            for part in arguments.only:
                parts[part](heads, folder, table)
    write_tables(table.rows(), HERE, " ".join(__doc__.split("\n\n")[2].split()))


def inversions(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """True tissue field to susceptibility; networks also adapted to the case by FINE on one head."""
    names = [name for name in (*CLASSICAL, *NETWORKS) if name in usable("inversion")]
    for label, options in heads.items():
        wanted = [(name, "") for name in names]
        wanted += [(name, "fine") for name in names if name in FINE_OF and label in FINE_ON]
        wanted = [(n, a) for n, a in wanted if not table.has(part="inversion", head=label, method=n, setting=a)]
        head = simulate_head(options) if wanted else None
        for name, adapt in wanted:
            found, seconds = invert(name, inversion_inputs(head) | {"scan": head.scan}, adapt)
            table.add(part="inversion", head=label, method=name, setting=adapt, error=error(found, head),
                      slope=lesion_slopes(found.chi_ppm, head), seconds=seconds)  # fmt: skip


def invert(name: str, inputs: dict, adapt: str = ""):
    """An inversion with its defaults, and its seconds."""
    method = registry.find("inversion", name)
    options = build({}).options_of("inversion", name)
    if adapt:
        options = dataclasses.replace(options, adapt=adapt)
    inputs = inputs | network_inputs(method, options) | {"scan": stored_scan(inputs)}
    inputs = {key: value if np.ndim(value) else _plain(value) for key, value in inputs.items()}
    begin = time.perf_counter()
    return method.run(options, **inputs), time.perf_counter() - begin


def _plain(value):
    return float(value) if isinstance(value, np.ndarray) else value


def error(found, head: SimulatedHead) -> float:
    mask = found.mask & head.brain_mask
    a, b = (image[mask] - image[mask].mean() for image in (found.chi_ppm, head.chi_ppm))
    return float(100 * np.linalg.norm(a - b) / np.linalg.norm(b))


def lesion_slopes(chi: np.ndarray, head: SimulatedHead) -> str:
    """Slopes of calcification and bleed, as "0.97 / 1.02"; nothing without lesions."""
    slopes = []
    for name in ("calcification", "bleed"):
        core = head.region(name)
        if not core.any():
            return ""
        around = binary_dilation(core, iterations=6) & ~binary_dilation(core, iterations=3) & head.brain_mask
        found, true = (image[core].mean() - image[around].mean() for image in (chi, head.chi_ppm))
        slopes.append(f"{found / true:.2f}")
    return " / ".join(slopes)


def chains(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """The command line with the consensus pipeline and every inversion; then the same after SHARQnet."""
    inversions = [name for name in ("fansi", *NETWORKS) if name in usable("inversion")]
    whole = [name for name in ("autoqsm",) if name in usable("inversion")]
    former = ["--fansi-scale", "echo-spacing"]  # as the rows before FANSI counted the phase until the last echo
    jobs = {"": (["--inversion", *inversions, *whole, *former], [*inversions, *whole])}
    if "sharqnet" in usable("background"):
        jobs["sharqnet + "] = (["--background", "sharqnet", "--inversion", *inversions, *former], inversions)
    for label, options in heads.items():
        for before, (words, methods) in jobs.items():
            if all(table.has(part="chain", head=label, method=before + method) for method in methods):
                continue
            dataset, out = folder / f"bids-{label}", folder / f"out-{label}-{before.rstrip(' +')}"
            if not dataset.exists():
                simulate(dataset, options)
            command = [str(dataset), str(out), "participant", "--skip-bids-validation", "--separation", "none", *words,
                       "-w", str(folder / "work")]  # fmt: skip
            if qsmprep(command) != 0:
                raise SystemExit(f"The chain failed; see {out}.")
            head = simulate_head(options)
            for i, method in enumerate(methods):
                if table.has(part="chain", head=label, method=before + method):
                    continue
                desc = "" if i == 0 else f"desc-{method.replace('-', '')}_"
                chi = np.asarray(nib.load(out / "sub-01" / "anat" / f"sub-01_{desc}Chimap.nii.gz").dataobj)
                mask = (chi != 0) & head.brain_mask
                a, b = (image[mask] - image[mask].mean() for image in (chi, head.chi_ppm))
                wrong = float(100 * np.linalg.norm(a - b) / np.linalg.norm(b))
                table.add(part="chain", head=label, method=before + method, error=wrong, slope=lesion_slopes(chi, head),
                          extra=f"{mask.sum() / head.brain_mask.sum():.3f}")  # fmt: skip


def backgrounds(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """True total field to tissue field, each method in its own mask."""
    for label, options in heads.items():
        names = [name for name in ("v-sharp", "sharqnet") if name in usable("background")]
        names = [name for name in names if not table.has(part="background", head=label, method=name)]
        head = simulate_head(options) if names else None
        for name in names:
            method, chosen = registry.find("background", name), build({}).options_of("background", name)
            given = background_inputs(head) | network_inputs(method, chosen)
            given["scan"] = head.scan
            begin = time.perf_counter()
            found = method.run(chosen, **{key: given[key] for key in given if key in method.inputs()})
            seconds = time.perf_counter() - begin
            mask = found.mask & head.brain_mask
            a, b = (image[mask] - image[mask].mean() for image in (found.tissue_field, head.local_field_hz))
            table.add(part="background", head=label, method=name, seconds=seconds,
                      error=float(100 * np.linalg.norm(a - b) / np.linalg.norm(b)),
                      extra=f"{mask.sum() / head.brain_mask.sum():.3f}")  # fmt: skip


def separations(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """True field and rates to both sources; susceptibility by FANSI, its constant by the signs of the sources."""
    for label, options in heads.items():
        variants = [("chisep-medi", ""), ("chisep-medi", "R2' = 0.3 R2*"), ("r2star-qsm", "R2* alone"),
                    ("chi-sepnet-r2p", ""), ("chi-sepnet-r2s", "R2* alone"),
                    ("chi-sepnet-r2p", "R2PRIMEnet")]  # fmt: skip
        there = usable("separation")
        variants = [(n, s) for n, s in variants
                    if n in there and not table.has(part="separation", head=label, method=n, setting=s)]  # fmt: skip
        if not variants:
            continue
        head = simulate_head(options)
        given = _separation_inputs(head)
        for name, setting in variants:
            method, chosen = registry.find("separation", name), build({}).options_of("separation", name)
            inputs = dict(given)
            if setting.startswith("R2'"):
                inputs["r2prime"] = 0.3 * head.r2star
            if setting == "R2PRIMEnet":
                inputs["r2prime"] = _r2primenet(head, table, label)
            inputs |= network_inputs(method, chosen)
            begin = time.perf_counter()
            found = method.run(chosen, **{key: inputs[key] for key in inputs if key in method.inputs()})
            seconds = time.perf_counter() - begin
            errors = [
                100 * np.linalg.norm((image - truth)[found.mask]) / np.linalg.norm(truth[found.mask])
                for image, truth in ((found.chi_para, head.chi_para), (found.chi_dia, head.chi_dia))
            ]
            table.add(part="separation", head=label, method=name, setting=setting, error=float(errors[0]),
                      extra=f"{errors[1]:.2f}", seconds=seconds)  # fmt: skip


def _separation_inputs(head: SimulatedHead) -> dict:
    constants = constants_at(RelaxometricOptions(), head.field_strength_t)
    given = inversion_inputs(head) | {"constants": constants, "r2prime": head.r2prime}
    given["scan"] = head.scan
    invert_by = registry.find("inversion", "fansi")
    former = build({"inversion": {"fansi": {"scale": "echo-spacing"}}})
    chi = invert_by.run(former.options_of("inversion", "fansi"), **given).chi_ppm
    mask = head.brain_mask
    offset, _, _ = offset_by_signs(chi, head.r2prime, mask, constants=constants, voxel_size_mm=head.voxel_size_mm)
    return given | {"chi_ppm": np.where(mask, chi + np.float32(offset), 0)}


def _r2primenet(head: SimulatedHead, table: Results, label: str) -> np.ndarray:
    """R2' by the network, its error noted in the table."""
    from qsmprep.relaxometry.r2primenet import R2primenetOptions, r2primenet
    from qsmprep.weights.search import find_weights
    from qsmprep.weights.store import load_network

    network = load_network(find_weights(R2primenetOptions().weights))
    begin = time.perf_counter()
    found = r2primenet(head.r2star, head.brain_mask, network=network, scan=head.scan)
    seconds, mask = time.perf_counter() - begin, head.brain_mask
    wrong = 100 * np.linalg.norm((found.r2prime - head.r2prime)[mask]) / np.linalg.norm(head.r2prime[mask])
    table.add(part="r2prime", head=label, method="r2primenet", error=float(wrong), seconds=seconds)
    return found.r2prime


def generalisation(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """One head under other susceptibility ranges, voxels, noise and tilts than those of training."""
    names = [name for name in (*CLASSICAL, *NETWORKS) if name in usable("inversion")]
    for setting, (options, scale, snr) in SETTINGS.items():
        wanted = [(name, "") for name in names]
        wanted += [(name, "fine") for name in names if name in FINE_OF and setting in FINE_IN]
        wanted = [(n, a) for n, a in wanted if not table.has(part="general", head=setting, method=n, setting=a)]
        head = simulate_head(options) if wanted else None
        for name, adapt in wanted:
            inputs = inversion_inputs(head) | {"scan": head.scan}
            inputs["field_ppm"] = np.float32(scale) * inputs["field_ppm"]
            if snr:
                inputs["field_ppm"] = inputs["field_ppm"] + _noise_ppm(head, snr)
            scaled = dataclasses.replace(head, chi_ppm=np.float32(scale) * head.chi_ppm)
            found, seconds = invert(name, inputs, adapt)
            mask = found.mask & head.brain_mask
            smooth = gaussian_filter(head.chi_ppm * mask, 1.0)  # the slope over voxels, edges counting less
            slope = float(np.polyfit(smooth[mask], gaussian_filter(found.chi_ppm * mask, 1.0)[mask] / scale, 1)[0])
            table.add(part="general", head=setting, method=name, setting=adapt, error=error(found, scaled),
                      slope=f"{slope:.3f}", extra=lesion_slopes(found.chi_ppm, scaled), seconds=seconds)  # fmt: skip


def _noise_ppm(head: SimulatedHead, snr: float) -> np.ndarray:
    """Noise of the field map of a scan with this peak signal-to-noise ratio, to be added to the true field."""
    deviation = noise_hz(head) * np.float32(head.magnitude[0].max() / snr / head.centre_frequency_mhz)
    random = np.random.default_rng(1)
    return np.where(head.brain_mask, deviation * random.standard_normal(deviation.shape, np.float32), 0)


def speed(heads: dict[str, SimulationOptions], folder: Path, table: Results) -> None:
    """Seconds and memory of a head of 160x200x180, each method in a process of its own, the better of three runs."""
    head = None
    stages = (("inversion", (*NETWORKS, "autoqsm"), inversion_inputs), ("background", ("sharqnet",), background_inputs))
    for stage, names, inputs in stages:
        names = [n for n in names if n in usable(stage) and not table.has(part="speed", head=SIZE, method=n)]
        if not names:
            continue
        head = head or simulate_head(SimulationOptions())
        given = inputs(head) | {"centre_frequency_mhz": np.array(head.centre_frequency_mhz)}
        np.savez(folder / f"speed-{stage}.npz", **given)
        for name in names:
            with get_context("spawn").Pool(1) as pool:
                runs = [pool.apply(measure, (stage, name, str(folder / f"speed-{stage}.npz"))) for _ in range(3)]
            table.add(part="speed", head=SIZE, method=name, seconds=min(r["seconds"] for r in runs),
                      peak_mb=max(r["peak_mb"] for r in runs))  # fmt: skip
    for patch in (0, 128):
        name = f"{FULL_WIDTH}, patches of {patch}" if patch else FULL_WIDTH
        if table.has(part="speed", head=SIZE, method=name):
            continue
        head = head or simulate_head(SimulationOptions())
        np.savez(folder / "speed-full.npz", field=inversion_inputs(head)["field_ppm"], mask=head.brain_mask)
        with get_context("spawn").Pool(1) as pool:
            runs = [pool.apply(_full_width, (str(folder / "speed-full.npz"), patch)) for _ in range(3)]
        table.add(part="speed", head=SIZE, method=name, seconds=min(seconds for seconds, _ in runs),
                  peak_mb=max(memory for _, memory in runs))  # fmt: skip


def _full_width(file: str, patch: int) -> tuple[float, float]:
    """Seconds and memory of a U-net as wide as published, with random weights, which take as long as trained ones."""
    from qsmprep.nets.inference import predict
    from qsmprep.nets.inference_options import InferenceOptions
    from qsmprep.nets.network import Network, build_module
    from qsmprep.nets.spec import Channel, NetworkSpec
    from qsmprep.nets.unet_spec import PUBLISHED

    spec = NetworkSpec("full", "inversion", PUBLISHED["qsmnet-me"], (Channel("tissue-field"),), (Channel("chi"),))
    network = Network(spec, build_module(spec))
    with np.load(file) as stored:
        field, mask = stored["field"], stored["mask"]
    begin = time.perf_counter()
    _, memory = peak_memory_mb(
        lambda: predict(network, {"tissue-field": field}, mask, scan=Scan((1.0, 1.0, 1.0)),
                        options=InferenceOptions(precision="auto", patch=patch))
    )  # fmt: skip
    return time.perf_counter() - begin, memory


if __name__ == "__main__":
    main()
