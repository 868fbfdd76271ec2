"""The acquisition items that the consensus asks to report (its tables 3 and 4), and where each is found."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Item:
    """One line of the consensus tables of acquisition parameters.

    Attributes
    ----------
    key : what the run record calls it, and programs look it up by.
    name : what people read.
    table : 3 (hardware) or 4 (sequence); 0 for what neither asks for.
    essential : marked with a star by the consensus.
    keys : sidecar keys that hold it, first found wins.
    unit : unit of the value.
    factor : what the sidecar's value is multiplied by to come to `unit`.
    where_used : essential only where it was used (the centre frequency: in studies of several scanners), which a sidecar
        without it cannot tell.
    """

    key: str
    name: str
    table: int
    essential: bool = False
    keys: tuple[str, ...] = ()
    unit: str = ""
    factor: float = 1.0
    where_used: bool = False


@dataclass(frozen=True)
class Entry:
    """What is known of an item.

    Attributes
    ----------
    value : number, text, list of numbers, or value by sidecar key where several tell it; None where nothing does.
    unit : of the value; empty for a pure number or a text.
    text : what a person reads; empty where nothing is known.
    source : where it was found.
    """

    value: Any = None
    unit: str = ""
    text: str = ""
    source: str = NOT_AVAILABLE

    @property
    def available(self) -> bool:
        """Whether there is anything to report."""
        return self.value is not None

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers of the value; empty where it is none."""
        found = self.value if isinstance(self.value, list | tuple) else [self.value]
        numbers = [_number(part) for part in found]
        return () if None in numbers else tuple(part for part in numbers if part is not None)

    @property
    def number(self) -> float | None:
        """The first number of the value; None where it has none."""
        return next(iter(self.numbers), None)

    @property
    def parts(self) -> Mapping[str, Any]:
        """Value by sidecar key, of an item that several tell; empty for others."""
        return self.value if isinstance(self.value, Mapping) else {}

    def number_of(self, sidecar_key: str) -> float | None:
        """The number that one of several sidecar keys tells; None where it tells none."""
        return _number(self.parts.get(sidecar_key))

    def document(self) -> dict[str, Any]:
        """As the run record holds it."""
        return asdict(self)


# fmt: off
ITEMS = (
    Item("field_strength", "Field strength", 3, True, ("MagneticFieldStrength",), "T"),
    Item("vendor", "Vendor", 3, True, ("Manufacturer",)),
    Item("scanner_model", "Scanner model", 3, False, ("ManufacturersModelName",)),
    Item("scanner_software", "Scanner software", 3, False, ("SoftwareVersions",)),
    Item("receive_coil", "Receive coil", 3, False, ("ReceiveCoilName", "CoilString")),
    Item("coil_elements", "Active coil elements", 3, False, ("ReceiveCoilActiveElements",)),
    Item("coil_channels", "Receive channels", 3, False, ("NumberReceiveCoilActiveElements",)),
    Item("transmit_coil", "Transmit coil", 3, False, ("TransmitCoilName",)),
    Item("gradient_system", "Gradient system", 3, False, ("GradientSetType",)),
    Item("sequence_type", "Sequence type", 4, True),
    Item("sequence_name", "Sequence name", 4, False, ("PulseSequenceDetails", "SequenceName", "ProtocolName", "SeriesDescription")),
    Item("trajectory", "K-space trajectory", 4, True, ("KSpaceTrajectory",), where_used=True),
    Item("slab_orientation", "Orientation of the slab", 4),
    Item("echoes", "Echoes", 4, True, unit="ms"),
    Item("repetition_time", "Repetition time", 4, True, ("RepetitionTimeExcitation", "RepetitionTime"), "ms", 1000.0),
    Item("flip_angle", "Flip angle", 4, True, ("FlipAngle",), "degrees"),
    Item("bandwidth", "Pixel bandwidth", 4, True, ("PixelBandwidth",), "Hz/pixel"),
    Item("field_of_view", "Field of view", 4, True, unit="mm"),
    Item("acquired_matrix", "Acquired matrix", 4, True),
    Item("matrix", "Matrix of the image", 4),
    Item("voxel_size", "Voxel size", 4, True, unit="mm"),
    Item("readout_polarity", "Readout polarity", 4, False, ("ReadoutPolarity",)),
    Item("centre_frequency", "Centre frequency", 4, True, ("ImagingFrequency",), "MHz", where_used=True),
    Item("flow_compensation", "Flow compensation", 4, False, ("FlowCompensation",)),
    Item("acceleration", "Acceleration", 4, True),
    Item("partial_fourier", "Partial Fourier", 4, True, where_used=True),
    Item("partial_echo", "Partial echo", 4, True, ("PartialEcho",), where_used=True),
    Item("elliptical_shutter", "Elliptical shutter", 4, False, ("EllipticalShutter",)),
    Item("phase_stabilisation", "Phase stabilisation", 4, True, ("PhaseStabilization", "PhaseStabilisation"), where_used=True),
    Item("excitation", "Excitation", 4, False),
    Item("scan_duration", "Scan duration", 4, True, ("AcquisitionDuration",), "s"),
)
# What the tables do not ask for, told only where the data tell it: how the images were made, and by which device.
FURTHER = (
    Item("coil_combination", "Combination of the coils", 0, False, ("CoilCombinationMethod",)),
    Item("conversion", "Conversion to NIfTI", 0),
    Item("device_serial_number", "Device serial number", 3, False, ("DeviceSerialNumber",)),
    Item("station", "Station", 3, False, ("StationName",)),
    Item("institution", "Institution", 3, False, ("InstitutionName",)),
)
# fmt: on

