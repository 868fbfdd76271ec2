"""From slices to scans: which slices make an image, which series were acquired at once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qsmprep.dicom.headers import Frame, Instance, numbers, text_of

PARTS = ("mag", "phase", "real", "imag")
SAME_TIME_S = 30.0  # magnitude and phase of one scan carry one time; vendors' headers of it differ by some seconds
SAME_IMAGES_S = 1.0  # two reconstructions of one scan carry the very same time
# A coil by these words is a combination of several: "HEA;HEP", "H1-32".
_COMBINED = re.compile(r"[;,+\-]")


@dataclass(frozen=True)
class Image:
    """One volume: of one part, one echo and, where they are not combined, one coil; frames along the slices."""

    part: str
    echo_time_ms: float | None
    echo_number: int | None
    coil: str
    frames: tuple[Frame, ...]

    @property
    def key(self) -> tuple[str, float | None, str]:
        """What no two images of a scan have in common."""
        return self.part, self.echo_time_ms, self.coil

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold it, each once."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    @property
    def places(self) -> tuple[float, ...]:
        """Where its slices lie along their normal, in mm to 0.01, ascending; one for each frame."""
        return tuple(sorted(map(_place, self.frames)))


@dataclass(frozen=True)
class Series:
    """The images of one DICOM series; `facts` those of its first file, `time_s` when its first slice was acquired."""

    uid: str
    number: int
    facts: Mapping[str, Any]
    images: tuple[Image, ...]
    image_types: frozenset[str]
    instance_numbers: tuple[int, ...]
    time_s: float | None
    volumes: int
    planes: int

    @property
    def enhanced(self) -> bool:
        """Whether its files hold many slices each."""
        return bool(self.facts.get("IsEnhanced"))

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"series {self.number} ({text_of(self.facts, 'ProtocolName') or 'no protocol name'})"


@dataclass(frozen=True)
class Scan:
    """The series that were acquired at once, as magnitude and phase; `again` holds those that say the same again."""

    series: tuple[Series, ...]
    again: tuple[Series, ...] = ()

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of its first series."""
        return self.series[0].facts

    @property
    def images(self) -> tuple[Image, ...]:
        """Those of all its series."""
        return tuple(image for series in self.series for image in series.images)

    @property
    def parts(self) -> tuple[str, ...]:
        """Which it has, in the order of PARTS."""
        return tuple(part for part in PARTS if any(image.part == part for image in self.images))

    @property
    def echo_times_ms(self) -> tuple[float, ...]:
        """Of all its parts, ascending."""
        return tuple(sorted({image.echo_time_ms for image in self.images if image.echo_time_ms is not None}))

    @property
    def coils(self) -> tuple[str, ...]:
        """The coils that have images of their own, in order; one at most where the images are combined."""
        return tuple(sorted({image.coil for image in self.images}, key=_natural))

    @property
    def image_types(self) -> frozenset[str]:
        """The words of its images' types."""
        return frozenset().union(*(series.image_types for series in self.series))

    @property
    def name(self) -> str:
        """How messages call it."""
        listed = ", ".join(str(series.number) for series in self.series)
        title = text_of(self.facts, "ProtocolName") or text_of(self.facts, "SeriesDescription") or "no protocol name"
        return f"series {listed} ({title})"

    @property
    def time_s(self) -> float | None:
        """When its first slice was acquired."""
        return min((one.time_s for one in self.series if one.time_s is not None), default=None)


