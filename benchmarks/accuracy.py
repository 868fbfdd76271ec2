"""Accuracy of every inversion on the simulated head, from the true tissue field and in the whole chain.

    python benchmarks/accuracy.py [--voxel-size 1] [--work FOLDER]

writes benchmarks/accuracy.md. The chain is the command line as a user runs it; the truth is used for scoring only.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from qsmprep import registry
from qsmprep.cli.run import main as qsmprep
from qsmprep.field.weighted import weighted_field
from qsmprep.field.weights import data_weights
from qsmprep.inversion.reference import reference_to
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.settings import build
from qsmprep.units import hz_to_ppm

TILTS = (0, 20)
BACKGROUNDS = ("v-sharp", "pdf")
INVERSIONS = ("fansi", "medi", "rts", "tkd")
DEEP_GREY = (1, 2, 3, 4, 6)  # caudate, pallidum, putamen, red nucleus, substantia nigra; the dentate touches the rim
DENTATE = 5
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxel-size", default="1", help="of the simulated head in mm")
    parser.add_argument(
        "--work", type=Path, help="folder for the simulated data and results (default: a temporary one)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        text = report(folder, arguments.voxel_size)
    (HERE / "accuracy.md").write_text(text, "utf-8")
    print(text)


def report(folder: Path, voxel_size: str) -> str:
    rows, fields, regions = [], [], {}
    for tilt in TILTS:
        options = SimulationOptions(voxel_size=voxel_size, tilt_x=float(tilt))
        head = simulate_head(options)
        rows += [(tilt, "true tissue field", name, *scores) for name, scores in isolated(head).items()]
        dataset = simulate(folder / f"tilt{tilt}", options, overwrite=True)
        for background in BACKGROUNDS:
            out = folder / f"tilt{tilt}-{background}"
            words = [str(dataset), str(out), "participant", "--skip-bids-validation", "--background", background,
                     "--inversion", *INVERSIONS, "-w", str(folder / f"work-{tilt}-{background}")]  # fmt: skip
            if qsmprep(words) != 0:
                raise SystemExit(f"The chain with {background} failed; see {out}.")
            rows += [(tilt, f"chain, {background}", name, *scores) for name, scores in chain(head, out).items()]
            fields.append((tilt, background, *field_errors(head, out)))
            regions[tilt, background] = region_means(head, out)
    return table(voxel_size, rows, fields, regions)


def isolated(head: SimulatedHead) -> dict[str, tuple[float, ...]]:
    """Scores of every inversion given the true tissue field, with the data weights a user's chain would have."""
    settings = build({})
    mask = head.brain_mask
    phase = 2 * np.pi * head.echo_times_s[:, None, None, None] * head.total_field_hz[None]
    noise = weighted_field(
        phase.astype(np.float32), echo_times_s=head.echo_times_s, magnitude=head.magnitude, mask=mask
    ).noise_hz
    weights = data_weights(noise_hz=noise, magnitude=head.magnitude, mask=mask, options=settings.steps["weights"])
    rss = np.sqrt(np.einsum("exyz,exyz->xyz", head.magnitude, head.magnitude))
    found = {}
    for name in INVERSIONS:
        result = registry.find("inversion", name).run(
            settings.options_of("inversion", name),
            field_ppm=hz_to_ppm(head.local_field_hz, head.centre_frequency_mhz),
            mask=mask,
            voxel_size_mm=head.voxel_size_mm,
            b0_direction=head.b0_direction,
            weights=weights,
            noise_hz=noise,
            magnitude=rss,
            echo_times_s=head.echo_times_s,
            centre_frequency_mhz=head.centre_frequency_mhz,
        )
        chi = reference_to(result.chi_ppm, result.mask).chi_ppm
        found[name] = score(chi, head, result.mask)
    return found


def chain(head: SimulatedHead, out: Path) -> dict[str, tuple[float, ...]]:
    """Scores of the maps that the command line wrote."""
    mask = load(out, "anat/sub-01_desc-qsm_mask") > 0
    found = {}
    for i, name in enumerate(INVERSIONS):
        desc = "" if i == 0 else f"desc-{name.replace('-', '')}_"
        chi = load(out, f"anat/sub-01_{desc}Chimap")
        found[name] = score(chi, head, mask & (chi != 0))
    return found


