"""Whole heads as label maps with the depth below the surface of the brain: what a mask network learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qsmprep.masking.morphology import fill_holes, largest_component
from qsmprep.nets.channels.magnitude import LARGEST_DEPTH_MM
from qsmprep.numerics.arrays import FloatImage
from qsmprep.phantom.anatomy import Body, ellipsoid
from qsmprep.phantom.person import VARIATION, draw_person
from qsmprep.phantom.person_head import CENTRE_MM, HEAD_MM
from qsmprep.phantom.person_rendering import render_person
from qsmprep.phantom.rendering import render
from qsmprep.training.anatomy import random_bodies, random_options

# Part of the name of the folder that keeps them: raise it whenever a head of the same number comes out otherwise.
LABEL_HEADS_VERSION = 1
STEP_MM = 1.5
CORNERS_MM = {"ellipsoids": ((-84.0, -102.0, -170.0), (84.0, 102.0, 108.0)), "icbm152": HEAD_MM}
FIELD_STRENGTH_T = 3.0  # any: labels do not depend on it


def label_head(
    number: int, seed: int, *, anatomy: str, step_mm: float = STEP_MM
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """One whole head with neck, right-anterior-superior; the same arguments give the same head.

    Parameters
    ----------
    number, seed : which head.
    anatomy : its generator, one of ANATOMIES.
    step_mm : edge of the voxels.

    Returns
    -------
    volumes : `labels`, (n0, n1, n2) uint8; `depth`, float32, mm below the brain's surface, negative outside, cut
        at LARGEST_DEPTH_MM either way.
    facts : generator.
    """
    random = np.random.default_rng([seed, number, 7])
    low, high = (np.asarray(corner) for corner in CORNERS_MM[anatomy])
    n0, n1, n2 = (int(n) for n in np.ceil((high - low) / step_mm))
    options = random_options(anatomy, random, textured=False)
    size, shape = (step_mm,) * 3, (n0, n1, n2)
    if anatomy == "ellipsoids":
        bodies = (*_neck(random), *random_bodies(options, random))
        first = low + step_mm / 2
        maps, labels = render(bodies, shape, size, (first[0], first[1], first[2]), FIELD_STRENGTH_T)
    else:
        options = replace(options, variation=VARIATION * float(random.uniform(0.5, 1.2)))
        person = draw_person(options, 0, np.eye(3), np.array(CENTRE_MM))
        first = low + step_mm / 2 - np.array(CENTRE_MM)
        maps, labels = render_person(person, shape, size, (first[0], first[1], first[2]), FIELD_STRENGTH_T, 0.0)
    return {"labels": labels, "depth": brain_depth(maps["brain"], step_mm)}, {"generator": anatomy}


def brain_depth(share: FloatImage, voxel_mm: float) -> FloatImage:
    """Depth in mm below the surface of a brain that fills a share of each cubic voxel, negative outside, cut."""
    from scipy.ndimage import distance_transform_edt

    inside = fill_holes(largest_component(share >= 0.5))
    below, above = distance_transform_edt(inside), distance_transform_edt(~inside)
    depth = (np.where(inside, below - 0.5, 0.5 - above) * voxel_mm).astype(np.float32)
    rim = (np.abs(depth) < voxel_mm) & (share > 0.02) & (share < 0.98)
    depth[rim] = (share[rim] - np.float32(0.5)) * np.float32(voxel_mm)
    return np.clip(depth, -LARGEST_DEPTH_MM, LARGEST_DEPTH_MM)


def _neck(random: np.random.Generator) -> list[Body]:
    """Muscle with spine and throat below the ellipsoid head, which covers what of it lies within."""
    wide, deep = random.uniform(48, 66, 2)
    return [
        ellipsoid("muscle", (0.0, -18.0, -130.0), (wide, deep, 130.0)),
        ellipsoid("bone", (0.0, -40.0, -150.0), (16.0, 16.0, 100.0)),
        ellipsoid("outer_csf", (0.0, -46.0, -150.0), (8.0, 8.0, 100.0)),
        ellipsoid("thalamus", (0.0, -46.0, -150.0), (5.0, 5.0, 100.0)),  # no tissue within which others end
        ellipsoid("air", (0.0, 8.0, -130.0), (10.0, 8.0, 50.0)),
    ]
