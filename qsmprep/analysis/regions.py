"""Values of maps in the regions of a segmentation: how many voxels, mean, spread and percentiles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.options import option

PERCENTILES = (5.0, 25.0, 75.0, 95.0)
NUMBERS = ("mean", "sd", "median", "p5", "p25", "p75", "p95")
# The common reference regions of the consensus paper (table 2) in words.
COMMON_REFERENCES: Mapping[str, str] = {
    "whole_brain": "whole brain",
    "csf": "cerebrospinal fluid",
    "white_matter": "white matter",
    "internal_capsule": "internal capsule",
}
# Of each reference region the names that mean it, best first: the first pattern that a name matches decides. Choroid
# plexus calcifies and the inferior horns are thin, so neither counts as fluid while the lateral ventricles are there.
REFERENCE_NAMES: Mapping[str, tuple[str, ...]] = {
    "csf": (r"^((left|right) )?lateral ventricles?( (left|right))?$", r"\bventricles?\b", r"\bcsf\b|cerebrospinal"),
    "white_matter": (r"\bcerebral white matter\b", r"^(?!.*(cerebell|hypointens|brain ?stem)).*\b(white matter|wm)\b"),
    "internal_capsule": (r"\binternal capsule\b|\b[pa]lic\b",),
}


@dataclass(frozen=True)
class RegionOptions:
    """Regional values of the maps."""

    values: bool = option(True, "write a table of regional values")
    erosion: int = option(
        0,
        "layers of voxels removed from each region against partial volume",
        unit="voxels",
        low=0,
        high=10,
        when=("values", True),
    )
    registration: bool = option(
        True, "register the session's T1w image to the magnitude to bring its segmentation onto the grid; else by "
              "the affines alone",
        when=("values", True),
    )  # fmt: skip
    template: str = option(
        "auto", "whether the package's own template of regions is registered; auto: where there is neither a "
                "segmentation nor an atlas",
        choices=("auto", "always", "none"), when=("values", True),
    )  # fmt: skip


@dataclass(frozen=True)
class ValueMap:
    """A map to be measured.

    Attributes
    ----------
    name, unit : as the table names them.
    values : (n0, n1, n2).
    mask : (n0, n1, n2) where they are valid: consensus mask 4, or the part of it that the map has.
    """

    name: str
    unit: str
    values: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class RegionalValue:
    """One region in one map.

    Attributes
    ----------
    index, name : of the region.
    map, unit : of the map.
    n : voxels used: in the region, where the map is valid and finite.
    n_region : voxels of the region.
    mean, sd, median, p5, p25, p75, p95 : in the map's unit, NaN where n is 0; sd divides by n.
    placement_error : how far the mean moves when the region does, NaN where that was not asked.
    """

    index: int
    name: str
    map: str
    unit: str
    n: int
    n_region: int
    mean: float
    sd: float
    median: float
    p5: float
    p25: float
    p75: float
    p95: float
    placement_error: float = float("nan")

    @property
    def excluded_share(self) -> float:
        """Share of the region that was not used, in [0, 1]; NaN for a region without voxels."""
        return 1 - self.n / self.n_region if self.n_region else float("nan")


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation (dividing by n), median and percentiles, added up in float64; NaN of no value.

    >>> statistics(np.array([1, 3], np.float32))["sd"]
    1.0
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return dict.fromkeys(NUMBERS, float("nan"))
    median, *percentiles = np.percentile(values, (50.0, *PERCENTILES))
    numbers = (values.mean(), values.std(), median, *percentiles)
    return dict(zip(NUMBERS, map(float, numbers), strict=True))


def region_value(region: np.ndarray, value_map: ValueMap, *, index: int, name: str) -> RegionalValue:
    """Values of a map in one region.

    Parameters
    ----------
    region : (n0, n1, n2) bool.
    value_map : the map and where it is valid.
    index, name : of the region.

    Raises
    ------
    ValueError : shapes that differ.
    """
    valid = _valid(value_map, region)
    values = value_map.values[region & valid]
    return RegionalValue(
        index, name, value_map.name, value_map.unit, values.size, int(np.count_nonzero(region)), **statistics(values)
    )


def label_values(labels: np.ndarray, names: Mapping[int, str], value_map: ValueMap) -> tuple[RegionalValue, ...]:
    """Values of a map in every region of a label image, in the order of `names`.

    Parameters
    ----------
    labels : (n0, n1, n2) whole numbers; 0 is background.
    names : number to name of the regions; one that no voxel has gives n = 0 and NaN.
    value_map : the map and where it is valid.

    Raises
    ------
    ValueError : shapes that differ.
    """
    valid = _valid(value_map, labels)
    inside, values = labels[valid], value_map.values[valid].astype(np.float64)
    order = np.argsort(inside, kind="stable")
    inside, values = inside[order], values[order]
    found, counts = np.unique(labels, return_counts=True)
    sizes = dict(zip(found.tolist(), counts.tolist(), strict=True))
    rows = []
    for index, name in names.items():
        first, last = np.searchsorted(inside, index, "left"), np.searchsorted(inside, index, "right")
        numbers = statistics(values[first:last])
        size = sizes.get(index, 0)
        rows.append(RegionalValue(index, name, value_map.name, value_map.unit, int(last - first), size, **numbers))
    return tuple(rows)


def erode_labels(labels: np.ndarray, layers: int) -> np.ndarray:
    """Take layers of voxels off every region: a voxel stays while its six neighbours have its label.

    The border of the volume counts as outside.

    Parameters
    ----------
    labels : (n0, n1, n2) whole numbers; 0 is background.
    layers : 0 gives a copy.
    """
    eroded = np.array(labels)
    for _ in range(layers):
        padded = np.pad(eroded, 1)
        kept = np.ones(eroded.shape, bool)
        for axis in range(3):
            for side in (0, 2):
                window = [slice(1, -1)] * 3
                window[axis] = slice(side, side + eroded.shape[axis])
                kept &= padded[tuple(window)] == eroded
        eroded = np.where(kept, eroded, 0).astype(eroded.dtype)
    return eroded


def lay_labels(
    labels: np.ndarray,
    affine: np.ndarray,
    reference_to_labels: np.ndarray,
    reference_affine: np.ndarray,
    reference_shape: Sequence[int],
) -> np.ndarray:
    """A label image on another grid: each voxel takes the label at its centre; 0 beyond the label image.

    Parameters
    ----------
    labels : (n0, n1, n2) whole numbers.
    affine, reference_affine : (4, 4) voxel-to-world matrices.
    reference_to_labels : (4, 4), takes a point of the reference's world to that of the label image; the identity where
        both are the scanner's.
    reference_shape : of the result.
    """
    matrix = np.linalg.inv(affine) @ reference_to_labels @ reference_affine
    n0, n1, n2 = (int(n) for n in reference_shape)
    laid = np.zeros((n0, n1, n2), labels.dtype)
    i, j = np.meshgrid(np.arange(n0), np.arange(n1), indexing="ij")
    for k in range(n2):  # slice by slice: the coordinates of a whole volume are many times its size
        place = [row[0] * i + row[1] * j + (row[2] * k + row[3]) for row in matrix[:3]]
        # Rounded first to what an affine in float32 can mean, so that equal grids agree on ties.
        nearest = [np.floor(np.round(x, 4) + 0.5).astype(np.int64) for x in place]
        inside = np.logical_and.reduce([(x >= 0) & (x < n) for x, n in zip(nearest, labels.shape, strict=True)])
        laid[:, :, k][inside] = labels[tuple(x[inside] for x in nearest)]
    return laid


def reference_indices(names: Mapping[int, str], reference: str) -> tuple[int, ...]:
    """Numbers of the regions that make up a reference region ("csf", "white_matter", "internal_capsule"); () of none.

    >>> reference_indices({4: "Left-Lateral-Ventricle", 43: "Right-Lateral-Ventricle", 24: "CSF"}, "csf")
    (4, 43)
    """
    words = {index: " ".join(re.split(r"[^a-z0-9]+", name.lower())).strip() for index, name in names.items() if index}
    for pattern in REFERENCE_NAMES[reference]:
        matching = tuple(index for index, name in words.items() if re.search(pattern, name))
        if matching:
            return matching
    return ()


def find_reference(
    reference: str, segmentations: Iterable[tuple[str, np.ndarray, Mapping[int, str]]]
) -> tuple[np.ndarray, str] | None:
    """A reference region in the first segmentation that has voxels of it.

    Parameters
    ----------
    reference : "csf", "white_matter" or "internal_capsule".
    segmentations : of each its label, its image (n0, n1, n2) of whole numbers, and the names of the numbers.

    Returns
    -------
    (n0, n1, n2) bool, and in words the regions that make it up; None where no segmentation has it.
    """
    for label, image, names in segmentations:
        indices = [index for index in reference_indices(names, reference) if (image == index).any()]
        if indices:
            parts = ", ".join(names[index] for index in indices[:10]) + (", ..." if len(indices) > 10 else "")
            return np.isin(image, indices), f"{parts} of {label}"
    return None


def _valid(value_map: ValueMap, region: np.ndarray) -> np.ndarray:
    shapes = {np.shape(value_map.values), np.shape(value_map.mask), np.shape(region)}
    if len(shapes) > 1:
        raise ValueError(f"Map, mask and region must have one shape; got {', '.join(map(str, sorted(shapes)))}.")
    valid: np.ndarray = (np.asarray(value_map.mask) > 0) & np.isfinite(value_map.values)
    return valid
