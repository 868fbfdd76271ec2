"""The acquisition items that the consensus asks to report (its tables 3 and 4), and where each is found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Item:
    """One line of the consensus tables of acquisition parameters.

    Attributes
    ----------
    name : what it is called in the run record and in the report.
    table : 3 (hardware) or 4 (sequence).
    essential : marked with a star by the consensus.
    keys : sidecar keys that hold it, first found wins.
    unit : unit of the sidecar's value.
    factor : what the sidecar's value is multiplied by to come to `unit`.
    """

    name: str
    table: int
    essential: bool = False
    keys: tuple[str, ...] = ()
    unit: str = ""
    factor: float = 1.0


# fmt: off
ITEMS = (
    Item("Field strength", 3, True, ("MagneticFieldStrength",), "T"),
    Item("Vendor", 3, True, ("Manufacturer",)),
    Item("Scanner model", 3, False, ("ManufacturersModelName",)),
    Item("Scanner software", 3, False, ("SoftwareVersions",)),
    Item("Receive coil", 3, False, ("ReceiveCoilName", "CoilString")),
    Item("Active coil elements", 3, False, ("ReceiveCoilActiveElements",)),
    Item("Transmit coil", 3, False, ("TransmitCoilName",)),
    Item("Gradient system", 3, False, ("GradientSetType",)),
    Item("Sequence type", 4, True),
    Item("Sequence name", 4, False, ("PulseSequenceDetails", "SequenceName", "ProtocolName", "SeriesDescription")),
    Item("K-space trajectory", 4, True, ("KSpaceTrajectory",)),
    Item("Orientation of the slab", 4),
    Item("Echoes", 4, True),
    Item("Repetition time", 4, True, ("RepetitionTimeExcitation", "RepetitionTime"), "ms", 1000.0),
    Item("Flip angle", 4, False, ("FlipAngle",), "degrees"),
    Item("Pixel bandwidth", 4, False, ("PixelBandwidth",), "Hz/pixel"),
    Item("Field of view", 4, True),
    Item("Matrix", 4, True),
    Item("Acquired matrix", 4, False),
    Item("Voxel size", 4, True),
    Item("Readout polarity", 4, False, ("ReadoutPolarity",)),
    Item("Centre frequency", 4, True, ("ImagingFrequency",), "MHz"),
    Item("Flow compensation", 4, False, ("FlowCompensation",)),
    Item("Acceleration", 4, True),
    Item("Partial Fourier", 4, True),
    Item("Partial echo", 4, True, ("PartialEcho",)),
    Item("Elliptical shutter", 4, False, ("EllipticalShutter",)),
    Item("Phase stabilisation", 4, False, ("PhaseStabilization", "PhaseStabilisation")),
    Item("Excitation", 4, False),
    Item("Scan duration", 4, True, ("AcquisitionDuration",), "s"),
)
# fmt: on

# Which device it was, of several of one model: told only where the data tell it.
DEVICE = {"Device serial number": "DeviceSerialNumber", "Station": "StationName", "Institution": "InstitutionName"}

# Items told by several sidecar keys together, and how each is worded.
_JOINED: Mapping[str, Mapping[str, str]] = {
    "Sequence type": {
        "MRAcquisitionType": "{}",
        "PulseSequenceType": "{}",
        "ScanningSequence": "scanning sequence {}",
        "SequenceVariant": "variant {}",
    },
    "Acquired matrix": {
        "FrequencyEncodingSteps": "{} readout",
        "AcquisitionMatrixPE": "{} phase encoding",
        "ReconMatrixPE": "{} phase encoding after reconstruction",
    },
    "Acceleration": {
        "ParallelAcquisitionTechnique": "{}",
        "ParallelReductionFactorInPlane": "in plane {}",
        "ParallelReductionFactorOutOfPlane": "out of plane {}",
        "MultibandAccelerationFactor": "multiband {}",
    },
    "Partial Fourier": {"PartialFourier": "{}", "PartialFourierDirection": "direction {}"},
    "Excitation": {
        "ScanOptions": "scan options {}",
        "MTState": "magnetisation transfer {}",
        "SpoilingState": "spoiling {}",
    },
}


def describe_acquisition(
    metadata: Mapping[str, Any],
    *,
    affine: np.ndarray,
    shape: Sequence[int],
    echo_times_s: Sequence[float],
) -> dict[str, dict[str, Any]]:
    """Every acquisition item of the consensus with its value and source, for the run record.

    Parameters
    ----------
    metadata : sidecar of one image of the run, inherited keys included.
    affine : (4, 4) voxel-to-world matrix in mm.
    shape : of the image, three axes.
    echo_times_s : of all echoes, ascending.

    Returns
    -------
    Item name -> {"value": ..., "source": "sidecar KEY", "affine", "image" or "not available"}.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024, tables 3 and 4.
    """
    found = {item.name: _from_sidecar(item, metadata) for item in ITEMS}
    found |= _geometry(np.asarray(affine, float), shape)
    found["Echoes"] = _entry(_echo_words(echo_times_s), "sidecar EchoTime")
    found |= {name: _joined(metadata, forms) for name, forms in _JOINED.items()}
    if found["Flow compensation"]["source"] == NOT_AVAILABLE:
        found["Flow compensation"] = _flow_compensation(metadata)
    device = {name: _from_sidecar(Item(name, 3, keys=(key,)), metadata) for name, key in DEVICE.items()}
    return found | {name: entry for name, entry in device.items() if entry["value"] is not None}


def look_up(acquisition: Mapping[str, Any], item: Item) -> dict[str, Any]:
    """The record's entry for an item, found by its name or by a sidecar key; "not available" if there is none."""
    wanted = {_plain(name) for name in (item.name, *item.keys)}
    for name, entry in acquisition.items():
        if _plain(name) in wanted:
            return _as_entry(entry)
    return _entry(None, NOT_AVAILABLE)


