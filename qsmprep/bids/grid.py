"""How an image lies in the scanner: its voxel grid, which of its transforms means the scanner, and how grids differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError, SpatialImage

from qsmprep.findings import Note
from qsmprep.numerics.arrays import DoubleArray
from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.scan import meant_edges

LARGEST_SHIFT = 0.1  # of a voxel's shortest edge: by how much the corners of one grid may differ
LARGEST_TURN_DEG = 1.0  # by which B0 may differ between two transforms before it is told
SCANNER = 1  # the NIfTI code of a transform to the scanner's coordinates
_CODES = ("qform_code", "sform_code")
_FIELDS = (*_CODES, "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y",
           "srow_z")  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """The voxel grid of an image: shape, affine, and what the steps need of it.

    Attributes
    ----------
    shape : voxels along the three axes.
    affine : (4, 4) voxel to world in mm, as every program reads it that follows nibabel (sform before qform).
    scanner_affine : (4, 4) voxel to the scanner's coordinates in mm, whose z is B0; the affine where not given.
    header : the NIfTI fields that say so (both transforms and their codes), which files made of this image carry on.
    """

    shape: tuple[int, int, int]
    affine: DoubleArray
    scanner_affine: DoubleArray | None = None
    header: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def to_scanner(self) -> DoubleArray:
        """Voxel to the scanner's coordinates, (4, 4)."""
        return self.affine if self.scanner_affine is None else self.scanner_affine

    @property
    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in mm, to five figures."""
        h0, h1, h2 = (float(h) for h in np.linalg.norm(self.affine[:3, :3], axis=0))
        return meant_edges((h0, h1, h2))

    @property
    def b0_direction(self) -> tuple[float, float, float]:
        """Unit vector of B0 in voxel axes."""
        return b0_direction_from_affine(self.to_scanner)

    @property
    def superior_direction(self) -> tuple[float, float, float]:
        """Unit vector towards the top of the head in voxel axes: the scanner's z, as B0."""
        return self.b0_direction

    def end_name(self, axis: int, end: int) -> str:
        """Where an end of a voxel axis lies in the head, by the nearest of its directions: end is -1 or 1.

        >>> Grid((2, 2, 2), np.eye(4)).end_name(2, 1)
        'top'
        """
        along = end * self.affine[:3, axis]
        nearest = int(np.abs(along).argmax())
        return (("left", "right"), ("back", "front"), ("bottom", "top"))[nearest][int(along[nearest] > 0)]


def grid_of(image: SpatialImage) -> Grid:
    """The grid of an image of NIfTI or MGZ; no voxel is read."""
    n0, n1, n2 = (int(n) for n in (*image.shape, 1, 1, 1)[:3])
    header = image.header
    affine = np.asarray(image.affine, float)
    if not isinstance(header, Nifti1Header):
        return Grid((n0, n1, n2), affine)
    fields = {name: np.array(header[name]) for name in _FIELDS} | {"pixdim": np.array(header["pixdim"][:4])}
    return Grid((n0, n1, n2), affine, _scanner_affine(header, affine), fields)


def _scanner_affine(header: Nifti1Header, affine: DoubleArray) -> DoubleArray:
    """The transform with the code of the scanner, sform first; where neither has it, the affine as nibabel reads it."""
    if int(header["sform_code"]) == SCANNER:
        return affine
    if int(header["qform_code"]) == SCANNER:
        qform = _qform(header)
        return affine if qform is None else qform
    return affine


def _qform(header: Nifti1Header) -> DoubleArray | None:
    """The qform of a header; None where it has none, or none that is a rotation."""
    try:
        qform = header.get_qform(coded=True)[0]
    except (ValueError, HeaderDataError):
        return None
    usable = qform is not None and np.isfinite(qform).all() and abs(np.linalg.det(qform[:3, :3])) > 0
    return np.asarray(qform, float) if usable else None


@dataclass(frozen=True)
class Assumption:
    """What a header leaves open about B0, and what was taken.

    Attributes
    ----------
    angle_deg : between B0 by qform and by sform; 0 where there is one of them alone.
    told : whether a transform has the code of the scanner.
    text : what was taken, without the file's name; empty where nothing is open.
    """

    angle_deg: float
    told: bool
    text: str