def score(chi: np.ndarray, head: SimulatedHead, mask: np.ndarray) -> tuple[float, float, float]:
    """NRMSE in %, both demeaned in the mask; slope of deep-grey region means on the truth; correlation."""
    truth = head.chi_ppm[mask] - head.chi_ppm[mask].mean()
    found = chi[mask] - chi[mask].mean()
    nrmse = 100 * np.linalg.norm(found - truth) / np.linalg.norm(truth)
    means = np.array([(head.chi_ppm[region].mean(), chi[region].mean()) for region in deep_grey(head, mask)])
    slope = np.polyfit(means[:, 0], means[:, 1], 1)[0]
    return float(nrmse), float(slope), float(np.corrcoef(found, truth)[0, 1])


def deep_grey(head: SimulatedHead, mask: np.ndarray) -> list[np.ndarray]:
    regions = [(head.labels == label) & mask for label in DEEP_GREY]
    return [region for region in regions if region.any()]


def field_errors(head: SimulatedHead, out: Path) -> tuple[float, float, float]:
    """95th percentile of the total field's error in Hz after its median; tissue field's NRMSE in %; share of mask 4."""
    brain = load(out, "anat/sub-01_desc-brain_mask") > 0
    error = load(out, "fmap/sub-01_desc-total_fieldmap") - head.total_field_hz
    inside = error[brain & head.brain_mask]
    inside = np.abs(inside - np.median(inside))
    mask = load(out, "anat/sub-01_desc-qsm_mask") > 0
    local, truth = load(out, "fmap/sub-01_desc-local_fieldmap")[mask], head.local_field_hz[mask]
    local, truth = local - local.mean(), truth - truth.mean()
    nrmse = 100 * np.linalg.norm(local - truth) / np.linalg.norm(truth)
    return float(np.percentile(inside, 95)), float(nrmse), 100 * float(mask.sum() / head.brain_mask.sum())


def region_means(head: SimulatedHead, out: Path) -> dict[str, float]:
    mask, chi = load(out, "anat/sub-01_desc-qsm_mask") > 0, load(out, "anat/sub-01_Chimap")
    chi = np.where(mask, chi, np.nan)
    return {
        head.label_names[label]: float(np.nanmean(chi[(head.labels == label) & mask]))
        for label in (*DEEP_GREY, DENTATE, 7, 8, 9, 10)
        if ((head.labels == label) & mask).any()
    }


def load(out: Path, stem: str) -> np.ndarray:
    folder, name = stem.split("/")
    return np.asarray(nib.load(out / "sub-01" / folder / f"{name}.nii.gz").dataobj)


def table(voxel_size: str, rows: list, fields: list, regions: dict) -> str:
    lines = [
        "# Accuracy on the simulated head",
        "",
        f"`python benchmarks/accuracy.py --voxel-size {voxel_size}`: standard head, 3 T, 5 echoes, peak SNR 100,",
        "default options. NRMSE with both maps demeaned in the mask; slope of the means of caudate, pallidum, putamen,",
        "red nucleus and substantia nigra against the truth (the simulated dentate nucleus touches the rim of the",
        "brain, where masks end, and is listed apart).",
        "",
        "| tilt | input of the inversion | inversion | NRMSE (%) | deep-grey slope | correlation |",
        "|---|---|---|---|---|---|",
        *(f"| {t} | {given} | {name} | {n:.1f} | {s:.3f} | {c:.3f} |" for t, given, name, n, s, c in rows),
        "",
        "| tilt | background | total field error, 95 % below (Hz) | tissue NRMSE (%) | mask 4 / brain (%) |",
        "|---|---|---|---|---|",
        *(f"| {t} | {name} | {e:.3f} | {n:.1f} | {m:.1f} |" for t, name, e, n, m in fields),
        "",
        f"Regional means of the main map ({INVERSIONS[0]}) in ppm, axial and tilted:",
        "",
        "| region | " + " | ".join(f"{name}, {tilt} degrees" for tilt, name in regions) + " |",
        "|---|" + "---|" * len(regions),
    ]
    first = next(iter(regions.values()))
    for region in first:
        lines.append(f"| {region} | " + " | ".join(f"{found[region]:+.4f}" for found in regions.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
