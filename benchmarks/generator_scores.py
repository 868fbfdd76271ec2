"""What a map, a mask and the sources of a run are worth against the truth of its head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import distance_transform_edt

from qsmprep.analysis.metrics import evaluate
from qsmprep.phantom.head import SimulatedHead

RIM_MM = 8.0


def scores_of_map(chi: np.ndarray, head: SimulatedHead, depth_mm: np.ndarray) -> dict[str, float]:
    """Errors of a susceptibility map where it and the true brain are; `depth_mm` is that below the brain's surface."""
    mask = (chi != 0) & head.brain_mask
    found, truth = (np.where(mask, image - image[mask].mean(), 0) for image in (chi, head.chi_ppm))
    scores = evaluate(found, truth, mask, head.labels, head.voxel_size_mm)
    return {
        "nrmse": float(scores["rmse_demeaned"].value),
        "xsim": float(scores["xsim"].value),
        "slope": float(scores["slope_deep_grey"].value),
        "rim": relative_error(found, truth, mask & (depth_mm <= RIM_MM)),
        "inner": relative_error(found, truth, mask & (depth_mm > RIM_MM)),
        "share": 100 * float(mask.sum() / head.brain_mask.sum()),
    }


def scores_of_mask(mask: np.ndarray, brain: np.ndarray) -> dict[str, float]:
    """Overlap of a brain mask with the true one; what of it is no brain, and what of the brain it lacks, in percent."""
    shared = int((mask & brain).sum())
    return {
        "dice": 2 * shared / int(mask.sum() + brain.sum()),
        "outside": 100 * (1 - shared / int(mask.sum())),
        "lost": 100 * (1 - shared / int(brain.sum())),
    }


def scores_of_sources(out: Path, head: SimulatedHead) -> dict[str, float]:
    """Errors of the maps of source separation, means included; nothing where a run has none."""
    files = {name: out / f"sub-01_desc-{name}magnetic_Chimap.nii.gz" for name in ("para", "dia")}
    if not all(file.exists() for file in files.values()):
        return {}
    maps = {name: load(file) for name, file in files.items()}
    mask = (maps["para"] + maps["dia"] > 0) & head.brain_mask
    truth = {"para": head.chi_para, "dia": head.chi_dia}
    return {name: relative_error(maps[name], truth[name], mask) for name in maps}


def depth_in(brain: np.ndarray, voxel_size_mm: tuple[float, float, float]) -> np.ndarray:
    """Distance in mm to the nearest voxel that is no brain."""
    return distance_transform_edt(brain, sampling=voxel_size_mm)


def relative_error(found: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Norm of the error over that of the truth, in percent."""
    return float(100 * np.linalg.norm(found[mask] - truth[mask]) / np.linalg.norm(truth[mask]))


def load(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)
