"""What belongs together in a dataset: echoes, gradient echo runs, spin echo scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qsmprep.bids.names import PARTS
from qsmprep.bids.problem import Problem
from qsmprep.findings import Note


@dataclass(frozen=True)
class Coils:
    """That the images of a run are those of single coils.

    Attributes
    ----------
    count : how many.
    labels : of the coils in their order; empty where nothing names them.
    told_by : what tells it, in words.
    last_axis : whether the last axis of each file holds them; else each has a file of its own.
    """

    count: int
    labels: tuple[str, ...]
    told_by: str
    last_axis: bool = False


@dataclass(frozen=True)
class Volumes:
    """That the fourth axis of a run's images holds something.

    Attributes
    ----------
    count : its length.
    holds : "echoes", or "time".
    told_by : what tells it, in words.
    chosen : of a time series, the volume that is taken, from 0; None: the mean of all.
    """

    count: int
    holds: Literal["echoes", "time"]
    told_by: str
    chosen: int | None = None


@dataclass(frozen=True)
class Echo:
    """The images of one echo.

    Attributes
    ----------
    number : of the `echo` entity; None where the name has none.
    echo_time_s : EchoTime in seconds; None if missing or not a number.
    magnitude, phase, real, imaginary : image files; None where there is none, the first coil's of several.
    metadata : for each image that exists ("magnitude", ...) its metadata, inherited ones included.
    coils : for each part the files of all coils in their order, where each coil has one.
    """

    number: int | None
    echo_time_s: float | None
    magnitude: Path | None = None
    phase: Path | None = None
    real: Path | None = None
    imaginary: Path | None = None
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coils: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The images that exist, by part."""
        parts = {part: getattr(self, part) for part in PARTS.values()}
        return {part: path for part, path in parts.items() if path is not None}


def known_times(echoes: Sequence[Echo]) -> tuple[float, ...]:
    """Times in seconds of echoes that were checked; ValueError where one is not known."""
    times = tuple(echo.echo_time_s for echo in echoes if echo.echo_time_s is not None)
    if len(times) < len(echoes):
        raise ValueError("The echo time of an image is not known.")
    return times


@dataclass(frozen=True)
class GreRun:
    """The gradient echo images that are processed together.

    Attributes
    ----------
    subject, session : labels without "sub-" and "ses-".
    entities : the others of the file names (acq, rec, run, ...) as written there, without echo and part.
    echoes : ascending in echo time, or in echo number where times are not known.
    metadata : what all the images agree on.
    field_strength_t : MagneticFieldStrength in tesla, None if not known.
    imaging_frequency_mhz : ImagingFrequency in MHz, None if not known.
    manufacturer : empty if not known.
    suffix : of the file names.
    problems : found while the run was put together; `check_run` hands them on.
    coils : where the images are those of single coils; else None.
    volumes : where the images have a fourth axis of echoes or of time; else None.
    """

    subject: str
    session: str | None
    entities: Mapping[str, str]
    echoes: tuple[Echo, ...]
    metadata: Mapping[str, Any]
    field_strength_t: float | None
    imaging_frequency_mhz: float | None
    manufacturer: str
    suffix: str = "MEGRE"
    problems: tuple[Problem, ...] = ()
    coils: Coils | None = None
    volumes: Volumes | None = None

    @property
    def name(self) -> str:
        """What the file names have in common: "sub-01_ses-2_acq-x_run-1"."""
        parts = {"sub": self.subject, "ses": self.session, **self.entities}
        return "_".join(f"{entity}-{label}" for entity, label in parts.items() if label)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image, echo by echo; one that holds all echoes once."""
        parts = ((echo, part, path) for echo in self.echoes for part, path in echo.files.items())
        return tuple(dict.fromkeys(path for echo, part, first in parts for path in echo.coils.get(part, (first,))))

    @property
    def echo_times_s(self) -> tuple[float, ...]:
        """Echo times, ascending; of a run that was checked."""
        return known_times(self.echoes)

    @property
    def is_complex(self) -> bool:
        """Whether the run is given as real and imaginary parts, not as magnitude and phase."""
        parts = {part for echo in self.echoes for part in echo.files}
        return "phase" not in parts and bool(parts & {"real", "imaginary"})


@dataclass(frozen=True)
class SpinEchoScan:
    """The magnitude images of a multi-echo spin echo scan; attributes as in `GreRun`."""

    subject: str
    session: str | None
    entities: Mapping[str, str]
    echoes: tuple[Echo, ...]
    metadata: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """What the file names have in common."""
        parts = {"sub": self.subject, "ses": self.session, **self.entities}
        return "_".join(f"{entity}-{label}" for entity, label in parts.items() if label)

    @property
    def files(self) -> tuple[Path, ...]:
        """The magnitude images, echo by echo."""
        return tuple(echo.magnitude for echo in self.echoes if echo.magnitude is not None)

    @property
    def echo_times_s(self) -> tuple[float, ...]:
        """Echo times, ascending; of a scan that was checked."""
        return known_times(self.echoes)


def spin_echo_of(run: GreRun, scans: Sequence[SpinEchoScan]) -> tuple[SpinEchoScan | None, list[Note]]:
    """The spin echo scan of the same person that belongs to a run, and notes where that was a choice.

    Of several, one of the same session comes first, then the one whose name has most in common with the run's.
    """
    own = [scan for scan in scans if scan.subject == run.subject]
    same = [scan for scan in own if scan.session == run.session] or own
    if not same:
        return None, []
    likeness = [len(set(scan.entities.items()) & set(run.entities.items())) for scan in same]
    fitting = [scan for scan, alike in zip(same, likeness, strict=True) if alike == max(likeness)]
    remarks = []
    if fitting[0].session != run.session:
        text = f"Spin echoes are those of another session ({fitting[0].name})."
        remarks.append(Note("spin-echoes-of-other-session", text))
    if len(fitting) > 1:
        text = f"Of {len(fitting)} spin echo scans that fit, {fitting[0].name} is used; choose by --bids-filter-file."
        remarks.append(Note("spin-echoes-chosen", text))
    return fitting[0], remarks
