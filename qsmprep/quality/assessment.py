"""Quality of one run in numbers: all of them, which lie beyond their limits, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from qsmprep.numerics.volume import bounding_box
from qsmprep.quality.maps import map_numbers
from qsmprep.quality.masks import mask_numbers
from qsmprep.quality.phase import fringe_ends_cm, ghost_level, phase_numbers
from qsmprep.quality.regions import bright, eroded
from qsmprep.quality.table import DEFINITIONS, Definition
from qsmprep.scan import Scan

VERDICTS = ("usable", "check", "do not use")
MANY_FLAGS = 4  # of any kind, with which a run is no longer one to look at but one to leave out
MARGIN_MM = 22.0  # around the brain mask; further out only the air is looked at
__all__ = ["DEFINITIONS", "Definition", "Flag", "Images", "Quality", "assess", "document"]


@dataclass(frozen=True)
class Images:
    """What a run made, (n0, n1, n2) unless said otherwise; None for what there is not.

    Attributes
    ----------
    brain_mask, reliable_mask, background_mask, qsm_mask : consensus masks 1 to 4, bool.
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad, wrapped, offset removed.
    unwrapped : in rad, of the echoes or one volume.
    input_phase : of the first echo in rad as the scanner gave it.
    total_field_hz, noise_hz, tissue_field_hz : fields; noise is the total field's s.d. for a signal noise of s.d. 1.
    chi_ppm, r2star : susceptibility, and R2* in 1/s.
    """

    brain_mask: np.ndarray
    reliable_mask: np.ndarray | None = None
    background_mask: np.ndarray | None = None
    qsm_mask: np.ndarray | None = None
    magnitude: np.ndarray | None = None
    phase: np.ndarray | None = None
    unwrapped: np.ndarray | None = None
    input_phase: np.ndarray | None = None
    total_field_hz: np.ndarray | None = None
    noise_hz: np.ndarray | None = None
    tissue_field_hz: np.ndarray | None = None
    chi_ppm: np.ndarray | None = None
    r2star: np.ndarray | None = None


@dataclass(frozen=True)
class Flag:
    """A number beyond a limit.

    Attributes
    ----------
    metric : key of `DEFINITIONS`.
    value, limit : the number and the limit it passed.
    side : "low" or "high".
    message, remedy : for the reader.
    """

    metric: str
    value: float
    limit: float
    side: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Quality:
    """All numbers in the order of `DEFINITIONS` (NaN where one cannot be told), flags, and the verdict."""

    metrics: Mapping[str, float]
    flags: tuple[Flag, ...]
    verdict: str


def assess(
    images: Images,
    scan: Scan,
    *,
    peak_snr: float = math.nan,
    reference_mean_ppm: float = math.nan,
    reference_sd_ppm: float = math.nan,
) -> Quality:
    """Quality numbers of a run.

    Parameters
    ----------
    images : what it made; see `Images`.
    scan : what is known of the acquisition: B0 as the inversion used it, the echoes of phase and magnitude.
    peak_snr : largest signal of the first echo over its noise's s.d.; NaN where unknown.
    reference_mean_ppm, reference_sd_ppm : of the reference region before it was set to zero; NaN where unknown.

    Returns
    -------
    Quality : verdict "do not use" with a severe flag or four of any kind, "check" with another flag, else "usable".

    Raises
    ------
    ValueError : an empty brain mask, or images whose shapes differ.

    References
    ----------
    QSM Consensus Organization Committee 2024, doi:10.1002/mrm.30006 (artefacts, table 1; masks).
    """
    _check(images)
    numbers: dict[str, float] = dict.fromkeys(DEFINITIONS, math.nan)
    if images.magnitude is not None:
        numbers["ghost_level"] = ghost_level(images.magnitude[0], images.brain_mask, scan.voxel_size_mm)
    wide = _cropped(images, tuple(math.ceil(MARGIN_MM / h) for h in scan.voxel_size_mm))
    near = _cropped(images, (0, 0, 0))
    first = None if wide.magnitude is None else wide.magnitude[0]
    numbers |= mask_numbers(
        scan.voxel_size_mm, magnitude=first, brain=wide.brain_mask, reliable=wide.reliable_mask, qsm=wide.qsm_mask
    )
    mask = near.brain_mask if near.background_mask is None else near.background_mask
    numbers |= phase_numbers(
        scan, magnitude=near.magnitude, phase=near.phase, unwrapped=near.unwrapped,
        total_field_hz=near.total_field_hz, mask=mask,
    )  # fmt: skip
    numbers |= _fringes(near, scan) | _noise(near, peak_snr, mask)
    frequency = math.nan if scan.centre_frequency_mhz is None else scan.centre_frequency_mhz
    if near.total_field_hz is not None:
        numbers["total_field_rms"] = float(np.std(near.total_field_hz[mask], dtype=np.float64)) / frequency
    numbers |= map_numbers(
        scan, tissue_field_hz=near.tissue_field_hz, chi_ppm=near.chi_ppm, r2star=near.r2star,
        mask=mask if near.qsm_mask is None else near.qsm_mask,
    )  # fmt: skip
    numbers["tissue_field_rms"] /= frequency
    numbers["reference_mean"], numbers["reference_sd"] = reference_mean_ppm, reference_sd_ppm
    metrics = {name: _rounded(numbers[name]) for name in DEFINITIONS}
    flags = tuple(flag for name, value in metrics.items() if (flag := flag_of(name, value)))
    return Quality(metrics, flags, verdict_of(flags))


def flag_of(name: str, value: float) -> Flag | None:
    """The flag of a number beyond a limit; None within its limits, without limits, or when it is not known."""
    definition = DEFINITIONS[name]
    for side, limit in (("low", definition.low), ("high", definition.high)):
        if limit is not None and math.isfinite(value) and (value < limit if side == "low" else value > limit):
            unit = "" if definition.unit == "1" else f" {definition.unit}"
            words = "below" if side == "low" else "above"
            text = (
                f"{definition.title} is {float(f'{value:.3g}'):g}{unit}, {words} {limit:g}{unit}. {definition.artefact}"
            )
            return Flag(name, value, limit, side, text, definition.remedy)
    return None


def verdict_of(flags: tuple[Flag, ...]) -> str:
    """ "usable", "check" or "do not use"."""
    if len(flags) >= MANY_FLAGS or any(DEFINITIONS[flag.metric].severe for flag in flags):
        return "do not use"
    return "check" if flags else "usable"


def document(quality: Quality) -> dict[str, Any]:
    """Metrics, definitions, flags and verdict as JSON has them: null in place of NaN."""
    shown = ("title", "unit", "description", "low", "high", "artefact", "remedy")
    return {
        "metrics": {name: value if math.isfinite(value) else None for name, value in quality.metrics.items()},
        "definitions": {name: {key: getattr(d, key) for key in shown} for name, d in DEFINITIONS.items()},
        "flags": [{field.name: getattr(flag, field.name) for field in fields(flag)} for flag in quality.flags],
        "verdict": quality.verdict,
    }


def _fringes(images: Images, scan: Scan) -> dict[str, float]:
    if images.magnitude is None:
        return {}
    first, brain = images.magnitude[0], images.brain_mask
    # A voxel away from dropouts: around those phase turns as it likes, while badly combined coils do so in full signal.
    inner = eroded(brain, 2 * max(scan.voxel_size_mm), scan.voxel_size_mm) & bright(first, brain)
    inner = eroded(inner, 0.0, scan.voxel_size_mm)
    phases = {
        "open_fringes_input": images.input_phase,
        "open_fringes": None if images.phase is None else images.phase[0],
    }
    return {n: fringe_ends_cm(p, inner, scan.voxel_size_mm) for n, p in phases.items() if p is not None}


def _noise(images: Images, peak_snr: float, mask: np.ndarray) -> dict[str, float]:
    numbers = {"peak_snr": peak_snr}
    if images.noise_hz is not None and images.magnitude is not None and mask.any():
        deviation = float(np.percentile(images.magnitude[0][images.brain_mask], 99.9)) / peak_snr
        numbers["field_noise"] = deviation * float(np.median(images.noise_hz[mask]))
    return numbers


def _check(images: Images) -> None:
    if not images.brain_mask.any():
        raise ValueError("The brain mask is empty: there is nothing to assess.")
    for field in fields(images):
        image = getattr(images, field.name)
        if image is not None and image.shape[-3:] != images.brain_mask.shape:
            raise ValueError(f"{field.name} has shape {image.shape}, the brain mask {images.brain_mask.shape}.")


def _cropped(images: Images, margin: tuple[int, ...]) -> Images:
    """All images cut to the box around the brain mask and a margin."""
    box = (..., *bounding_box(images.brain_mask, margin))
    parts = {field.name: getattr(images, field.name) for field in fields(images)}
    return replace(images, **{name: image[box] for name, image in parts.items() if image is not None})


def _rounded(value: float) -> float:
    """Six digits: what follows depends on the number of threads."""
    return float(f"{value:.6g}")
