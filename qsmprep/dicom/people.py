"""Who was scanned when: labels of participants and sessions, which tell nobody's name unless that is asked for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qsmprep.bids.names import bare_label, is_label, listed
from qsmprep.bids.problem import Problem
from qsmprep.dicom.headers import Instance, text_of
from qsmprep.dicom.rules import Rules

SOURCES = {"number": "", "id": "PatientID", "name": "PatientName"}


@dataclass(frozen=True)
class Study:
    """One visit: labels (`session` None where there is only one), what the header calls the person, the images."""

    participant: str
    session: str | None
    person: str
    date: str
    instances: tuple[Instance, ...]

    @property
    def prefix(self) -> str:
        """What the names of its files begin with."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


def studies_of(
    instances: Iterable[Instance],
    rules: Rules,
    *,
    source: str = "number",
    participant: str | None = None,
    session: str | None = None,
) -> tuple[tuple[Study, ...], list[Problem]]:
    """The visits of everybody, and what keeps some from having a label.

    Parameters
    ----------
    instances : of a folder.
    rules : of the study; labels given there come first.
    source : "number" (01, 02, ... in the order of PatientID), "id" or "name": where labels come from otherwise.
    participant, session : labels for all; ValueError where there are several persons, or several visits of one.

    Raises
    ------
    ValueError : one label for several persons or visits, or no label.
    """
    people = _people(instances)
    if participant is not None and len(people) > 1:
        found = listed([name or "(no name)" for name in people], 5)
        raise ValueError(f"--participant-label names one participant, but there are {len(people)} persons: {found}.")
    labels = _participants(people, rules, source, None if participant is None else _label(participant, "sub"))
    studies, problems = [], _ambiguous(people, labels)
    for person, own in people.items():
        if not is_label(labels[person]):
            found = f"{SOURCES[source] or 'the header'} gives no label (letters and digits)"
            problems.append(Problem("error", "participant-without-label", person or "a person without PatientID", found,
                                    "", "Name the participant under [participants] of --rules."))  # fmt: skip
            continue
        visits: dict[str, list[Instance]] = defaultdict(list)
        for instance in own:
            visits[text_of(instance.facts, "StudyInstanceUID")].append(instance)
        ordered = sorted(visits.items(), key=lambda visit: (_date(visit[1]), visit[0]))
        if session is not None and len(ordered) > 1:
            raise ValueError(f"--session-label names one session, but sub-{labels[person]} has {len(ordered)} visits.")
        for number, (uid, visit) in enumerate(ordered, 1):
            date = _date(visit)[:8]
            given = rules.sessions.get(uid) or rules.sessions.get(date)
            label = given or (f"{number:02d}" if len(ordered) > 1 else None)
            label = _label(session, "ses") if session is not None else label
            studies.append(Study(labels[person], label, person, date, tuple(visit)))
    return tuple(studies), problems


def _people(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Images by person: the PatientID, else the name, else the study."""
    people: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        keys = ("PatientID", "PatientName", "StudyInstanceUID")
        people[next(filter(None, (text_of(instance.facts, key) for key in keys)), "")].append(instance)
    return dict(sorted(people.items()))


def _participants(
    people: Mapping[str, Sequence[Instance]], rules: Rules, source: str, given: str | None
) -> dict[str, str]:
    if given is not None:
        return dict.fromkeys(people, given)
    labels = {person: rules.participants[person] for person in people if person in rules.participants}
    taken, number = set(rules.participants.values()), 0
    for person in people:
        if person in labels:
            continue
        if source != "number":
            header = text_of(people[person][0].facts, SOURCES[source]) or person
            labels[person] = re.sub("[^0-9A-Za-z]", "", header)
            continue
        number += 1
        while f"{number:02d}" in taken:
            number += 1
        labels[person] = f"{number:02d}"
    return labels


def _ambiguous(people: dict[str, list[Instance]], labels: dict[str, str]) -> list[Problem]:
    """Persons that share a label, or one PatientID under several dates of birth."""
    problems = []
    for person, own in people.items():
        births = {text_of(instance.facts, "PatientBirthDate") for instance in own} - {""}
        if len(births) > 1:
            found = f"one PatientID, but {len(births)} dates of birth: are these several persons?"
            problems.append(Problem("error", "person-ambiguous", f"sub-{labels[person]}", found, "a PatientID a person",
                                    "Convert each person's folder by itself, with --participant-label."))  # fmt: skip
    shared = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    for label in sorted(shared):
        names = listed([person for person in people if labels[person] == label])
        problems.append(Problem("error", "participant-label-twice", f"sub-{label}", f"the label of {names}",
                                "a label for each person", "Name them under [participants] of --rules."))  # fmt: skip
    return problems


def _label(text: str, entity: str) -> str:
    label = bare_label(text, entity)
    if not is_label(label):
        raise ValueError(f"{text!r} is no label of BIDS; use letters and digits.")
    return label


def _date(visit: Sequence[Instance]) -> str:
    facts = visit[0].facts
    return text_of(facts, "StudyDate") + text_of(facts, "StudyTime")
