"""The ICBM152 template as the ground of simulated heads: tissue shares, and distances from brain and skull.

The maps are those that the Python package nilearn carries (1 mm, nonlinear symmetric 2009a); no person's scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask

STEM = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
# The template's maps are means over people, in which sulci are nearly closed: weighted and raised to this power the
# shares have the borders of one person, and grey matter, white matter and fluid about the volumes that people have.
SHARPNESS = 1.5
WEIGHTS = (1.0, 1.5, 4.0)
WIDE_MM = 2.0
WIDE_LOW_MM, WIDE_HIGH_MM = (-124.0, -160.0, -200.0), (124.0, 140.0, 130.0)
CLOSING_MM = 14.0
FLUID_MM = 1.5


@dataclass(frozen=True, eq=False)
class Lattice:
    """A volume in the template's space: voxel (0, 0, 0) has its centre at `first_mm`."""

    volume: FloatImage
    first_mm: np.ndarray
    step_mm: float


@dataclass(frozen=True, eq=False)
class Template:
    """What a head is made from, in the template's millimetres (x right, y anterior, z superior).

    Attributes
    ----------
    grey, white : share of the tissue in the brain, 0 to 1; what is left is fluid.
    brain : distance from the brain's rim in mm, negative inside; fluid around the cortex belongs to the brain.
    skull : distance from the inner table of the skull in mm, negative inside.
    """

    grey: Lattice
    white: Lattice
    brain: Lattice
    skull: Lattice


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template's maps, read from where nilearn is installed.

    Raises
    ------
    FileNotFoundError : nilearn is not installed, or does not carry the maps.
    """
    import nibabel as nib
    from scipy.ndimage import gaussian_filter

    folder = template_folder()
    images: list[Any] = [nib.load(folder / STEM.format(name)) for name in ("t1", "gm", "wm")]
    first = np.array(images[0].affine[:3, 3], float)
    brain, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    grey, white = sharpened(grey / 255, white / 255)
    inside = gaussian_filter((brain > 0).astype(np.float32), 1.0) > 0.5
    return Template(
        Lattice(grey, first, 1.0),
        Lattice(white, first, 1.0),
        Lattice(signed_distance(inside, 1.0), first, 1.0),
        _skull(inside, first),
    )


def template_folder() -> Path:
    """Where nilearn keeps the maps; nilearn itself is not imported. Raises FileNotFoundError with the remedy."""
    found = find_spec("nilearn")
    places = [Path(place, "datasets", "data") for place in (found.submodule_search_locations or [])] if found else []
    for place in places:
        if all((place / STEM.format(name)).is_file() for name in ("t1", "gm", "wm")):
            return place
    raise FileNotFoundError(
        "The anatomy icbm152 needs the template's maps, which the Python package nilearn carries; install it by "
        "`pip install nilearn`, or simulate the anatomy ellipsoids."
    )


def sharpened(grey: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of grey and white matter whose borders are those of one person: weighted powers that sum to 1."""
    fluid = np.clip(1 - grey - white, 0, 1)
    powers = [w * np.power(share, SHARPNESS) for w, share in zip(WEIGHTS, (grey, white, fluid), strict=True)]
    total = np.maximum(sum(powers), 1e-6)
    return powers[0] / total, powers[1] / total


def signed_distance(inside: Mask, step_mm: float) -> FloatImage:
    """Distance in mm from the surface of a mask, negative inside, half a voxel from the centres on both sides."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(~inside) - distance_transform_edt(inside)
    return np.asarray((distance - 0.5 * np.sign(distance)) * step_mm, np.float32)


def _skull(brain: Mask, first_mm: np.ndarray) -> Lattice:
    """Distance from the inner table: the brain with its fissures closed, and a layer of fluid around it."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    low = np.array(WIDE_LOW_MM)
    shape = np.round((np.array(WIDE_HIGH_MM) - low) / WIDE_MM).astype(int)
    start = np.round((first_mm - low) / WIDE_MM).astype(int)
    coarse = brain[::2, ::2, ::2]
    wide = np.zeros(tuple(shape), bool)
    wide[tuple(slice(s, s + n) for s, n in zip(start, coarse.shape, strict=True))] = coarse
    swollen = distance_transform_edt(~wide) * WIDE_MM <= CLOSING_MM
    closed = distance_transform_edt(swollen) * WIDE_MM > CLOSING_MM - FLUID_MM
    distance = gaussian_filter(signed_distance(closed, WIDE_MM), 1.5)
    return Lattice(np.asarray(distance, np.float32), low + (first_mm - low) % WIDE_MM, WIDE_MM)
