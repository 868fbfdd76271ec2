"""Several orientations against one: COSMOS and single-orientation inversions of the same simulated head, SNR 100.

    python benchmarks/orientations.py [--work FOLDER]

makes these tables. Isolated: true tissue fields at 1 mm, the slab tilting with the head, so that all
lie on one grid. Chain: the command line at 2 mm, the head turning in an axial slab, with registration. B0 lies 0, 20,
25 and 30 degrees off the head's axis, turned about two axes. Scores are demeaned NRMSE in the method's mask and in the
mask eroded by 5 mm (isolated) or 2 mm (chain, whose masks are eroded already). The texture is smooth susceptibility
within tissues that the magnitude hardly shows, as brains have; without it the head is made of uniform pieces, just as
FANSI and MEDI assume.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_erosion

from qsmprep import registry
from qsmprep.cli.run import main as qsmprep
from qsmprep.numerics.units import hz_to_ppm
from qsmprep.orientation.cosmos import cosmos
from qsmprep.orientation.inputs import Orientations
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.scan import Scan

TILTS = ((0, 0), (20, 0), (0, 25), (30, 0))
SINGLE = ("fansi", "medi", "rts", "tkd")
TEXTURES_PPM = (0.0, 0.01)
BACKGROUNDS = ("v-sharp", "iharperella")
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the chain's data (default: a temporary one)")
    arguments = parser.parse_args()
    sections = []
    for texture in TEXTURES_PPM:
        sections.append(section(f"True tissue fields, 1 mm, texture {texture:g} ppm", isolated("1", SINGLE, texture)))
        print(sections[-1], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for background in BACKGROUNDS:
            rows = chain(arguments.work or Path(temporary), "2", SINGLE, background)
            sections.append(section(f"Command line with registration, 2 mm, {background}", rows))
            print(sections[-1], flush=True)
    facts = __doc__.split("\n\n")[2].replace("\n", " ").strip()
    text = f"# Several orientations\n\n`python benchmarks/orientations.py` {facts}\n\n"
    (HERE / "orientations.md").write_text(text + "\n".join(sections), "utf-8")


def isolated(voxel_size: str, single: tuple[str, ...], texture: float) -> list[tuple[str, float, float, float]]:
    """Scores from true fields with the noise that the echoes' signal leaves in them."""
    fields, noises, directions = [], [], []
    for number, (x, y) in enumerate(TILTS):
        head = simulate_head(SimulationOptions(voxel_size=voxel_size, tilt_x=x, tilt_y=y, texture=texture), run=number)
        frequency = head.centre_frequency_mhz
        signal = np.sqrt(np.einsum("e,exyz->xyz", head.echo_times_s**2, head.magnitude**2))
        noise = head.noise_deviation / (2 * np.pi * np.maximum(signal, 1e-6)) / frequency
        random = np.random.default_rng(number).standard_normal(noise.shape, np.float32)
        fields.append((hz_to_ppm(head.local_field_hz, frequency) + noise * random) * head.brain_mask)
        noises.append(noise.astype(np.float32))
        directions.append(head.b0_direction)
        if number == 0:
            first = head
    mask, chi = first.brain_mask, first.chi_ppm
    core = binary_erosion(mask, iterations=round(5 / min(first.voxel_size_mm)))
    rss = np.sqrt(np.einsum("exyz,exyz->xyz", first.magnitude, first.magnitude))
    weights = [np.where(mask, 1 / noise, 0) for noise in noises]
    weights = [np.minimum(w / np.percentile(w[mask], 99), 1).astype(np.float32) for w in weights]
    rows = []
    for name, extra in (("COSMOS, closed form", {}), ("COSMOS, weighted", {"weights": np.stack(weights)})):
        begin = time.perf_counter()
        found = cosmos(Orientations(np.stack(fields), mask, first.voxel_size_mm, np.array(directions), **extra))
        rows.append((name, *scores(found.chi_ppm, chi, mask, core), time.perf_counter() - begin))
        print(rows[-1], flush=True)
    for name in single:
        method = registry.find("inversion", name)
        begin = time.perf_counter()
        found = method.run(
            method.options_type()(), field_ppm=fields[0].astype(np.float32), mask=mask,
            scan=Scan(first.voxel_size_mm, first.b0_direction, first.echo_times_s, first.centre_frequency_mhz),
            weights=weights[0], magnitude=rss, noise_hz=noises[0] * first.centre_frequency_mhz,
        )  # fmt: skip
        rows.append(
            (
                f"{name}, first orientation",
                *scores(found.chi_ppm, chi, mask & found.mask, core & found.mask),
                time.perf_counter() - begin,
            )
        )
        print(rows[-1], flush=True)
    return rows


