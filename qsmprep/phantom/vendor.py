"""How the makers of scanners store images: number formats, phase scaling, and what they do to the phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep import __version__

LARGEST_STORED = 4000  # of magnitude and of real and imaginary parts: 12 bits with some room
PHILIPS_MILLIRADIANS = 3142.0

_MANUFACTURERS = {"radians": "Simulated", "siemens": "Siemens", "ge": "GE", "philips": "Philips"}


@dataclass(frozen=True)
class StoredImage:
    """Numbers as a file holds them; slope * values + intercept is what its reader sees, in `units`."""

    values: np.ndarray
    units: str
    slope: float = 1.0
    intercept: float = 0.0


def vendor_phase(phase: np.ndarray, vendor: str) -> np.ndarray:
    """Phase in rad as the vendor's reconstruction gives it; GE inverts it and turns every second slice by pi.

    Parameters
    ----------
    phase : (n0, n1, n2) in rad, slices along the last axis.
    vendor : one of options.VENDORS.
    """
    if vendor != "ge":
        return phase
    turned = -phase
    turned[..., 1::2] += np.float32(np.pi)
    return np.where(turned > np.pi, turned - np.float32(2 * np.pi), turned)


def store_phase(phase: np.ndarray, vendor: str) -> StoredImage:
    """Phase in rad, in (-pi, pi], in the vendor's numbers.

    Siemens: integers 0..4095, header slope 2, intercept -4096. Philips: integers 0..4095 whose header gives
    milliradians. GE: milliradians. Else radians as float32.
    """
    if vendor == "siemens":
        return StoredImage(
            (np.rint((phase + np.pi) * (2048 / np.pi)) % 4096).astype(np.int16), "arbitrary", 2.0, -4096.0
        )
    if vendor == "philips":
        slope = 2 * PHILIPS_MILLIRADIANS / 4095
        values = np.clip(np.rint((1000 * phase + PHILIPS_MILLIRADIANS) / slope), 0, 4095).astype(np.int16)
        return StoredImage(values, "arbitrary", slope, -PHILIPS_MILLIRADIANS)
    if vendor == "ge":
        return StoredImage(np.rint(1000 * phase).astype(np.int16), "arbitrary")
    return StoredImage(phase.astype(np.float32), "rad")


def store_signal(part: np.ndarray, vendor: str, largest: float) -> StoredImage:
    """Magnitude, real or imaginary part; integers but for plain radians. `largest` is the run's largest magnitude."""
    if vendor == "radians":
        return StoredImage(part.astype(np.float32), "arbitrary")
    return StoredImage(np.rint(part * (LARGEST_STORED / largest)).astype(np.int16), "arbitrary")


def scanner_metadata(vendor: str) -> dict[str, Any]:
    """BIDS metadata that depend on the vendor."""
    return {
        "Manufacturer": _MANUFACTURERS[vendor],
        "ManufacturersModelName": "Simulated",
        "SoftwareVersions": f"qsmprep {__version__}",
        "ReceiveCoilName": "Simulated",
        "CoilCombinationMethod": "one receiver, uniform sensitivity",
        "NonlinearGradientCorrection": False,
    }