# Items told by several sidecar keys together, and how each is worded.
JOINED: Mapping[str, Mapping[str, str]] = {
    "sequence_type": {
        "MRAcquisitionType": "{}",
        "PulseSequenceType": "{}",
        "ScanningSequence": "scanning sequence {}",
        "SequenceVariant": "variant {}",
    },
    "acquired_matrix": {
        "BaseResolution": "{} readout",
        "FrequencyEncodingSteps": "{} readout",
        "AcquisitionMatrixPE": "{} phase encoding",
        "ReconMatrixPE": "{} phase encoding after reconstruction",
    },
    "acceleration": {
        "ParallelAcquisitionTechnique": "{}",
        "ParallelReductionFactorInPlane": "in plane {}",
        "ParallelReductionFactorOutOfPlane": "out of plane {}",
        "MultibandAccelerationFactor": "multiband {}",
        "CompressedSensingFactor": "compressed sensing {}",
    },
    "partial_fourier": {"PartialFourier": "{}", "PartialFourierDirection": "direction {}"},
    "excitation": {
        "ScanOptions": "scan options {}",
        "MTState": "magnetisation transfer {}",
        "SpoilingState": "spoiling {}",
    },
    "conversion": {"ConversionSoftware": "{}", "ConversionSoftwareVersion": "{}"},
}


def describe_acquisition(
    metadata: Mapping[str, Any],
    *,
    affine: np.ndarray,
    shape: Sequence[int],
    echo_times_s: Sequence[float],
) -> dict[str, dict[str, Any]]:
    """Every acquisition item of the consensus, for the run record.

    Parameters
    ----------
    metadata : sidecar of one image of the run, inherited keys included.
    affine : (4, 4) voxel-to-world matrix in mm.
    shape : of the image, three axes.
    echo_times_s : of all echoes, ascending.

    Returns
    -------
    Key of the item -> `Entry` as an object; its source is "sidecar KEY", "affine", "image" or "not available".

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024, tables 3 and 4.
    """
    found = {item.key: _from_sidecar(item, metadata) for item in ITEMS}
    found |= _geometry(np.asarray(affine, float), shape)
    found["echoes"] = _echoes(echo_times_s)
    joined = {key: _joined(metadata, forms) for key, forms in JOINED.items()}
    found |= {key: entry for key, entry in joined.items() if key in found or entry.available}
    if not found["flow_compensation"].available:
        found["flow_compensation"] = _flow_compensation(metadata)
    further = {item.key: _from_sidecar(item, metadata) for item in FURTHER if item.keys}
    found |= {key: entry for key, entry in further.items() if entry.available}
    return {key: entry.document() for key, entry in found.items()}


def look_up(acquisition: Mapping[str, Any], key: str) -> Entry:
    """What the record tells of an item; an entry that is not available where it tells nothing."""
    return _read(acquisition.get(key))


def is_spoiled(acquisition: Mapping[str, Entry]) -> bool | None:
    """Whether the gradient echo is spoiled, by the sidecar's state or DICOM's sequence variant; None: not told."""
    state = acquisition.get("excitation", Entry()).parts.get("SpoilingState")
    variant = acquisition.get("sequence_type", Entry()).parts.get("SequenceVariant", "")
    listed = variant if isinstance(variant, list | tuple) else re.split(r"[\\,_\s]+", str(variant))
    if state is True or "SP" in listed:
        return True
    return False if state is False else None


def unlisted(acquisition: Mapping[str, Any]) -> dict[str, tuple[str, Entry]]:
    """Name and entry, by key, of what the record tells beside the items of the consensus."""
    known, names = {item.key for item in ITEMS}, {item.key: item.name for item in FURTHER}
    found = {str(key): _read(entry) for key, entry in acquisition.items() if key not in known}
    return {key: (names.get(key, key), entry) for key, entry in found.items()}


def missing_essentials(acquisition: Mapping[str, Any]) -> list[str]:
    """Names of the essential items that are not available; those essential only where they were used do not count."""
    needed = (item for item in ITEMS if item.essential and not item.where_used)
    return [item.name for item in needed if not look_up(acquisition, item.key).available]