def unlisted(acquisition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries of the record that belong to no item of the consensus."""
    known = {_plain(name) for item in ITEMS for name in (item.name, *item.keys)}
    return {str(name): _as_entry(entry) for name, entry in acquisition.items() if _plain(name) not in known}


def missing_essentials(acquisition: Mapping[str, Any]) -> list[str]:
    """Names of the essential items that are not available.

    Partial Fourier, partial echo and a non-Cartesian trajectory are essential only where they were used, which a
    sidecar without them cannot tell: they are not counted.
    """
    conditional = ("Partial Fourier", "Partial echo", "K-space trajectory")
    return [
        item.name
        for item in ITEMS
        if item.essential and item.name not in conditional and look_up(acquisition, item)["value"] is None
    ]


def _as_entry(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        return _entry(entry, "")
    value = entry.get("value")
    if isinstance(value, str) and value.strip().lower() in ("", NOT_AVAILABLE, "n/a"):
        value = None
    source = str(entry.get("source") or "")
    return _entry(None if source == NOT_AVAILABLE else value, source)


def _entry(value: Any, source: str) -> dict[str, Any]:
    return {"value": value, "source": source if value is not None else NOT_AVAILABLE}


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _from_sidecar(item: Item, metadata: Mapping[str, Any]) -> dict[str, Any]:
    for key in item.keys:
        value = metadata.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool) and item.factor != 1:
            value = round(value * item.factor, 6)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        return _entry(f"{_words(value)} {item.unit}".strip(), f"sidecar {key}")
    return _entry(None, NOT_AVAILABLE)


def _joined(metadata: Mapping[str, Any], forms: Mapping[str, str]) -> dict[str, Any]:
    present = [key for key in forms if metadata.get(key) not in (None, "", [])]
    if not present:
        return _entry(None, NOT_AVAILABLE)
    return _entry(
        ", ".join(forms[key].format(_words(metadata[key])) for key in present), "sidecar " + ", ".join(present)
    )


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(part) for part in value)
    return str(value).replace("\\", " ")


def _echo_words(echo_times_s: Sequence[float]) -> str | None:
    times = [1000 * float(time) for time in echo_times_s]
    if not times:
        return None
    if len(times) == 1:
        return f"1 echo, TE = {times[0]:.4g} ms"
    steps = np.diff(times)
    if np.ptp(steps) <= 0.02 * steps.mean():
        return f"{len(times)} echoes, TE1:ΔTE:TEmax = {times[0]:.4g}:{steps.mean():.4g}:{times[-1]:.4g} ms"
    return f"{len(times)} echoes, TE = {', '.join(f'{time:.4g}' for time in times)} ms"


def _geometry(affine: np.ndarray, shape: Sequence[int]) -> dict[str, dict[str, Any]]:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    extent = sizes * np.asarray(shape[:3])
    return {
        "Voxel size": _entry(" x ".join(f"{s:.4g}" for s in sizes) + " mm", "affine"),
        "Matrix": _entry(" x ".join(str(int(n)) for n in shape[:3]), "image"),
        "Field of view": _entry(" x ".join(f"{e:.4g}" for e in extent) + " mm", "affine"),
        "Orientation of the slab": _entry(_orientation_words(affine[:3, :3] / sizes), "affine"),
    }


def _orientation_words(axes: np.ndarray) -> str:
    """The slab's plane and how far its normal (third voxel axis) is from B0."""
    normal = np.abs(axes[:, 2])
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    tilt = float(np.degrees(np.arccos(np.clip(normal.max(), -1, 1))))
    angle = float(np.degrees(np.arccos(np.clip(normal[2], -1, 1))))
    kind = f"pure {plane}" if tilt < 0.5 else f"oblique {plane}"
    return f"{kind}, slab normal {angle:.1f} degrees from B0"


def _flow_compensation(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Flow compensation as the DICOM scan options tell it ("FC"); their silence tells nothing."""
    options = re.split(r"[\\,_\s]+", _words(metadata.get("ScanOptions") or ""))
    return _entry("on", "sidecar ScanOptions") if "FC" in options else _entry(None, NOT_AVAILABLE)