def assumption_of(image: SpatialImage) -> Assumption:
    """What a header leaves open about the direction of B0: transforms that contradict, or none of the scanner."""
    header = image.header
    if not isinstance(header, Nifti1Header):
        return Assumption(0.0, True, "")
    q_code, s_code = (int(header[name]) for name in _CODES)
    told = SCANNER in (q_code, s_code)
    qform = _qform(header) if q_code > 0 else None
    sform = np.asarray(header.get_sform(), float) if s_code > 0 else None
    taken = "qform" if s_code != SCANNER and (q_code == SCANNER or sform is None) and qform is not None else "sform"
    angle = 0.0 if qform is None or sform is None else angle_deg(qform, sform)
    codes = f"qform_code {q_code}, sform_code {s_code}"
    if angle > LARGEST_TURN_DEG:
        why = "which means the scanner" if told else "as neither says that it means the scanner"
        if q_code == s_code == SCANNER:
            why = "though both say that they mean the scanner"
        text = f"B0 by qform and by sform differ by {angle:.1f} degrees ({codes}); the {taken} was taken, {why}"
        return Assumption(angle, told, text)
    if told or q_code == s_code == 0:
        return Assumption(angle, told, "")
    text = f"no transform says that it means the scanner ({codes}); B0 was taken from the {taken} as if it did"
    return Assumption(angle, told, text)


def slice_axis(image: SpatialImage) -> tuple[int, str]:
    """The voxel axis across the slices, and how it is known: by the header, else it is that nearest to head-foot."""
    header = image.header
    told = header.get_dim_info()[2] if isinstance(header, Nifti1Header) else None
    if told is not None:
        return int(told), "as the header says"
    affine = grid_of(image).to_scanner
    cosines = np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    return int(cosines.argmax()), "the one nearest to head-foot, as the header does not say"


def b0_notes(image: SpatialImage, name: str) -> tuple[Note, ...]:
    """What was assumed about B0 where no transform of an image says that it means the scanner, and none contradicts."""
    found = assumption_of(image)
    if not found.text or found.angle_deg > LARGEST_TURN_DEG:  # contradictions are warnings of `check_b0`
        return ()
    return (Note("b0-direction-assumed", f"{name}: {found.text}. Give --b0-direction if it does not."),)


def angle_deg(one: DoubleArray, other: DoubleArray) -> float:
    """Angle in degrees between the directions of B0 in voxel axes that two affines tell."""
    a, b = (np.array(b0_direction_from_affine(affine)) for affine in (one, other))
    return float(np.rad2deg(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def grid_difference(one: Grid, other: Grid) -> str:
    """In words how another grid differs from one, in shape or place; empty where they are one.

    Grids are one if no corner is further off than a tenth of the shortest edge of a voxel. The other one may lie as
    either transform of the first tells: programs differ in which of them they keep.
    """
    if one.shape != other.shape:
        return f"{by(other.shape)} voxels instead of {by(one.shape)}"
    smallest = min(one.voxel_size_mm)
    shift = min(largest_shift_mm(one.shape, affine, other.affine) for affine in (one.affine, one.to_scanner))
    if shift <= LARGEST_SHIFT * smallest:
        return ""
    return f"the affine puts voxels up to {shift:.3g} mm ({shift / smallest:.2g} voxels) away"


def largest_shift_mm(shape: tuple[int, ...], one: DoubleArray, other: DoubleArray) -> float:
    """Largest distance between the places that two affines give to a corner of a volume; infinite if not a number."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    moved = (one - other)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    shift = float(np.linalg.norm(moved, axis=0).max())
    return shift if np.isfinite(shift) else float("inf")


def lay_as(header: Nifti1Header, grid: Grid) -> None:
    """Give the header of an image on a grid both transforms and codes of the image that the grid is of."""
    for name in _FIELDS:
        if name in grid.header:
            header[name] = grid.header[name]
    if "pixdim" in grid.header:
        header["pixdim"][:4] = grid.header["pixdim"]


def by(shape: tuple[int, ...]) -> str:
    """A shape as people write it: "53 x 67 x 60"."""
    return " x ".join(map(str, shape)) or "0"
