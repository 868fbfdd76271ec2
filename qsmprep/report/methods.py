"""The methods section: written from the records of the runs, in the order of the consensus paper's sample paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from qsmprep.report.acquisition import ITEMS, look_up, missing_essentials
from qsmprep.report.bibliography import CONSENSUS, SOFTWARE_CITATIONS, cited
from qsmprep.report.record import Parameter, Run, Step, parse_run, words
from qsmprep.stages import stage_of

# Text of a record goes into Markdown: what would be read as markup is escaped.
_MARKUP = re.compile(r"([\\`*\[\]<>])")
_KEY = re.compile(r"[A-Za-z][\w:-]*")
# A group of citations; brackets that come from a record are escaped and do not match.
CITATION_GROUP = re.compile(r"(?<!\\)\[(@[A-Za-z][\w:-]*(?:; @[A-Za-z][\w:-]*)*)\]")


def methods_text(record: Mapping[str, Any] | Run) -> str:
    """The methods section of one run as Markdown, citations written [@key].

    Parameters
    ----------
    record : the run record.

    Returns
    -------
    Acquisition, reconstruction step by step with every parameter (defaults included), reference region, software.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024, section 9.1.5.
    """
    return merged_methods_text([record])


def merged_methods_text(records: Iterable[Mapping[str, Any] | Run]) -> str:
    """The methods section of many runs: a paragraph that holds for several runs is written once.

    Runs that failed are left out, unless every one did.
    """
    runs = [parse_run(record) for record in records]
    done = [run for run in runs if run.succeeded] or runs
    if not done:
        return "No run was processed.\n"
    parts = ["## Data acquisition", *_once(done, _acquisition), "## Susceptibility reconstruction"]
    parts += _once(done, _reconstruction)
    parts += _once(done, _reference_values, single=len(done) == 1)
    parts += _once(done, _software)
    parts.append(
        "Criteria for including and excluding data, and how artifacts were judged, belong to the study: "
        "they are to be added by its authors."
    )
    if not all(run.succeeded for run in done):
        parts.insert(0, "Processing did not finish: the steps that ran are described.")
    return "\n\n".join(part for part in parts if part) + "\n"


def citation_keys(records: Iterable[Mapping[str, Any] | Run]) -> list[str]:
    """Keys of everything that the methods text of these runs cites, in order of appearance."""
    return keys_in(merged_methods_text(records))


def keys_in(text: str) -> list[str]:
    """Keys cited by a methods text, each once, in order of appearance."""
    groups = CITATION_GROUP.findall(text)
    return list(dict.fromkeys(key.removeprefix("@") for group in groups for key in group.split("; ")))


def write_citation_files(logs_dir: Path, records: Iterable[Mapping[str, Any] | Run]) -> list[Path]:
    """Write CITATION.md, CITATION.bib (only what is cited) and CITATION.html (self-contained) for these runs.

    Parameters
    ----------
    logs_dir : folder for the files, made if need be.
    records : the run records, of any number of participants.

    Returns
    -------
    The three paths.
    """
    from qsmprep.bids.outputs import write_text
    from qsmprep.report.page import render_citation

    runs = [parse_run(record) for record in records]
    text = merged_methods_text(runs)
    entries = cited(keys_in(text))
    folder = Path(logs_dir)
    contents = {
        "CITATION.md": text,
        "CITATION.bib": "\n\n".join(entry.bibtex for entry in entries) + "\n",
        "CITATION.html": render_citation(text),
    }
    for name, content in contents.items():
        write_text(folder / name, content)
    return [folder / name for name in contents]


def parameter_words(parameter: Parameter) -> str:
    """A parameter as written in a sentence: "mu1 = 0.05", "radius_max = 12 mm"."""
    return f"{parameter.name} = {parameter.value} {parameter.unit}".strip()


@dataclass(frozen=True)
class ReferenceValues:
    """Susceptibility of the reference region in ppm as text, and what the record calls its mean."""

    region: str
    mean_name: str
    mean: str
    deviation: str


def reference_values(run: Run) -> ReferenceValues | None:
    """Mean and standard deviation of the reference region, from the reference step, else from an inversion."""
    for name in ("reference", "inversion"):
        for step in run.steps:
            if stage_of(step.stage).name == name:
                mean, deviation = _fact(step, r"\bmean\b"), _fact(step, r"standard deviation|\bs\.?d\.?\b|\bstd\b")
                if mean and deviation:
                    region = step.title or step.method if name == "reference" else "as named by the inversion"
                    return ReferenceValues(region, *mean, deviation[1])
    return None


def _fact(step: Step, pattern: str) -> tuple[str, str] | None:
    """Name (its unit taken off) and value of the first numerical fact whose name matches."""
    for name, value in step.facts.items():
        if re.search(pattern, str(name), re.IGNORECASE) and isinstance(value, (int, float)):
            return re.sub(r"\s*\(ppm\)$", "", str(name)), words(value)
    return None


def _once(runs: Sequence[Run], write: Any, *, single: bool = False) -> list[str]:
    """The paragraphs that `write` gives, each once, naming its runs where they differ."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(write(run), []).append(run.run)
    groups.pop("", None)
    if single or len(groups) == 1:
        return list(groups)
    return [f"*{_safe(', '.join(names))}*: {text}" for text, names in groups.items()]


