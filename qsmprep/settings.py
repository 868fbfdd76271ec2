"""What a run shall do: one frozen tree, read from defaults, preset, TOML file and command line, in this order.

A method's own defaults stand in its options class; every other default stands here.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qsmprep import registry
from qsmprep.bids.reading import UnreadableFileError, read_text_file
from qsmprep.bids.spaces import NATIVE, parse_spaces
from qsmprep.options import check_options, option, option_type, shown, words_of
from qsmprep.presets import DEFAULT_PIPELINE, PRESETS
from qsmprep.relaxometry.macroscopic import GRADIENT_CORRECTIONS
from qsmprep.stages import Section, sections, stage_of


@dataclass(frozen=True)
class ReferenceOptions:
    """Where susceptibility is zero."""

    region: str = option(
        "whole-brain",
        "whole-brain, csf (ventricles by low R2*), segmentation (a label) or none: region whose mean is subtracted; of "
        "several, that of the first",
        choices=("whole-brain", "csf", "segmentation", "none"),
        metavar="REGION",
        several=True,
    )
    label: str | None = option(
        None,
        "number or name of the label, for --reference segmentation",
        metavar="LABEL",
        when=("region", "segmentation"),
    )
    csf_r2star: float = option(
        5.0,
        "R2* below which a central voxel is cerebrospinal fluid",
        unit="1/s",
        low=0.1,
        high=50,
        when=("region", "csf"),
    )

    def chosen(self) -> tuple[str, ...]:
        """The regions, that whose mean is subtracted first. Raises ValueError for none beside another."""
        regions = words_of(self.region)
        if "none" in regions and len(regions) > 1:
            raise ValueError("--reference none goes with no other region; of several, the first is subtracted.")
        return regions

    @property
    def main(self) -> str:
        """The region whose mean is subtracted."""
        return self.chosen()[0]


@dataclass(frozen=True)
class DisplayOptions:
    """How susceptibility is shown in the pictures of the report; nothing here changes a map."""

    chi_window: str = option(
        "-0.2,0.2",
        "window of susceptibility: two numbers, or one for both sides of zero; auto: -0.2,0.2, of sources 0,0.1, wider "
        "where tissue saturates",
        unit="ppm",
        metavar="LOW,HIGH",
    )

    def limits(self) -> tuple[float, float] | None:
        """The window in ppm; None where it follows the map. Raises ValueError for what is no window."""
        if self.chi_window == "auto":
            return None
        try:
            numbers = [float(part) for part in self.chi_window.split(",")]
            low, high = (-numbers[0], numbers[0]) if len(numbers) == 1 else numbers
        except ValueError:
            raise ValueError(
                f"--chi-window is {self.chi_window!r}; give --chi-window=-0.2,0.2 in ppm, one number, or auto."
            ) from None
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"--chi-window is {self.chi_window!r}; its first number must be the smaller one.")
        return low, high


@dataclass(frozen=True)
class R2starOptions:
    """What precedes the fit of R2*."""

    field_gradient: str = option(
        "none",
        "undo the signal loss by the field's gradient across a voxel before R2* is fitted; slice: in slice "
        "direction (2D); all: along all axes",
        choices=GRADIENT_CORRECTIONS,
    )


@dataclass(frozen=True)
class SourceOptions:
    """What source separation starts from."""

    offset: str = option(
        "signs",
        "constant of the susceptibility map; signs: that with which neither source is negative; reference: that of "
        "the reference",
        choices=("signs", "reference"),
    )


@dataclass(frozen=True)
class OrientationOptions:
    """What is made of several orientations of one head."""

    methods: str = option(
        "",
        "methods that join the runs of a session: cosmos, sti, chisep-cosmos",
        metavar="M",
    )
    reference: str | None = option(
        None, "run on whose grid the orientations are joined, as run-2 or acq-flat", none="the first", metavar="RUN"
    )
    weighting: str = option(
        "noise", "weights of the fields; noise: 1/noise; none: equal (closed form)", choices=("noise", "none")
    )
    smallest_correlation: float = option(
        0.7, "correlation of registered magnitudes below which a warning is given", low=0, high=1
    )

    def chosen(self) -> tuple[str, ...]:
        """The methods, in the order given."""
        names = tuple(name.strip() for name in self.methods.split(",") if name.strip())
        for name in names:
            if name not in ORIENTATION_METHODS:
                known = ", ".join(ORIENTATION_METHODS)
                raise ValueError(f"--multi-orientation: unknown method {name!r}; choose from {known}.")
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class OutputOptions:
    """In which spaces the maps are written."""

    spaces: str = option(
        NATIVE,
        "native: the grid of the scan, always written; or templates by TemplateFlow's names, as MNI152NLin2009cAsym, "
        "with :res-1 (1 mm), :res-2, or the scan's size of voxels",
        metavar="SPACE",
        several=True,
    )

    def words(self) -> tuple[str, ...]:
        """The spaces in the order given. Raises ValueError for a word that is none, or an unknown modifier."""
        words = words_of(self.spaces)
        parse_spaces(words)
        return words


@dataclass(frozen=True)
class ExecutionOptions:
    """How the graph is executed; nothing here changes a map."""

    nprocs: int | None = option(None, "processor cores in all", low=1, none="all available")
    omp_nthreads: int | None = option(None, "threads of one step", low=1, none="nprocs / runs")
    mem_mb: int | None = option(None, "memory in all", unit="MB", low=500, none="90 % of what is available")
    low_mem: bool = option(False, "one step at a time, so that the peak is that of the largest step")
    device: str = option("auto", "where solvers run; auto: a GPU if there is one", choices=("auto", "cpu", "cuda"))
    plugin: str = option(
        "pool",
        "pool: each step in a process of its own; linear: all steps in this one",
        choices=("pool", "linear"),
    )
    stop_on_first_crash: bool = option(False, "stop everything when a step fails")


# Methods of several orientations and how many each needs.
ORIENTATION_METHODS: Mapping[str, int] = MappingProxyType({"cosmos": 3, "sti": 6, "chisep-cosmos": 3})

# Options that do not belong to a method, by the name of their section in TOML.
SECTIONS: Mapping[str, Section] = MappingProxyType(
    {
        section.name: section
        for section in (*sections(), Section("execution", "qsmprep.settings", "ExecutionOptions", prefix=""))
    }
)

# What `auto` means by the machine rather than by the data: name -> (section and option, what it can come to). A run's
# file keeps `auto` and what it came to, as the two together make the same map with the same notes.
DECIDED: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {"mask": ("mask", "method", ("bet", "fsl-bet")), "device": ("execution", "device", ("cpu", "cuda"))}
)
FOREIGN = ("software", "machine")  # what a run's file tells besides: no settings

LARGEST_INTEGER = 2**63  # what TOML promises to hold
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run does.

    Attributes
    ----------
    pipeline : name of the preset it started from.
    methods : stage -> names of the chosen methods, in order; the first is the main one.
    options : (stage, method) -> options of every registered method that has some.
    steps : name of a step without alternatives -> its options.
    tuned : what `qsmprep-tools tune` said of the value that it chose; empty without.
    decided : what `auto` came to in the run that these settings are of, by the names in DECIDED; empty without.
    """

    pipeline: str
    methods: Mapping[str, tuple[str, ...]]
    options: Mapping[tuple[str, str], Any]
    steps: Mapping[str, Any]
    tuned: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decided: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def method(self, stage: str) -> str:
        """The main method of a stage."""
        return self.methods[stage][0]

    def options_of(self, stage: str, method: str) -> Any:
        """Options of a method; `auto` and `fsl-bet` take those of the method whose place they take."""
        return self.options.get((stage, registry.STANDS_FOR.get((stage, method), method)))

    def with_method(self, stage: str, name: str) -> Settings:
        """The same settings with another method in a stage (what `auto` was resolved to)."""
        return dataclasses.replace(self, methods=MappingProxyType({**self.methods, stage: (name,)}))


