"""Heads whose truth is a map that several orientations were joined to: one for each orientation's own tissue field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.bids.grid import Grid, grid_of
from qsmprep.bids.images import open_image
from qsmprep.bids.joint_maps import JointMap, centre_frequency_mhz
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.geometry import SAME_SIZE, SMALLEST_TILT_DEGREES, tilt_degrees
from qsmprep.nets.rates import rate_per_ppm
from qsmprep.nets.spec import NetworkSpec, quantities
from qsmprep.numerics.fourier import fast_shape
from qsmprep.numerics.units import check_field_ppm, check_susceptibility_ppm, hz_to_ppm
from qsmprep.orientation.registration import resample_inside
from qsmprep.orientation.rotation import axes_about
from qsmprep.orientation.sti import offdiagonal_field, rotated_component, unit_frequencies
from qsmprep.phantom.forward import DipoleField
from qsmprep.scan import Scan, Triple
from qsmprep.training.heads import ALONG_THIRD_AXIS, BORDER

# Part of the name of the folder that keeps them: raise it whenever the same files make other heads.
JOINT_HEADS_VERSION = 1
# What a network is trained for -> the methods whose maps can be its labels, the first that there is being taken.
METHODS = {
    ("inversion", ("chi",)): ("cosmos", "sti-mean"),
    ("inversion", ("chi33", "off-diagonal-field")): ("sti",),
    ("separation", ("chi-para", "chi-dia")): ("chisep-cosmos",),
}


def label_methods(spec: NetworkSpec) -> tuple[str, ...]:
    """Methods whose joint maps are labels for a network, the best first; ValueError where there are none."""
    methods = METHODS.get((spec.task, quantities(spec.outputs)))
    if methods is None:
        raise ValueError(f"--labels: no map of several orientations is a label for {spec.task}; there are labels for "
                         f"{', '.join(sorted({task for task, _ in METHODS}))}.")  # fmt: skip
    return methods


def voxel_size_mm(session: JointMap) -> float:
    """Edge of the cubic voxels of a session's maps.

    Raises
    ------
    ValueError : they are not cubic; names the file.
    """
    path = next(iter(session.maps.values()))
    sizes = _grid(path).voxel_size_mm
    if max(sizes) > (1 + SAME_SIZE) * min(sizes):
        told = " x ".join(f"{h:.3g}" for h in sizes)
        raise ValueError(f"{path}: voxels of {told} mm; networks are trained on cubic ones. Bring the scans to cubic "
                         "voxels before qsmprep, or leave this dataset out.")  # fmt: skip
    return round(float(np.prod(sizes) ** (1 / 3)), 4)


def needed_files(session: JointMap, spec: NetworkSpec) -> tuple[Path, ...]:
    """Every image that heads of a session are made from, in a fixed order.

    Raises
    ------
    ValueError : a map of a run that the network's inputs ask for is missing.
    """
    keys = ["local_field", "qsm_mask"]
    if spec.task == "separation":
        keys += ["chi", "r2star"] + (["r2prime"] if "r2prime" in quantities(spec.inputs) else [])
    paths = [session.of_run(key, number) for number in range(len(session.runs)) for key in keys]
    if missing := [path for path in paths if not path.is_file()]:
        raise ValueError(f"{missing[0]}: missing, but {spec.name} is given it. Scan spin echoes for R2', or train a "
                         "network that takes r2star; R2* is written unless --relaxometry none.")  # fmt: skip
    return (*session.maps.values(), *paths)


def joint_heads(session: JointMap, spec: NetworkSpec) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """A head for each orientation of a session.

    A network that knows the kernel sees every field in the space of the maps. For others field and maps are turned so
    that B0 runs along the third axis, each by one interpolation.

    Parameters
    ----------
    session : joint maps and their runs.
    spec : of the network, whose task tells what is read.

    Yields
    ------
    volumes : as `heads.training_head` names them, cropped to where every orientation is valid. `tissue-field` is the
        field of the label; `noise` is what the measured tissue field has beside it, noise and all that the label does
        not explain, so that their sum is what was measured. `chi-found` is the map of the orientation alone.
    facts : B0 direction in the head's voxel axes, voxel size, participant, run, that it was measured.

    Raises
    ------
    ValueError : a field or a map that is not in the unit it should have; no voxel that is valid everywhere.
    """
    grid = _grid(next(iter(session.maps.values())))
    labels = {key: _volume(path) for key, path in session.maps.items()}
    mask = _common_mask(session, grid)
    size = voxel_size_mm(session)
    for number, run in enumerate(session.runs):
        space = _space(mask, grid, session.b0_directions[number], size, turned=not spec.knows_kernel)
        volumes = _labels(session, number, labels, mask, grid, space)
        _add_measured(volumes, session, number, space, spec)
        inside = volumes["mask"]
        volumes = {name: image if name == "mask" else image * inside for name, image in volumes.items()}
        yield volumes, {
            "b0_direction": list(space.b0), "voxel_size_mm": size, "participant": session.participant, "run": run,
            "measured": True,
        }  # fmt: skip


@dataclass(frozen=True)
class _Space:
    """The grid of a head: affine to the world of the maps, shape, and the direction of B0."""

    affine: np.ndarray
    shape: tuple[int, int, int]
    b0: Triple
    voxel_size_mm: float

    @property
    def scan(self) -> Scan:
        return Scan((self.voxel_size_mm,) * 3, self.b0)


def _space(mask: np.ndarray, grid: Grid, b0: np.ndarray, size: float, *, turned: bool) -> _Space:
    """A grid around the mask in the axes of the maps, or turned so that B0 runs along its third axis."""
    b0 = np.asarray(b0) * (-1 if b0[2] < 0 else 1)  # its sign makes no difference
    direction = (float(b0[0]), float(b0[1]), float(b0[2]))
    turned = turned and tilt_degrees(direction) > SMALLEST_TILT_DEGREES
    turn = axes_about(b0) if turned else np.eye(3)  # rows: the new axes in the old ones
    places = np.argwhere(mask) @ turn.T
    first = np.floor(places.min(0)) - BORDER
    n0, n1, n2 = (int(n) for n in np.ceil(places.max(0)) + BORDER + 1 - first)
    to_old = np.eye(4)
    to_old[:3, :3], to_old[:3, 3] = turn.T, turn.T @ first
    return _Space(grid.affine @ to_old, (n0, n1, n2), ALONG_THIRD_AXIS if turned else direction, size)


def _common_mask(session: JointMap, grid: Grid) -> np.ndarray:
    """Where the tissue field of every run is valid, in the space of the maps."""
    common = np.ones(grid.shape, bool)
    for number, matrix in enumerate(session.matrices):
        path = session.of_run("qsm_mask", number)
        inside = _volume(path) > 0
        common &= resample_inside(inside.astype(np.float32), inside, _grid(path).affine, matrix, grid.affine,
                                  grid.shape)[1]  # fmt: skip
    if not common.any():
        raise ValueError(f"{session.folder}: no voxel of {session.prefix} is valid in every orientation.")
    return common


def _labels(session: JointMap, number: int, labels: dict[str, np.ndarray], mask, grid: Grid, space: _Space):
    """The maps of a session in the space of one orientation, and the field that they make there."""

    geometry = (mask, grid.affine, np.eye(4), space.affine, space.shape)

    def moved(image: np.ndarray) -> np.ndarray:
        return resample_inside(image, *geometry)[0]

    if session.method == "sti":
        chi33, beside = _along_b0(np.stack(list(labels.values())), session, number, space.voxel_size_mm)
        volumes = {"chi": moved(chi33 * mask), "off-diagonal-field": moved(beside * mask)}
    elif session.method == "chisep-cosmos":
        volumes = {f"chi-{key}": np.maximum(moved(image), 0) for key, image in labels.items()}
        volumes["chi"] = volumes["chi-para"] - volumes["chi-dia"]
    else:
        volumes = {"chi": moved(next(iter(labels.values())))}
    volumes["mask"] = resample_inside(mask.astype(np.float32), *geometry)[1]
    check_susceptibility_ppm(volumes["chi"], volumes["mask"])
    field = DipoleField(space.shape, space.scan)(volumes["chi"] * volumes["mask"])
    volumes["tissue-field"] = field + volumes.get("off-diagonal-field", np.float32(0))
    return volumes


def _along_b0(components: np.ndarray, session: JointMap, number: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Of a tensor (6, n0, n1, n2) in its own axes: the element along a run's B0, and the field of those across it."""
    axes = axes_about(session.b0_directions[number])
    x, y, z = axes @ np.asarray(session.tensor_axes).T  # in the tensor's own axes
    chi33, chi13, chi23 = (rotated_component(components, z, other) for other in (z, x, y))
    shape = chi33.shape
    n0, n1, n2 = fast_shape(tuple(2 * n for n in shape))
    inner = tuple(slice(0, n) for n in shape)
    wide = []
    for chi in (chi13, chi23):
        wide.append(np.zeros((n0, n1, n2), np.float32))
        wide[-1][inner] = chi
    field = offdiagonal_field(wide, axes, unit_frequencies((n0, n1, n2), (size,) * 3), (n0, n1, n2))
    return chi33, np.ascontiguousarray(field[inner])


