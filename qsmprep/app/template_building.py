"""Building a study template with ANTs: registration, average, update of the shape, again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.analysis.template import Moments, centred, common_grid, extent_of, normalised_magnitude
from qsmprep.bids.outputs import write_image
from qsmprep.interfaces.images import read_grid, read_mask, read_volume
from qsmprep.numerics.arrays import DoubleArray, FloatImage

AFFINE, DEFORMABLE = "a", "s"
CHI_WEIGHT, CHI_RADIUS = 1.0, 2  # of the local correlation of susceptibility, beside that of the magnitude
STEP = 0.2  # of the mean warp that the shape is moved by
SHARPENED = 0.25  # share of the sharpened average in the next target: averages are blurred
TEMPLATE_IMAGES = ("magnitude", "chi", "mask")


@dataclass(frozen=True)
class Subject:
    """A subject of the template: name of its run, and its maps."""

    subject: str
    run: str
    chi: Path
    magnitude: Path
    mask: Path
    brain: Path


@dataclass(frozen=True)
class Template:
    """The result, on one grid: the mean magnitude and the moments of susceptibility.

    `changes` is the r.m.s. change of the mean susceptibility (ppm) from each iteration to the next.
    """

    affine: np.ndarray
    magnitude: np.ndarray
    chi: Moments
    changes: tuple[float, ...]


def build_template(
    subjects: Sequence[Subject],
    work: Path,
    *,
    iterations: int,
    voxel_size_mm: float,
    quick: bool,
    ants: Any,
    progress: Callable[[str], None],
) -> Template:
    """Register every subject to the average, average anew, and so on.

    The first average has the brains' centres of mass in one place. The first iteration is affine, the others affine and
    SyN with the local correlation of magnitude and susceptibility; between iterations the average is moved towards the
    subjects' mean shape. The last one is not moved, so that mean, s.d. and count are those of maps on one grid.

    Parameters
    ----------
    work : folder for intermediate files.
    ants : the module antspyx, or what stands in for it.

    References
    ----------
    Avants et al., NeuroImage 49:2457, 2010; Avants et al., Med Image Anal 12:26, 2008.
    """
    files, averages, affine = _start(subjects, work, voxel_size_mm)
    kind = "antsRegistrationSyNQuickRepro" if quick else "antsRegistrationSyNRepro"
    changes: list[float] = []
    for number in range(1, iterations + 1):
        last = number == iterations
        stages = AFFINE if number == 1 and not last else DEFORMABLE
        shown = TEMPLATE_IMAGES[:2]
        target = {name: _as_ants(ants, averages[name], affine, work / f"target_{name}.nii.gz") for name in shown}
        chi, magnitude = Moments(averages["chi"].shape), Moments(averages["chi"].shape)
        transforms = []
        for i, (subject, own) in enumerate(zip(subjects, files, strict=True), start=1):
            progress(f"iteration {number} of {iterations}, {i} of {len(subjects)}: {subject.run}")
            images = {name: ants.image_read(str(own[name])) for name in TEMPLATE_IMAGES}
            found = _register(ants, target, images, f"{kind}[{stages}]", work / f"{subject.run}_")
            warped = {name: _warp(ants, target["chi"], images[name], found) for name in TEMPLATE_IMAGES}
            chi.add(warped["chi"], warped["mask"])
            magnitude.add(warped["magnitude"], np.ones_like(warped["mask"]))
            transforms.append(found)
        changes.append(_change(averages["chi"], chi))
        averages = {"chi": chi.mean, "magnitude": magnitude.mean}
        if not last:
            averages = _moved(ants, averages, transforms, affine, work)
    return Template(affine, averages["magnitude"], chi, tuple(changes[1:]))


def _start(
    subjects: Sequence[Subject], work: Path, voxel_size_mm: float
) -> tuple[list[dict[str, Path]], dict[str, FloatImage], DoubleArray]:
    """Files of each subject ready for registration, the first averages, and their grid."""
    files, extents = [], []
    for subject in subjects:
        affine = read_grid(subject.chi).affine
        brain, mask = read_mask(subject.brain), read_mask(subject.mask)
        try:
            extents.append(extent_of(brain, affine))
            magnitude = normalised_magnitude(read_volume(subject.magnitude), brain)
        except ValueError as error:
            raise ValueError(f"{subject.run}: {error}") from None
        volumes = {"magnitude": magnitude, "chi": read_volume(subject.chi) * mask, "mask": mask.astype(np.float32)}
        own = {name: work / f"{subject.run}_{name}.nii.gz" for name in TEMPLATE_IMAGES}
        for name in TEMPLATE_IMAGES:
            write_image(own[name], volumes[name], affine)
        files.append(own)
    shape, grid = common_grid(extents, voxel_size_mm)
    chi, magnitude = Moments(shape), np.zeros(shape, np.float32)
    for own, extent in zip(files, extents, strict=True):
        affine = read_grid(own["chi"]).affine
        placed = {name: centred(read_volume(own[name]), affine, extent, shape, grid) for name in TEMPLATE_IMAGES}
        chi.add(placed["chi"], placed["mask"])
        magnitude += placed["magnitude"] / len(subjects)
    return files, {"chi": chi.mean, "magnitude": magnitude}, grid


def _register(ants: Any, target: dict[str, Any], images: dict[str, Any], kind: str, prefix: Path) -> list[str]:
    """Transforms from a subject to the target, the affine one last."""
    extras = {}
    if kind.endswith(f"[{DEFORMABLE}]"):
        extras["multivariate_extras"] = [["CC", target["chi"], images["chi"], CHI_WEIGHT, CHI_RADIUS]]
    found = ants.registration(
        target["magnitude"], images["magnitude"], type_of_transform=kind, outprefix=str(prefix), **extras
    )
    return list(found["fwdtransforms"])


def _warp(ants: Any, target: Any, image: Any, transforms: list[str]) -> np.ndarray:
    warped = ants.apply_transforms(fixed=target, moving=image, transformlist=transforms, interpolator="linear")
    return np.asarray(warped.numpy(), np.float32)


def _moved(
    ants: Any, averages: dict[str, np.ndarray], transforms: Sequence[list[str]], affine: np.ndarray, work: Path
) -> dict[str, np.ndarray]:
    """The averages moved towards the mean shape of the subjects, and sharpened a little."""
    mean_affine = work / "mean_affine.mat"
    with _silence():
        mean_transform = ants.average_affine_transform_no_rigid([own[-1] for own in transforms])
    ants.write_transform(mean_transform, str(mean_affine))
    chain, inverted = [str(mean_affine)], [True]
    images = {name: _as_ants(ants, averages[name], affine, work / f"average_{name}.nii.gz") for name in averages}
    warps = [own[0] for own in transforms if len(own) > 1]
    if warps:
        mean = ants.image_read(warps[0]) * (-STEP / len(warps))
        for path in warps[1:]:
            mean = mean + ants.image_read(path) * (-STEP / len(warps))
        # The warps are of the target's space before the affine average is undone.
        turned = ants.apply_transforms(
            fixed=images["chi"], moving=mean, imagetype=1, transformlist=[str(mean_affine)], whichtoinvert=[True]
        )
        mean_warp = work / "mean_warp.nii.gz"
        ants.image_write(turned, str(mean_warp))
        chain, inverted = [str(mean_warp), *chain], [False, *inverted]
    moved = {}
    for name, image in images.items():
        moved_image = ants.apply_transforms(
            fixed=image, moving=image, transformlist=chain, whichtoinvert=inverted, interpolator="linear"
        )
        sharp = ants.iMath(moved_image, "Sharpen")
        blended = (1 - SHARPENED) * moved_image.numpy() + SHARPENED * sharp.numpy()
        moved[name] = np.asarray(blended, np.float32)
    return moved


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing is printed: the average of affine transforms tells every matrix, past Python, and has no option."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _as_ants(ants: Any, volume: np.ndarray, affine: np.ndarray, path: Path) -> Any:
    write_image(path, volume, affine)
    return ants.image_read(str(path))


def _change(before: np.ndarray, after: Moments) -> float:
    inside = after.count > 0
    return float(np.sqrt(np.mean((after.mean - before)[inside] ** 2))) if inside.any() else 0.0