def methods_of(stage: str) -> tuple[str, ...]:
    """Every word a stage accepts."""
    return (*stage_of(stage).words, *registry.names(stage))


def step_options_type(step: str) -> type[Any]:
    """The options class of a step without alternatives."""
    section = SECTIONS[step]
    options_class: type[Any] = getattr(import_module(section.module), section.options_class)
    return options_class


def read_settings(path: Path) -> dict[str, Any]:
    """The document of a settings file, checked as `build` does.

    Raises
    ------
    ValueError : it is no regular file, no TOML, or does not make sense; names the file and the key.
    """
    try:
        text = read_text_file(path)
    except UnreadableFileError as error:
        if error.absent:
            raise ValueError(f"{path}: no such settings file. Give the path of one.") from None
        raise
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{path}: not a valid TOML file (nested too deeply).") from None
    except ValueError as error:  # also of an integer of thousands of digits
        raise ValueError(f"{path}: not a valid TOML file ({error}).") from None
    try:
        build(document)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return document


def build(document: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a TOML document and what the command line gave, checked.

    Parameters
    ----------
    document : {"pipeline": name, stage: {"method": name or names, method: {option: value}}, step: {option: value}}.
    given : a document of the same form that takes precedence.

    Raises
    ------
    ValueError : unknown section, method or option, or a value outside its range.
    """
    given = given or {}
    pipeline = given.get("pipeline", document.get("pipeline", DEFAULT_PIPELINE))
    if not isinstance(pipeline, str) or pipeline not in PRESETS:
        raise ValueError(f"Unknown pipeline {shown(pipeline)}; known are {', '.join(PRESETS)}.")
    merged: dict[str, Any] = _merge(_merge(PRESETS[pipeline], document), given)
    merged.pop("pipeline", None)
    for name in FOREIGN:
        merged.pop(name, None)
    decided = _decided(merged.pop("decided", {}), given)
    tuned = merged.pop("tuned", {})
    if not isinstance(tuned, Mapping):
        raise ValueError(f"tuned is {shown(tuned)}; it must be the table that qsmprep-tools tune writes.")
    if unknown := set(merged) - set(registry.stages()) - set(SECTIONS):
        raise ValueError(f"Unknown section {sorted(unknown)[0]!r}; known are "
                         f"{', '.join((*registry.stages(), *SECTIONS))}.")  # fmt: skip
    merged = {name: _section(name, section) for name, section in merged.items()}
    methods = {stage: _method_names(stage, merged[stage]) for stage in registry.stages()}
    options = {
        (method.stage, method.name): _options(
            options_class, merged[method.stage].get(method.name, {}), f"{method.stage} {method.name}"
        )
        for method in registry.METHODS
        if (options_class := method.options_type()) is not None
    }
    steps = {step: _options(step_options_type(step), merged.get(step, {}), step) for step in SECTIONS}
    (
        steps["input"].b0_vector(),
        steps["input"].echo_numbers(),
        steps["input"].echo_times_s(),
        steps["orientation"].chosen(),
    )
    steps["reference"].chosen(), steps["display"].limits(), steps["output"].words()
    parts = MappingProxyType(methods), MappingProxyType(options), MappingProxyType(steps)
    return Settings(pipeline, *parts, MappingProxyType(dict(tuned)), MappingProxyType(decided))


def to_document(settings: Settings) -> dict[str, Any]:
    """The TOML document of settings: chosen methods with all options; `build` of it makes the same run.

    Options that are not set (None) are left out, TOML having no word for them.
    """
    document: dict[str, Any] = {"pipeline": settings.pipeline}
    for stage, chosen in settings.methods.items():
        section: dict[str, Any] = {"method": list(chosen)}
        for (of_stage, name), options in settings.options.items():
            if of_stage == stage and (name in chosen or set(chosen) & set(stage_of(stage).words)):
                section[name] = _set_values(options)
        document[stage] = section
    for step, options in settings.steps.items():
        document[step] = _set_values(options)
    told = {"tuned": dict(settings.tuned), "decided": dict(settings.decided)}
    return {**document, **{name: table for name, table in told.items() if table}}


def _decided(table: Any, given: Mapping[str, Any]) -> dict[str, str]:
    """What `auto` came to in an earlier run, but for what the command line gives; ValueError for what it cannot."""
    if not isinstance(table, Mapping) or set(table) - set(DECIDED):
        raise ValueError(f"decided is {shown(table)}; it must be a table of {' and '.join(DECIDED)}, or be left out.")
    for name, choice in table.items():
        choices = DECIDED[name][2]
        if choice not in choices:
            raise ValueError(f"decided: {name} is {shown(choice)}; it must be {' or '.join(choices)}.")
    return {name: choice for name, choice in table.items() if DECIDED[name][1] not in given.get(DECIDED[name][0], {})}


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _section(name: str, section: Any) -> Mapping[str, Any]:
    """A section of a document; ValueError where something else stands in its place."""
    if isinstance(section, Mapping):
        return section
    key = "method" if name in registry.stages() else "option"
    raise ValueError(f"{name} is {shown(section)}; it must be a table, as [{name}] with {key} = ... in it.")


def _method_names(stage: str, section: Mapping[str, Any]) -> tuple[str, ...]:
    given = section["method"]
    names = given if isinstance(given, list | tuple) else [given]
    if strange := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"{stage}: method is {shown(strange[0])}; it must be a name, or a list of names.")
    chosen = tuple(names)
    for name in (*chosen, *(key for key in section if key != "method")):
        if name not in methods_of(stage):
            raise ValueError(f"Unknown {stage} method {name!r}; choose from {', '.join(methods_of(stage))}.")
    several = stage_of(stage).several
    if not chosen or len(set(chosen)) < len(chosen) or (len(chosen) > 1 and not several):
        what = ", ".join(chosen) or "nothing"
        raise ValueError(f"{stage}: {what} chosen; give one method{', or several different ones' if several else ''}.")
    return chosen


def _options(options_class: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {shown(values)}; it must be a table of options.")
    known = {field.name for field in dataclasses.fields(options_class)}
    if unknown := set(values) - known:
        raise ValueError(f"{where}: unknown option {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}.")
    checked = {name: _typed(options_class, name, value, where) for name, value in values.items()}
    options = options_class(**checked)
    check_options(options, where)
    return options


def _typed(options_class: type[Any], name: str, value: Any, where: str) -> Any:
    kind = option_type(options_class, name)
    if options_class.__dataclass_fields__[name].metadata.get("several") and isinstance(value, list | tuple):
        if not value or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{where}: {name} is {shown(value)}; it must be a name, or a list of names.")
        return ",".join(value)
    if kind is float and type(value) is int and abs(value) < LARGEST_INTEGER:
        return float(value)
    if type(value) is not kind or (kind is int and abs(value) >= LARGEST_INTEGER):
        raise ValueError(f"{where}: {name} is {shown(value)}; it must be {_KINDS.get(kind, kind.__name__)}.")
    return value


def _set_values(options: Any) -> dict[str, Any]:
    several = {field.name for field in dataclasses.fields(options) if field.metadata.get("several")}
    values = {name: value for name, value in dataclasses.asdict(options).items() if value is not None}
    return {name: list(words_of(value)) if name in several and "," in value else value
            for name, value in values.items()}  # fmt: skip
