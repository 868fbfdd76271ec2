"""What the steps give to people with arrays, and `reconstruct` as a whole; see `qsmprep.pipeline`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qsmprep.findings import Warning
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.convergence import Convergence
from qsmprep.scan import Scan
from qsmprep.settings import Settings


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Attributes
    ----------
    stage, method, title : of the method, as in the registry.
    options : every option with its value.
    convergence : how an iteration ended; None where there was none.
    warnings : what the reader should worry about.
    """

    stage: str
    method: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    convergence: Convergence | None = None
    warnings: tuple[Warning, ...] = ()


@dataclass(frozen=True)
class Echoes:
    """The echoes that are used, phase offset removed.

    Attributes
    ----------
    magnitude, phase : (n_echo, n0, n1, n2) float32; phase in rad, wrapped.
    magnitude_rss : (n0, n1, n2) root sum of squares over all echoes that were given.
    scan : with the echo times of the echoes used.
    records : of the steps.
    """

    magnitude: RealArray
    phase: RealArray
    magnitude_rss: RealArray
    scan: Scan
    records: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class TotalField:
    """Total field and its noise in Hz, unwrapped phase (of the echoes or of the fitted one) in rad, and its quality."""

    field_hz: RealArray
    noise_hz: RealArray
    unwrapped_phase: RealArray
    quality: RealArray
    records: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class RelaxationMaps:
    """R2* in 1/s, T2* in s, and the signal at echo time 0; 0 outside the mask."""

    r2star: RealArray
    t2star_s: RealArray
    s0: RealArray
    records: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Masks:
    """The masks of the consensus paper.

    Attributes
    ----------
    brain, reliable, background, qsm : masks 1 to 4; mask 4 is where the tissue field is valid.
    eroded : mask 3 as background field removal took it.
    """

    brain: Mask
    reliable: Mask
    background: Mask
    eroded: Mask
    qsm: Mask


@dataclass(frozen=True)
class TissueField:
    """Tissue field in Hz, 0 outside mask 4, and the masks."""

    field_hz: RealArray
    masks: Masks
    records: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Susceptibility:
    """Referenced susceptibility in ppm, 0 outside its mask; the data weights it was computed with."""

    chi_ppm: RealArray
    mask: Mask
    weights: RealArray
    records: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Reconstruction:
    """What `reconstruct` gives.

    Attributes
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm, relative to the reference region, 0 outside `masks.qsm`.
    tissue_field_hz, total_field_hz, field_noise_hz : in Hz.
    masks : consensus masks 1 to 4.
    relaxation : R2* and what comes with it; None for a single echo or without relaxometry.
    records : what each step did, in order.
    settings : with `auto` resolved; with them the program gives the same maps.
    """

    chi_ppm: RealArray
    tissue_field_hz: RealArray
    total_field_hz: RealArray
    field_noise_hz: RealArray
    masks: Masks
    relaxation: RelaxationMaps | None
    records: tuple[StepRecord, ...]
    settings: Settings

    @property
    def warnings(self) -> tuple[Warning, ...]:
        """Of all steps."""
        return tuple(warning for record in self.records for warning in record.warnings)