def _read(document: Any) -> Entry:
    """An entry of a record; what is damaged is taken as far as it goes."""
    if not isinstance(document, Mapping):
        return Entry() if document is None else Entry(document, "", _words(document), "")
    value = document.get("value")
    if value is None:
        return Entry()
    unit, text, source = (" ".join(str(document.get(name) or "").split()) for name in ("unit", "text", "source"))
    return Entry(value, unit, text or f"{_words(value)} {unit}".strip(), source)


def _number(value: Any) -> float | None:
    """A number of a sidecar, as it may also stand there in a text ("3T"); None where there is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    found = re.search(r"\d+(?:\.\d+)?(?:[eE]-?\d+)?", value) if isinstance(value, str) else None
    return float(found[0]) if found else None


def _from_sidecar(item: Item, metadata: Mapping[str, Any]) -> Entry:
    for key in item.keys:
        value = metadata.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and item.factor != 1:
            value = round(value * item.factor, 6)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        return Entry(_storable(value), item.unit, f"{_words(value)} {item.unit}".strip(), f"sidecar {key}")
    return Entry()


def _storable(value: Any) -> Any:
    """The value as a record can hold it: JSON has no word for a number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return value


def _joined(metadata: Mapping[str, Any], forms: Mapping[str, str]) -> Entry:
    present = {key: _storable(metadata[key]) for key in forms if metadata.get(key) not in (None, "", [])}
    if not present:
        return Entry()
    text = ", ".join(forms[key].format(_words(value)) for key, value in present.items())
    return Entry(present, "", text, "sidecar " + ", ".join(present))


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, list | tuple):
        return ", ".join(_words(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    return str(value).replace("\\", " ")


def _echoes(echo_times_s: Sequence[float]) -> Entry:
    """Number and times of the echoes."""
    times = [round(1000 * float(time), 6) for time in echo_times_s]
    if not times:
        return Entry()
    text = f"{len(times)} echo{'es' if len(times) > 1 else ''}, {times_words(times)}"
    return Entry(times, "ms", text, "sidecar EchoTime")


def times_words(times_ms: Sequence[float]) -> str:
    """Echo times as the consensus asks to report them.

    >>> times_words([5, 11, 17])
    'TE1:ΔTE:TEmax = 5:6:17 ms'
    >>> times_words([5, 11, 30])
    'TE = 5, 11, 30 ms'
    """
    steps = np.diff(times_ms)
    if len(times_ms) > 1 and np.ptp(steps) <= 0.02 * steps.mean():
        return f"TE1:ΔTE:TEmax = {times_ms[0]:.4g}:{steps.mean():.4g}:{times_ms[-1]:.4g} ms"
    return f"TE = {', '.join(f'{time:.4g}' for time in times_ms)} ms"


def _geometry(affine: np.ndarray, shape: Sequence[int]) -> dict[str, Entry]:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    edges = sizes * np.asarray(shape[:3])
    matrix = [int(n) for n in shape[:3]]
    plane, tilt, angle = _orientation(affine[:3, :3] / sizes)
    kind = f"oblique {plane}" if tilt else f"pure {plane}"
    slab = {"plane": plane, "oblique": tilt, "degrees_from_b0": round(angle, 1)}
    return {
        "voxel_size": _lengths(sizes),
        "matrix": Entry(matrix, "", " x ".join(map(str, matrix)), "image"),
        "field_of_view": _lengths(edges, _axis_names(affine[:3, :3] / sizes)),
        "slab_orientation": Entry(slab, "", f"{kind}, slab normal {angle:.1f} degrees from B0", "affine"),
    }


def _lengths(lengths: np.ndarray, names: Sequence[str] = ("", "", "")) -> Entry:
    """Three lengths in mm that the affine tells, with the names of their axes."""
    rounded = [float(f"{length:.6g}") for length in lengths]
    told = " x ".join(
        f"{length:.4g}{f' ({name})' if name else ''}" for length, name in zip(lengths, names, strict=True)
    )
    return Entry(rounded, "mm", told + " mm", "affine")


def _axis_names(axes: np.ndarray) -> list[str]:
    """The patient's axis nearest to each axis of the voxels: left-right, anterior-posterior, head-foot."""
    return [("LR", "AP", "HF")[int(np.argmax(np.abs(axes[:, k])))] for k in range(3)]


def _orientation(axes: np.ndarray) -> tuple[str, bool, float]:
    """The slab's plane, whether it is oblique, and how far its normal (third voxel axis) is from B0 in degrees."""
    normal = np.abs(axes[:, 2])
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    tilt = float(np.degrees(np.arccos(np.clip(normal.max(), -1, 1))))
    return plane, tilt >= 0.5, float(np.degrees(np.arccos(np.clip(normal[2], -1, 1))))


def _flow_compensation(metadata: Mapping[str, Any]) -> Entry:
    """Flow compensation as the DICOM scan options tell it ("FC"); their silence tells nothing."""
    options = re.split(r"[\\,_\s]+", _words(metadata.get("ScanOptions") or ""))
    return Entry(True, "", _words(True), "sidecar ScanOptions") if "FC" in options else Entry()
