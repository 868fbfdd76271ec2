"""In which versions, methods, parameters and acquisition settings some runs differ from the most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qsmprep.report.acquisition import ITEMS, look_up
from qsmprep.report.group.runs import GroupRun
from qsmprep.report.record import RecordedStep, parse_run, words
from qsmprep.stages import stage_of

SOFTWARE, PIPELINE, ACQUISITION = "Software", "Processing", "Acquisition"
NOT_DONE, NOT_TOLD = "not done", "not recorded"
# Of the patient or of the day, not settings of the protocol.
_NOT_SETTINGS = ("centre_frequency", "slab_orientation", "scan_duration", "coil_elements")


@dataclass(frozen=True)
class Difference:
    """One setting that is not the same in all runs.

    Attributes
    ----------
    section : software, processing or acquisition.
    what : which setting.
    among : the runs compared, in words.
    usual : the value of most runs; where two are as frequent, that of the first run.
    count, total : runs with it, and runs compared.
    others : (value, names of the runs that have it).
    """

    section: str
    what: str
    among: str
    usual: str
    count: int
    total: int
    others: tuple[tuple[str, tuple[str, ...]], ...]


def differences(runs: Sequence[GroupRun]) -> list[Difference]:
    """Every setting in which runs differ, software first."""
    found = _compare(SOFTWARE, {run.name: _software(run) for run in runs if _software(run)}, "all runs")
    for kind, own in (
        ("all runs", [run for run in runs if not run.joined]),
        ("runs of several orientations", [run for run in runs if run.joined]),
    ):
        found += _processing(own, kind)
    for scanner in dict.fromkeys(run.scanner for run in runs):
        settings = {
            run.name: _acquisition(run) for run in runs if run.scanner == scanner and run.record and _acquisition(run)
        }
        found += _compare(ACQUISITION, settings, scanner)
    return found


def _processing(runs: Sequence[GroupRun], kind: str) -> list[Difference]:
    """Methods of all runs; parameters among the runs that share the method."""
    steps = {run.name: _numbered(_steps(run)) for run in runs if _steps(run)}
    stages = list(dict.fromkeys(stage for own in steps.values() for stage in own))
    found = []
    for stage in stages:
        heading = stage_of(stage[0]).heading + (f" ({stage[1]})" if stage[1] > 1 else "")
        methods = {name: _method(own.get(stage)) for name, own in steps.items()}
        found += _compare(PIPELINE, {name: {heading: method} for name, method in methods.items()}, kind)
        for method in dict.fromkeys(methods.values()):
            sharing = {name: own[stage] for name, own in steps.items() if stage in own and methods[name] == method}
            settings = {
                name: {f"{heading}, {method}: {p.name}": f"{p.value} {p.unit}".strip() for p in step.parameters}
                for name, step in sharing.items()
            }
            found += _compare(PIPELINE, settings, "runs with this method")
    return found


def _compare(section: str, settings: Mapping[str, Mapping[str, str]], among: str) -> list[Difference]:
    """Differences in the settings of runs by their names."""
    found = []
    for what in dict.fromkeys(key for own in settings.values() for key in own):
        values = {name: own.get(what, NOT_TOLD) for name, own in settings.items()}
        ranked = Counter(values.values()).most_common()
        if len(ranked) < 2:
            continue
        usual, count = ranked[0]
        others = tuple((value, tuple(name for name, own in values.items() if own == value)) for value, _ in ranked[1:])
        found.append(Difference(section, what, among, usual, count, len(values), others))
    return found


def _software(run: GroupRun) -> dict[str, str]:
    if run.record is not None and run.record.software:
        return dict(run.record.software)
    own = run.results.quality.get("software")
    given = run.results.software or (own if isinstance(own, Mapping) else {})
    return {str(name): words(version) for name, version in given.items()}


def _steps(run: GroupRun) -> Sequence[RecordedStep]:
    """Steps of a run that came to its end, from its record, or else from the sidecar of its map."""
    if run.record is not None:
        return run.record.steps if run.record.succeeded else ()
    return parse_run({"steps": list(run.results.steps)}).steps


def _numbered(steps: Sequence[RecordedStep]) -> dict[tuple[str, int], RecordedStep]:
    """Steps by stage and their number within it: a stage may have several."""
    found: dict[tuple[str, int], RecordedStep] = {}
    counts: Counter[str] = Counter()
    for step in steps:
        counts[step.stage] += 1
        found[step.stage, counts[step.stage]] = step
    return found


def _method(step: RecordedStep | None) -> str:
    return NOT_DONE if step is None else step.method or step.title or "method not recorded"


def _acquisition(run: GroupRun) -> dict[str, str]:
    if run.record is None or not run.record.acquisition:
        return {}
    entries = {item.name: look_up(run.record.acquisition, item.key) for item in ITEMS if item.key not in _NOT_SETTINGS}
    return {name: entry.text if entry.available else NOT_TOLD for name, entry in entries.items()}