def _add_measured(volumes: dict[str, np.ndarray], session: JointMap, number: int, space: _Space, spec: NetworkSpec):
    """What was measured in one orientation, in the space of its head."""
    matrix = session.matrices[number]
    field_path, mask_path = (session.of_run(key, number) for key in ("local_field", "qsm_mask"))
    inside, affine = _volume(mask_path) > 0, _grid(field_path).affine

    def moved(path: Path) -> np.ndarray:
        return resample_inside(_volume(path), inside, affine, matrix, space.affine, space.shape)[0]

    frequency = centre_frequency_mhz(field_path)
    field = hz_to_ppm(moved(field_path), frequency)
    check_field_ppm(field)
    mask = volumes["mask"]
    volumes["noise"] = (field - volumes["tissue-field"]) * mask
    for name, image in (("tkd", volumes["tissue-field"]), ("tkd-noise", volumes["noise"])):
        if "tkd" in quantities(spec.inputs):
            volumes[name] = tkd_channel(image * mask, mask, scan=space.scan)
    if spec.task != "separation":
        return
    found = moved(session.of_run("chi", number))
    shift = volumes["chi"][mask].mean(dtype=np.float64) - found[mask].mean(dtype=np.float64)
    volumes["chi-found"] = found + np.float32(shift)
    constant = np.float32(rate_per_ppm(frequency))
    volumes["r2star"] = np.maximum(moved(session.of_run("r2star", number)), 0) / constant
    if "r2prime" in quantities(spec.inputs):
        volumes["r2prime"] = np.maximum(moved(session.of_run("r2prime", number)), 0) / constant
    else:  # by how much R2* follows a scaled susceptibility
        volumes["r2prime"] = volumes["chi-para"] + volumes["chi-dia"]


def _grid(path: Path) -> Grid:
    return grid_of(open_image(path))


def _volume(path: Path) -> np.ndarray:
    return np.ascontiguousarray(np.asanyarray(open_image(path).dataobj), np.float32)
