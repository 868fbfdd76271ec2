"""The run record as the report reads it: what one run did, found, assumed and warned of."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qsmprep.bids.names import is_of_run
from qsmprep.files.age import is_of_earlier_command
from qsmprep.findings import Fact, Note, Warning, read_facts, read_notes, read_warnings
from qsmprep.report.histogram import SUFFIX as HISTOGRAM
from qsmprep.report.histogram import Histogram, read_histogram
from qsmprep.report.png_text import read_slices

RECORD_SUFFIX = "_record.json"


@dataclass(frozen=True)
class Parameter:
    """One setting of a method.

    Attributes
    ----------
    name, value, unit, help : as in the options, the value as a person reads it.
    default : whether it is the default.
    acts : whether it had a part in what was computed.
    switch : whether it was switched on or off; None for what is no switch.
    """

    name: str
    value: str
    unit: str = ""
    default: bool = False
    help: str = ""
    acts: bool = True
    switch: bool | None = None


@dataclass(frozen=True)
class Picture:
    """A figure of a step; `data` is empty when the file is not there, `histogram` None when none was counted.

    `slices` are the places in mm that it shows, by plane; empty where it does not say.
    """

    file: str
    caption: str
    data: bytes = b""
    histogram: Histogram | None = None
    slices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Crash:
    """A step that failed: its name in words, its message, what its crash file says, and the picture it should draw."""

    step: str
    message: str
    text: str = ""
    picture: str = ""


@dataclass(frozen=True)
class RunError:
    """Why a run failed: in which step, in words (empty where in none), and the message."""

    step: str
    message: str

    def __str__(self) -> str:
        return f"{self.step}: {self.message}" if self.step else self.message


@dataclass(frozen=True)
class Planned:
    """A step that was planned before the run began: its stage and its method in words."""

    stage: str
    title: str = ""


@dataclass(frozen=True)
class Curve:
    """What an iteration monitored: `values` after `iterations`, both of one length; `name` says what it is.

    `second` is the iteration at which a second part begins from a start of its own, 0 where there is one part alone.
    """

    name: str
    iterations: tuple[float, ...]
    values: tuple[float, ...]
    second: int = 0


@dataclass(frozen=True)
class RecordedStep:
    """One step of the pipeline as it ran."""

    stage: str
    method: str = ""
    title: str = ""
    citations: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    facts: tuple[Fact, ...] = ()
    notes: tuple[Note, ...] = ()
    warnings: tuple[Warning, ...] = ()
    label: str = ""
    seconds: float | None = None
    figures: tuple[Picture, ...] = ()
    curve: Curve | None = None

    def fact(self, key: str) -> Fact | None:
        """The fact of that key; None where the step does not state it."""
        return next((fact for fact in self.facts if fact.key == key), None)

    def value(self, key: str) -> Any:
        """The value of the fact of that key; None where the step does not state it."""
        found = self.fact(key)
        return None if found is None else found.value


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    run: str
    subject: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    started: str = ""
    seconds: float | None = None
    status: str = "failed"
    errors: tuple[RunError, ...] = ()
    warnings: tuple[Warning, ...] = ()
    inputs: tuple[str, ...] = ()
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    tuned: Mapping[str, Any] = field(default_factory=dict)
    further_processing: str = ""
    steps: tuple[RecordedStep, ...] = ()
    more_figures: tuple[Picture, ...] = ()
    planned: tuple[Planned, ...] = ()
    crashes: tuple[Crash, ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "ok"

    def all_warnings(self) -> tuple[tuple[str, Warning], ...]:
        """The run's warnings and those of its steps, each once, with the step's title (empty for the run's own)."""
        own = [("", warning) for warning in self.warnings]
        known = set(self.warnings)
        of_steps = [(step.title or step.stage, warning) for step in self.steps for warning in step.warnings]
        return tuple(dict.fromkeys(own + [found for found in of_steps if found[1] not in known]))


def parse_run(record: Mapping[str, Any] | Run) -> Run:
    """A run from its JSON record. What is absent or of the wrong kind is left at its default: a report must come."""
    if isinstance(record, Run):
        return record
    return Run(
        run=_text(record.get("run")) or "unnamed run",
        subject=_text(record.get("subject")),
        software={str(name): _text(version) for name, version in _mapping(record.get("software")).items()},
        command=_text(record.get("command")),
        started=_text(record.get("started")),
        seconds=_number(record.get("seconds")),
        status="ok" if record.get("status") == "ok" else "failed",
        errors=_errors(record.get("errors")),
        warnings=read_warnings(record.get("warnings")),
        inputs=_texts(record.get("inputs")),
        acquisition=_mapping(record.get("acquisition")),
        tuned=_mapping(record.get("tuned")),
        further_processing=_text(record.get("further_processing")),
        steps=tuple(_step(step) for step in _mappings(record.get("steps"))),
        planned=tuple(Planned(_text(p.get("stage")), _text(p.get("title"))) for p in _mappings(record.get("planned"))),
        crashes=tuple(_crash(crash) for crash in _mappings(record.get("crashes"))),
        resources=_mapping(record.get("resources")),
    )


def read_runs(output_dir: Path, subject: str) -> list[Run]:
    """The runs of a subject in all sessions, pictures loaded, in the order of their names.

    A record that cannot be read gives a failed run whose error says so.

    Parameters
    ----------
    output_dir : folder of the derivatives.
    subject : label, with or without "sub-".

    Raises
    ------
    ValueError : a label that is no plain name.
    """
    folder = Path(output_dir) / f"sub-{subject_label(subject)}"
    records = [*folder.glob(f"figures/*{RECORD_SUFFIX}"), *folder.glob(f"ses-*/figures/*{RECORD_SUFFIX}")]
    return sorted((_read(path) for path in records), key=lambda run: natural_order(run.run))


def subject_label(subject: str) -> str:
    """The label without "sub-". Raises ValueError for one that could leave its folder."""
    label = str(subject).removeprefix("sub-")
    if not label or label.startswith(".") or re.search(r"[/\\\x00]", label):
        raise ValueError(f"{subject!r} is not a participant label: give letters and digits, as in sub-01.")
    return label


def words(value: Any) -> str:
    """A value of a record as a person reads it: numbers to six digits, yes and no, lists with commas."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {words(part)}" for key, part in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ", ".join(words(part) for part in value) or "none"
    return " ".join(str(value).split())


def read_record(path: Path) -> Run:
    """The run of a record's file, without the bytes of its pictures; a failed one whose error says so if unreadable."""
    name = path.name.removesuffix(RECORD_SUFFIX)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("the file holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        problem = (
            f"The record {path.name} of this run cannot be read ({error}); run qsmprep again for this participant."
        )
        return Run(run=name, errors=(RunError("", problem),))
    return parse_run({"run": name, **record})


def _read(path: Path) -> Run:
    """A record with its pictures, and those of the run that it does not name."""
    run = read_record(path)
    name = path.name.removesuffix(RECORD_SUFFIX)
    steps = tuple(
        replace(step, figures=tuple(load_picture(path.parent, f) for f in step.figures)) for step in run.steps
    )
    shown = {picture.file for step in steps for picture in step.figures}
    others = sorted(p for p in path.parent.glob("*.png") if is_of_run(p.name, name) and p.name not in shown)
    more = []
    for other in others:
        earlier = ", of an earlier command" if is_of_earlier_command(other, run.started) else ""
        more.append(load_picture(path.parent, Picture(other.name, other.stem.removeprefix(f"{name}_") + earlier)))
    return replace(run, steps=steps, more_figures=tuple(more))


def load_picture(folder: Path, picture: Picture) -> Picture:
    """The picture with its bytes; only a file of the record's own folder is ever read."""
    path = folder / Path(picture.file).name
    counted = path.with_name(path.stem + HISTOGRAM)
    found, caption = None, picture.caption
    if counted.is_file():
        try:
            found = read_histogram(json.loads(counted.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            found = None
        caption += "" if found else f" Its histogram, {counted.name}, cannot be read."
    data = path.read_bytes() if path.is_file() else b""
    return replace(picture, file=path.name, caption=caption, data=data, histogram=found, slices=read_slices(data))


def _step(step: Mapping[str, Any]) -> RecordedStep:
    figures = _mappings(step.get("figures"))
    return RecordedStep(
        stage=_text(step.get("stage")) or "step",
        method=_text(step.get("method")),
        title=_text(step.get("title")) or _text(step.get("method")),
        citations=_texts(step.get("citations")),
        parameters=tuple(_parameter(p) for p in _mappings(step.get("parameters"))),
        facts=read_facts(step.get("facts")),
        notes=read_notes(step.get("notes")),
        warnings=read_warnings(step.get("warnings")),
        label=_text(step.get("label")),
        seconds=_number(step.get("seconds")),
        figures=tuple(Picture(_text(f.get("file")), _text(f.get("caption"))) for f in figures if f.get("file")),
        curve=_curve(step),
    )


def _crash(crash: Mapping[str, Any]) -> Crash:
    text = crash.get("text")  # its lines are kept as they are
    step, message, picture = (_text(crash.get(name)) for name in ("step", "message", "picture"))
    return Crash(step, message, text if isinstance(text, str) else "", picture)


def _errors(value: Any) -> tuple[RunError, ...]:
    found = (RunError(_text(e.get("step")), _text(e.get("message"))) for e in _mappings(value))
    return tuple(error for error in found if error.message)


def _curve(step: Mapping[str, Any]) -> Curve | None:
    """The curve of a step; None where there are not two values to draw."""
    values = _sequence(step.get("curve"))
    iterations = _sequence(step.get("curve_iterations"))
    if len(iterations) != len(values):
        iterations = range(1, len(values) + 1)
    pairs = [(_number(i), _number(v)) for i, v in zip(iterations, values, strict=True)]
    pairs = [(i, v) for i, v in pairs if i is not None and v is not None and math.isfinite(i) and math.isfinite(v)]
    if len({i for i, _ in pairs}) < 2:
        return None
    second = _number(step.get("curve_second")) or 0
    name = _text(step.get("curve_name")) or "what is monitored"
    kept, monitored = (tuple(part) for part in zip(*pairs, strict=True))
    return Curve(name, kept, monitored, int(second) if math.isfinite(second) else 0)


def _parameter(parameter: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=_text(parameter.get("name")),
        value=words(parameter.get("value")),
        unit=_text(parameter.get("unit")),
        default=parameter.get("default") is True,
        help=_text(parameter.get("help")),
        acts=parameter.get("acts") is not False,
        switch=value if isinstance(value := parameter.get("value"), bool) else None,
    )


def _text(value: Any) -> str:
    return "" if value is None else words(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    return tuple(text for text in (_text(part) for part in _sequence(value)) if text)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [part for part in _sequence(value) if isinstance(part, Mapping)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def natural_order(name: str) -> list[Any]:
    """A key that sorts names as people do: run-2 before run-10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]
