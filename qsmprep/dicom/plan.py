"""What becomes what: BIDS names of the images of scans, and why others get none."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qsmprep.bids.names import listed
from qsmprep.bids.problem import Problem, errors
from qsmprep.dicom.classify import Kind, classify, used_parts
from qsmprep.dicom.completeness import WORDS, check_complete
from qsmprep.dicom.headers import text_of
from qsmprep.dicom.people import Study
from qsmprep.dicom.rules import Rules
from qsmprep.dicom.runs import Image, Scan, scans_of
from qsmprep.dicom.sidecars import names_person

AGAIN = "the same images once more: the less processed are used"
GRADIENT_ECHOES = ("MEGRE", "T2starw")


@dataclass(frozen=True)
class Target:
    """One image to write: where (no extension, relative to the dataset), which, of what scan, used as what."""

    stem: Path
    image: Image
    scan: Scan
    study: Study
    use: str


@dataclass(frozen=True)
class Row:
    """A line of the table: a scan and what becomes of it; `name` is empty where it is left out, for a `reason`."""

    study: Study
    scan: Scan
    use: str
    name: str
    reason: str
    refused: bool = False

    @property
    def content(self) -> str:
        """What the scan holds, in words."""
        images = self.scan.images
        rows, columns = images[0].frames[0].shape
        echoes, coils = len(self.scan.echo_times_ms), len(self.scan.coils)
        told = f"{' + '.join(WORDS[part] for part in self.scan.parts)}, {columns}x{rows}x{len(images[0].frames)}"
        told += f", {echoes} echoes" if echoes > 1 else ""
        return told + (f", {coils} coils" if coils > 1 else "")


@dataclass
class Plan:
    """Images to write, the table, and what is wrong."""

    targets: list[Target] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def plan(studies: Iterable[Study], rules: Rules) -> Plan:
    """Names for the images of everybody; a scan with something wrong is refused by name, and the others go on."""
    made = Plan()
    for study in studies:
        _plan_study(made, study, rules)
    used = {target.study.participant for target in made.targets if target.use in GRADIENT_ECHOES}
    for participant in dict.fromkeys(row.study.participant for row in made.rows):
        if participant not in used:
            lacking = "no gradient echo scan with phase that QSM can be made of"
            made.problems.append(Problem("error", "participant-without-gradient-echoes", f"sub-{participant}", lacking,
                                         "", "Look in the table why each series is left out."))  # fmt: skip
    names: dict[Path, Target] = {}
    for target in made.targets:
        rival = names.setdefault(target.stem, target)
        if rival is not target:
            found = f"{rival.scan.name} and {target.scan.name} would both be {target.stem.name}"
            made.problems.append(Problem("error", "bids-name-twice", None, found, "a name for each image",
                                         "Give one of them another acq or run by a rule."))  # fmt: skip
            break
    return made


def _plan_study(made: Plan, study: Study, rules: Rules) -> None:
    used: list[tuple[Scan, str]] = []
    for scan in scans_of(study.instances):
        kind = rules.kind(scan, classify(scan))
        found = check_complete(scan) if kind.use else []
        if kind.use and not set(used_parts(scan, kind.use)) <= set(scan.parts):
            needed = " and ".join(WORDS[part] for part in used_parts(scan, kind.use))
            kind = Kind("", f"no {kind.use} without {needed}", refused=True)
        made.problems += found
        if wrong := errors(found):
            kind = Kind("", "; ".join(problem.found for problem in wrong), refused=True)
        if kind.use:
            used.append((scan, kind.use))
        else:
            made.rows.append(Row(study, scan, "", "", kind.reason, kind.refused))
        for again in scan.again:
            made.rows.append(Row(study, Scan((again,)), "", "", AGAIN))
    for scan, use, entities in _named(used, rules):
        targets = _targets(study, scan, use, entities)
        made.targets += targets
        made.rows.append(Row(study, scan, use, _pattern(targets), ""))
    made.rows.sort(key=lambda row: (row.study.prefix, row.scan.series[0].number))


def _named(used: Sequence[tuple[Scan, str]], rules: Rules) -> list[tuple[Scan, str, dict[str, str]]]:
    """Entities that tell scans of one use apart: `acq` for protocols that differ, `run` for repetitions in time."""
    given = {id(scan): dict(rule.entities) if (rule := rules.of(scan)) else {} for scan, _ in used}
    # MEGRE and T2starw too: outputs of the pipeline are named after runs, whatever the suffix of their images
    kinds = {use: "gradient echo" if use in GRADIENT_ECHOES else use for _, use in used}
    for kind in dict.fromkeys(kinds.values()):
        free = [scan for scan, use in used if kinds[use] == kind and not given[id(scan)]]
        protocols = list(dict.fromkeys(map(_protocol, free)))
        if len(protocols) > 1 and all(protocols):
            for scan in free:
                given[id(scan)]["acq"] = _protocol(scan)
    alike: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    for scan, use in used:
        alike[(kinds[use], *(given[id(scan)].get(name, "") for name in ("acq", "rec", "run")))].append(scan)
    for scans in alike.values():
        scans.sort(key=lambda scan: (scan.time_s if scan.time_s is not None else 0.0, scan.series[0].number))
        for number, scan in enumerate(scans, 1):
            if len(scans) > 1 and "run" not in given[id(scan)]:
                given[id(scan)]["run"] = str(number)
    return [(scan, use, given[id(scan)]) for scan, use in used]


def _protocol(scan: Scan) -> str:
    """The protocol's name as a label; empty where it holds the patient's name."""
    name = text_of(scan.facts, "ProtocolName")
    return "" if names_person(name, scan.facts) else re.sub("[^0-9A-Za-z]", "", name)


def _targets(study: Study, scan: Scan, use: str, entities: dict[str, str]) -> list[Target]:
    parts = used_parts(scan, use)
    times = sorted({image.echo_time_ms or 0.0 for image in scan.images if image.part in parts})
    folder = Path(f"sub-{study.participant}", *([f"ses-{study.session}"] if study.session else []), "anat")
    targets = []
    for image in scan.images:
        if image.part not in parts:
            continue
        own = dict(entities)
        if len(scan.coils) > 1:
            own["acq"] = f"{own.get('acq', '')}coil{scan.coils.index(image.coil) + 1:02d}"
        words = [study.prefix, *(f"{name}-{own[name]}" for name in ("acq", "rec", "run") if name in own)]
        words += [f"echo-{times.index(image.echo_time_ms or 0.0) + 1}"] if use in ("MEGRE", "MESE") else []
        words += [f"part-{image.part}"] if use in GRADIENT_ECHOES else []
        targets.append(Target(folder / "_".join([*words, use]), image, scan, study, use))
    return targets


def _pattern(targets: Sequence[Target]) -> str:
    """The names of a scan's images in one."""
    name = targets[0].stem.name
    for entity in ("acq", "echo", "part"):
        labels = list(dict.fromkeys(_entity(target.stem.name, entity) for target in targets))
        if len(labels) > 1:
            shown = ",".join(labels) if len(labels) < 4 else f"{labels[0]}..{labels[-1]}"
            name = name.replace(f"_{entity}-{_entity(name, entity)}_", f"_{entity}-{{{shown}}}_")
    return name


def _entity(name: str, entity: str) -> str:
    found = re.search(f"_{entity}-([0-9A-Za-z+]+)", name)
    return found[1] if found else ""


def show(plan: Plan, tell: Callable[[str], None]) -> None:
    """The table, a line a series of scans, as plain text."""
    seen = ""
    for row in plan.rows:
        if row.study.prefix != seen:
            seen = row.study.prefix
            tell(f"{seen}: {row.study.person or 'no PatientID'}, {row.study.date or 'no date'}")
        what = row.name or f"{'refused' if row.refused else 'left out'}: {row.reason}"
        tell(f"  {row.scan.name}: {row.content}\n    -> {what}")
    persons = list(dict.fromkeys(target.study.prefix for target in plan.targets))
    tell(f"{len(plan.targets)} images of {listed(persons) or 'nobody'}")