def scans_of(instances: Iterable[Instance]) -> tuple[Scan, ...]:
    """The scans of one study, in the order of their series' numbers."""
    groups: dict[tuple[str, bool], list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[text_of(instance.facts, "SeriesInstanceUID"), instance.enhanced].append(instance)
    # Siemens XA writes a file an echo or a part, each with a series of its own or not; frames tell which is which.
    series = [_series(uid, group) for (uid, _), group in groups.items()]
    return _once(assembled(sorted(series, key=lambda one: (one.number, one.time_s or 0.0, one.uid))))


def _once(scans: Sequence[Scan]) -> tuple[Scan, ...]:
    """Scans without those that are another's series in the other form of DICOM: the classic form is taken."""
    classic = {one.uid: number for number, scan in enumerate(scans) for one in scan.series if not one.enhanced}
    kept = {number: scan for number, scan in enumerate(scans)}
    for number, scan in enumerate(scans):
        if scan.series[0].enhanced and all(one.uid in classic for one in scan.series):
            first = classic[scan.series[0].uid]
            kept[first] = replace(kept[first], again=(*kept[first].again, *kept.pop(number).series))
    return tuple(kept.values())


def _series(uid: str, instances: Sequence[Instance]) -> Series:
    frames = [frame for instance in instances for frame in instance.frames]
    first = min(instances, key=lambda instance: (int(_number(instance, "InstanceNumber") or 0), str(instance.path)))
    order = tuple(sorted(int(number) for one in instances if (number := _number(one, "InstanceNumber")) is not None))
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    return Series(
        uid=uid,
        number=int(_number(first, "SeriesNumber") or 0),
        facts=first.facts,
        images=_images(frames),
        image_types=frozenset(word for frame in frames for word in frame.image_type),
        instance_numbers=order,
        time_s=min(times, default=None),
        volumes=len({frame.volume for frame in frames}),
        planes=len({tuple(round(one, 2) for one in frame.orientation) for frame in frames}),
    )


def _number(instance: Instance, keyword: str) -> float | None:
    return next(iter(numbers(instance.facts, keyword)), None)


def _images(frames: Sequence[Frame]) -> tuple[Image, ...]:
    """The images that frames make; coils are told apart where each has every slice."""
    groups: dict[tuple[str, float | None], list[Frame]] = defaultdict(list)
    for frame in frames:
        time = None if frame.echo_time_ms is None else round(frame.echo_time_ms, 3)
        groups[frame.part, time].append(frame)
    images = []
    for (part, time), group in groups.items():
        for coil, own in _by_coil(group).items():
            number = next((frame.echo_number for frame in own if frame.echo_number is not None), None)
            images.append(Image(part, time, number, coil, tuple(sorted(own, key=_place))))
    return tuple(sorted(images, key=lambda image: (image.echo_time_ms or 0.0, PARTS.index(image.part), image.coil)))


def _by_coil(frames: Sequence[Frame]) -> dict[str, list[Frame]]:
    coils: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        coils[frame.coil].append(frame)
    single = {coil: own for coil, own in coils.items() if not _COMBINED.search(coil)}
    places = {tuple(sorted(map(_place, own))) for own in single.values()}
    if len(single) > 1 and len({len(places_) for places_ in places}) == 1:
        return single  # the combination beside them, if any, is made again from them
    if len(coils) > 1 and not single:
        return {"": list(frames)}
    return {next(iter(coils)) if len(coils) == 1 else "": list(frames)}


def _place(frame: Frame) -> float:
    """The distance of a slice from the origin along the normal of the slices, in mm to 0.01."""
    if len(frame.position) != 3 or len(frame.orientation) != 6:
        return 0.0
    (a, b, c), (d, e, f) = frame.orientation[:3], frame.orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return round(sum(n * p for n, p in zip(normal, frame.position, strict=True)), 2)


def assembled(series: Sequence[Series]) -> tuple[Scan, ...]:
    """Put together what was acquired at once: one geometry, sequence and time, and no image twice.

    A series that says the same as another of the same time (with and without the scanner's correction of distortion
    or intensity) stands in `again`: of the two, the one that was less resampled is taken.
    """
    scans: list[Scan] = []
    for one in series:
        alike = [number for number, scan in enumerate(scans) if _together(scan, one)]
        free = [number for number in alike if not _keys(scans[number]) & {image.key for image in one.images}]
        if free:
            best = min(free, key=lambda number: (_apart(scans[number], one), -number))
            scans[best] = replace(scans[best], series=(*scans[best].series, one))
            continue
        same = [number for number in alike if _apart(scans[number], one) < SAME_IMAGES_S]
        if same:
            scans[same[0]] = _with_rival(scans[same[0]], one)
        else:
            scans.append(Scan((one,)))
    return tuple(scans)


def _with_rival(scan: Scan, series: Series) -> Scan:
    """A scan and a series that has some of its images again: the better one stays."""
    keys = {image.key for image in series.images}
    rivals = [own for own in scan.series if keys & {image.key for image in own.images}]
    if all(_merit(series) > _merit(own) for own in rivals):
        kept = [own for own in scan.series if own not in rivals]
        return replace(scan, series=(*kept, series), again=(*scan.again, *rivals))
    return replace(scan, again=(*scan.again, series))


def _merit(series: Series) -> tuple[bool, bool, bool]:
    """How much is to be preferred: not resampled, intensity normalised by the prescan, classic DICOM."""
    words = series.image_types
    return not words & {"DIS2D", "DIS3D"}, "NORM" in words, not series.enhanced


def _keys(scan: Scan) -> set[tuple[str, float | None, str]]:
    return {image.key for image in scan.images}


def _together(scan: Scan, series: Series) -> bool:
    if _signature(scan.series[0]) != _signature(series):
        return False
    return scan.time_s is None or series.time_s is None or _apart(scan, series) < SAME_TIME_S


def _apart(scan: Scan, series: Series) -> float:
    """Seconds between the beginning of both; endless where either is not known."""
    if scan.time_s is None or series.time_s is None:
        return float("inf")
    return abs(scan.time_s - series.time_s)


def _signature(series: Series) -> tuple[Any, ...]:
    """What the series of one scan have in common: geometry, sequence and what was prescribed."""
    facts, frame = series.facts, series.images[0].frames[0]
    derived = "DERIVED" in series.image_types
    prescribed = tuple(text_of(facts, key) for key in ("ProtocolName", "ScanningSequence", "EchoPulseSequence"))
    timing = tuple(round(value, 2) for key in ("RepetitionTime", "FlipAngle") for value in numbers(facts, key))
    plane = tuple(round(one, 3) for one in frame.orientation)
    return prescribed, timing, plane, frame.shape, derived, series.enhanced and "enhanced"


def _natural(text: str) -> tuple[Any, ...]:
    """An order in which H2 comes before H10."""
    return tuple(int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", text))