def _acquisition(run: Run) -> str:
    entries = {item.name: look_up(run.acquisition, item)["value"] for item in ITEMS}
    value = {name: _safe(words(entry)) for name, entry in entries.items() if entry is not None}
    told = {"Field strength", "Vendor", "Scanner model", "Scanner software", "Receive coil"}
    scanner = " ".join(value[name] for name in ("Field strength", "Vendor", "Scanner model") if name in value)
    sentence = "Images were acquired" + (f" on a {scanner} scanner" if scanner else "")
    if "Scanner software" in value:
        sentence += f" (software {value['Scanner software']})"
    if "Receive coil" in value:
        sentence += f" with the receive coil {value['Receive coil']}"
    sentences = [sentence + "."]
    details = [f"{name[0].lower()}{name[1:]}: {text}" for name, text in value.items() if name not in told]
    if details:
        sentences.append(f"The gradient-echo acquisition: {'; '.join(details)}.")
    if missing := missing_essentials(run.acquisition):
        sentences.append(f"Not available from the data, to be added by the authors: {', '.join(missing).lower()}.")
    return " ".join(sentences)


def _reconstruction(run: Run) -> str:
    version = _safe(run.software.get("qsmprep", ""))
    sentences = [
        f"Susceptibility maps were reconstructed with qsmprep {version}".rstrip()
        + f", which follows the steps of the consensus for clinical research in the brain [@{CONSENSUS}]."
    ]
    for _, group in groupby(run.steps, key=lambda step: stage_of(step.stage).name):
        steps = list(group)
        methods = _enumerated([_method(step) for step in steps])
        sentences.append(_safe(stage_of(steps[0].stage).sentence).replace("{}", methods))
    if run.further_processing:
        sentences.append(f"Further processing: {_safe(run.further_processing).rstrip('.')}.")
    return " ".join(sentences)


def _method(step: Step) -> str:
    """A method with its citations and every parameter, what differs from the defaults first."""
    text = _safe(step.title or step.method or "the step's only method")
    keys = [key for key in step.citations if _KEY.fullmatch(key)]
    if keys:
        text += f" [{'; '.join('@' + key for key in keys)}]"
    text += _network(step)
    changed = [_safe(parameter_words(p)) for p in step.parameters if not p.default]
    defaults = [_safe(parameter_words(p)) for p in step.parameters if p.default]
    parts = [", ".join(changed)] if changed else []
    if defaults:
        parts.append(f"{'defaults' if changed else 'all defaults'}: {', '.join(defaults)}")
    return text + (f" ({'; '.join(parts)})" if parts else "")


def _network(step: Step) -> str:
    """Which weights a step used, and what their card says of their training; nothing for a step without a network."""
    name, statement = (words(step.facts.get(fact, "")) for fact in ("network", "statement of the weights"))
    if not name:
        return ""
    file, sha256 = (words(step.facts.get(fact, "")) for fact in ("weights", "sha256 of the weights"))
    text = f"with the weights {_safe(file or name)} of the network {_safe(name)}"
    told = [f"SHA-256 {_safe(sha256[:12])}"] if sha256 else []
    told += [_safe(statement).rstrip(".")] if statement else []
    return f", {text}" + (f" ({'; '.join(told)})" if told else "")


def _enumerated(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else "; ".join(texts[:-1]) + "; and " + texts[-1]


def _reference_values(run: Run) -> str:
    values = reference_values(run)
    if values is None:
        return ""
    return (
        f"Susceptibility of the reference region ({_safe(values.region)}): "
        f"{_safe(values.mean_name)} {values.mean} ppm, standard deviation {values.deviation} ppm."
    )


def _software(run: Run) -> str:
    """Versions of all software, and what to cite for it."""
    names = []
    for name, version in run.software.items():
        if name.lower() == "qsmprep":
            continue
        key = SOFTWARE_CITATIONS.get(name.lower())
        names.append(f"{_safe(name)} {_safe(version)}".strip() + (f" [@{key}]" if key else ""))
    text = "Input and output are organised by the Brain Imaging Data Structure [@bids2016]."
    return text + (f" Processing used {', '.join(names)}." if names else "")


def _safe(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