def chain(
    folder: Path, voxel_size: str, single: tuple[str, ...], background: str
) -> list[tuple[str, float, float, float]]:
    """Scores of what the command line wrote, in the mask common to all."""
    bids, out = folder / "bids", folder / f"out-{background}"
    orientations = ";".join(f"{x},{y}" for x, y in TILTS)
    simulate(bids, SimulationOptions(voxel_size=voxel_size, orientations=orientations), overwrite=True)
    words = ["participant", "--skip-bids-validation", "-w", str(folder / "work"), "--multi-orientation", "cosmos"]
    if qsmprep([str(bids), str(out), *words, "--background", background, "--inversion", *single]) != 0:
        raise SystemExit(f"The chain failed; see {out}.")
    return chain_scores(bids, out, float(voxel_size), single)


def chain_scores(bids: Path, out: Path, size: float, single: tuple[str, ...]) -> list[tuple[str, float, float, float]]:
    """Scores of the maps in a folder of results."""
    truth = bids / "derivatives" / "truth" / "sub-01" / "anat"
    chi, brain = load(truth / "sub-01_run-1_Chimap"), load(truth / "sub-01_run-1_desc-brain_mask") > 0
    maps = out / "sub-01" / "anat"
    mask = (load(maps / "sub-01_desc-cosmos_mask") > 0) & brain
    core = binary_erosion(mask, iterations=max(1, round(2 / size)))
    rows = [("COSMOS", *scores(load(maps / "sub-01_desc-cosmos_Chimap"), chi, mask, core), np.nan)]
    for number in range(1, len(TILTS) + 1):
        truth_n = load(truth / f"sub-01_run-{number}_Chimap")
        own = (load(maps / f"sub-01_run-{number}_desc-qsm_mask") > 0) & (
            load(truth / f"sub-01_run-{number}_desc-brain_mask") > 0
        )
        inner = binary_erosion(own, iterations=max(1, round(2 / size)))
        for i, name in enumerate(single):
            desc = "" if i == 0 else f"desc-{name.replace('-', '')}_"
            found = load(maps / f"sub-01_run-{number}_{desc}Chimap")
            valid = found != 0  # MEDI's filter leaves less of the mask
            rows.append(
                (f"{name}, run {number} in its own mask", *scores(found, truth_n, own & valid, inner & valid), np.nan)
            )
    return rows


def load(stem: Path) -> np.ndarray:
    return np.asarray(nib.load(stem.with_name(stem.name + ".nii.gz")).dataobj)


def scores(found: np.ndarray, truth: np.ndarray, *masks: np.ndarray) -> tuple[float, ...]:
    """Demeaned NRMSE in percent in each mask."""
    result = []
    for mask in masks:
        x, t = found[mask] - found[mask].mean(), truth[mask] - truth[mask].mean()
        result.append(float(100 * np.linalg.norm(x - t) / np.linalg.norm(t)))
    return tuple(result)


def section(title: str, rows: list[tuple[str, float, float, float]]) -> str:
    lines = [
        f"## {title}",
        "",
        "| method | NRMSE in the mask (%) | in the eroded mask (%) | seconds |",
        "|---|---|---|---|",
    ]
    for name, whole, core, seconds in rows:
        lines.append(f"| {name} | {whole:.1f} | {core:.1f} | {'' if np.isnan(seconds) else f'{seconds:.0f}'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
