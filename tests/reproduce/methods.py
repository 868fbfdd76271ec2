"""Every background removal and inversion on a simulated head, each map into a file: `methods.py BIDS OUT`.

Run by matrix.py, once as this machine is and once as another, so that it can tell which methods hang on the processor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

import qsmprep
from qsmprep import pipeline, registry
from qsmprep.bids.query import find_runs
from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.numerics.threads import use_threads


def main(bids: Path, out: Path) -> None:
    """Compute what is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    (run,) = find_runs(bids).runs
    anat = bids / "sub-01" / "anat"
    images = {part: [nib.load(path) for path in sorted(anat.glob(f"*part-{part}_MEGRE.nii.gz"))]
              for part in ("mag", "phase")}  # fmt: skip
    magnitude, phase = (np.stack([np.asarray(one.dataobj, np.float32) for one in images[part]]) for part in images)
    first = images["mag"][0]
    size = tuple(float(h) for h in first.header.get_zooms()[:3])
    scan = qsmprep.Scan(size, b0_direction_from_affine(first.affine), run.echo_times_s, run.imaging_frequency_mhz)
    echoes = pipeline.prepare(magnitude, phase, scan)
    keep(out, "phase offset", echoes.phase)
    brain = pipeline.brain_mask(echoes)
    keep(out, "brain mask", brain)
    total = pipeline.total_field(echoes, brain)
    keep(out, "total field", total.field_hz)
    decay = pipeline.relaxation(echoes, brain, total)
    keep(out, "R2*", decay.r2star)
    tissue = pipeline.tissue_field(total, brain, echoes.scan)

    def background(name: str) -> np.ndarray:
        return pipeline.tissue_field(total, brain, echoes.scan, options={"background": {"method": name}}).field_hz

    def inversion(name: str) -> np.ndarray:
        options = {"inversion": {"method": name}}
        return pipeline.susceptibility(tissue, total, echoes, decay, options=options).chi_ppm

    for stage, make in (("background", background), ("inversion", inversion)):
        for name in registry.names(stage):
            label = f"{stage} {name}"
            if (out / f"{label}.npy").exists():
                continue
            try:
                keep(out, label, make(name))
            except (ValueError, OSError, TypeError) as error:
                print(f"{label}: left out ({error})", flush=True)


def keep(out: Path, name: str, array: np.ndarray) -> None:
    """Write one result."""
    np.save(out / f"{name}.npy", array)
    print(name, flush=True)


if __name__ == "__main__":
    with use_threads(1):
        main(Path(sys.argv[1]), Path(sys.argv[2]))
