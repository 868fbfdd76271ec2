"""Maps that several orientations of a head were joined to, found in the derivatives of this program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qsmprep.bids.names import file_entities
from qsmprep.bids.outputs import OUTPUTS, TENSOR, output_path
from qsmprep.bids.reading import SIDECAR_LIMIT_BYTES, read_json_object
from qsmprep.findings import fact_values

# Method -> keys of its maps in the table of outputs, and the option that makes them.
JOINT_MAPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"cosmos": ("cosmos",), "sti-mean": ("sti",), "sti": TENSOR, "chisep-cosmos": ("para", "dia")}
)
OPTION = {"cosmos": "cosmos", "sti-mean": "sti", "sti": "sti", "chisep-cosmos": "chisep-cosmos"}
RUN_KEYS = ("local_field", "qsm_mask")


@dataclass(frozen=True)
class JointMap:
    """What the runs of one session were joined to.

    Attributes
    ----------
    folder : derivative dataset.
    prefix : stem of the map's name.
    method : one of JOINT_MAPS.
    maps : file of each key of the method.
    runs : stems of the runs' names, the reference first.
    b0_directions : (n, 3) of each run in voxel axes of the maps.
    matrices : (n, 4, 4), a point of the head in the maps' world to each run's world, mm.
    tensor_axes : (3, 3) rows: x, y, z of the tensor in voxel axes; None for other maps.
    """

    folder: Path
    prefix: str
    method: str
    maps: Mapping[str, Path]
    runs: tuple[str, ...]
    b0_directions: np.ndarray
    matrices: np.ndarray
    tensor_axes: np.ndarray | None

    @property
    def participant(self) -> str:
        """Label of the participant, without `sub-`."""
        return file_entities(Path(f"{self.prefix}_x.nii.gz"))["sub"]

    def of_run(self, key: str, number: int) -> Path:
        """Where a derivative of a run lies."""
        return self.folder / output_path(key, self.runs[number])


def find_joint_maps(folder: Path, method: str) -> tuple[JointMap, ...]:
    """The sessions of a derivative dataset whose runs a method joined, by name; none if there are none.

    Parameters
    ----------
    folder : derivative dataset, as `qsmprep --multi-orientation` leaves it.
    method : one of JOINT_MAPS.

    Raises
    ------
    ValueError : no such folder, a map without the others of its method or without its runs' fields and masks, a
        sidecar that does not tell how the orientations lie.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give a folder that qsmprep --multi-orientation has written.")
    key = JOINT_MAPS[method][0]
    ending = output_path(key, "sub-x").name.removeprefix("sub-x")
    found = []
    for path in sorted(folder.glob(f"sub-*/**/{OUTPUTS[key].folder}/sub-*{ending}")):
        sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
        if sidecar.exists() and "Orientations" in (document := _read(sidecar)):
            found.append(_joint_map(folder, path.name.removesuffix(ending), method, sidecar, document))
    return tuple(found)


def centre_frequency_mhz(field: Path) -> float:
    """Centre frequency of the run that a field map is of, as its sidecar tells it.

    Raises
    ------
    ValueError : the sidecar is missing or does not tell it.
    """
    sidecar = field.with_name(field.name.removesuffix(".nii.gz") + ".json")
    for step in _read(sidecar).get("ProcessingSteps", ()):
        if step.get("stage") == "input" and (value := fact_values(step.get("facts")).get("centre_frequency")):
            return float(value)
    raise ValueError(f"{sidecar}: tells no centre frequency; make the derivatives anew.")


def _joint_map(folder: Path, prefix: str, method: str, sidecar: Path, document: Mapping[str, Any]) -> JointMap:
    maps = {key: folder / output_path(key, prefix) for key in JOINT_MAPS[method]}
    runs = tuple(str(run) for run in document["Orientations"])
    needed = [*maps.values(), *(folder / output_path(key, run) for run in runs for key in RUN_KEYS)]
    if missing := [path for path in needed if not path.is_file()]:
        raise ValueError(f"{missing[0]}: missing, though {sidecar.name} stands beside it. Make the derivatives anew "
                         f"with --multi-orientation {OPTION[method]}.")  # fmt: skip
    axes = document.get("TensorAxes")
    try:
        directions = np.array(document["B0Directions"], float).reshape(len(runs), 3)
        matrices = np.array(document["RegistrationMatrices"], float).reshape(len(runs), 4, 4)
        tensor_axes = np.array(axes, float).reshape(3, 3) if method == "sti" else None
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{sidecar}: does not tell how the orientations lie; make the derivatives anew with "
                         f"--multi-orientation {OPTION[method]}.") from None  # fmt: skip
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return JointMap(folder, prefix, method, maps, runs, directions, matrices, tensor_axes)


def _read(sidecar: Path) -> dict[str, Any]:
    return read_json_object(sidecar, limit_bytes=SIDECAR_LIMIT_BYTES, what="JSON sidecar")
