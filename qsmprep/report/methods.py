"""The methods section: written from the records of the runs, in the order of the consensus paper's sample paragraph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from qsmprep.report.acquisition_text import acquisition_sentences
from qsmprep.report.bibliography import CONSENSUS, SOFTWARE_CITATIONS
from qsmprep.report.checklist import departures
from qsmprep.report.prose import Block, Emphasis, Pieces, Prose, citing, joined
from qsmprep.report.record import Parameter, RecordedStep, Run, parse_run, words
from qsmprep.report.referencing import reference_values
from qsmprep.stages import rank_of, stage_of

UNFINISHED = Block(("Processing did not finish: the steps that ran are described.",))
BY_AUTHORS = Block(
    (
        "Criteria for including and excluding data, and how artifacts were judged, belong to the study: they are to be "
        "added by its authors.",
    )
)


def methods_prose(records: Iterable[Mapping[str, Any] | Run]) -> Prose:
    """The methods section of one or many runs: a paragraph that holds for several runs is written once.

    Runs that failed are left out, unless every one did.

    Parameters
    ----------
    records : the run records.

    Returns
    -------
    Acquisition, reconstruction step by step with every parameter (defaults included), reference region, software.

    References
    ----------
    QSM Consensus Organization Committee, Magn Reson Med 91:1834, 2024, section 9.1.5.
    """
    runs = [parse_run(record) for record in records]
    done = [run for run in runs if run.succeeded] or runs
    if not done:
        return Prose((Block(("No run was processed.",)),))
    blocks = [] if all(run.succeeded for run in done) else [UNFINISHED]
    blocks += [Block(("Data acquisition",), heading=True), *_once(done, _acquisition)]
    blocks += [Block(("Susceptibility reconstruction",), heading=True), *_once(done, _reconstruction)]
    blocks += _once(done, _reference_values, single=len(done) == 1)
    blocks += _once(done, _software)
    return Prose((*blocks, BY_AUTHORS))


def parameter_words(parameter: Parameter) -> str:
    """A parameter as written in a sentence.

    >>> parameter_words(Parameter("max_radius", "12", "voxel"))
    'max radius = 12 voxels'
    >>> parameter_words(Parameter("erosion_voxels", "1", "voxels"))
    'erosion = 1 voxel'
    >>> parameter_words(Parameter("two_pass", "no", switch=False))
    'no two pass'
    """
    unit = {"voxel": "voxels"}.get(parameter.unit, parameter.unit)
    name = parameter.name.removesuffix(f"_{unit}") if unit else parameter.name
    name = name.replace("_", " ")
    if parameter.switch is not None:
        return name if parameter.switch else f"no {name}"
    one = parameter.value == "1" and unit in ("voxels", "degrees", "iterations")
    return f"{name} = {parameter.value} {unit.removesuffix('s') if one else unit}".strip()


def parameters_words(parameters: Sequence[Parameter]) -> str:
    """Those parameters that had a part in a step: what was changed first, then the defaults, marked as such."""
    acted = [parameter for parameter in parameters if parameter.acts]
    changed = [parameter_words(p) for p in acted if not p.default]
    defaults = [parameter_words(p) for p in acted if p.default]
    parts = [", ".join(changed)] if changed else []
    if defaults:
        parts.append(f"{'defaults' if changed else 'all defaults'}: {', '.join(defaults)}")
    return "; ".join(parts)


def _once(runs: Sequence[Run], write: Callable[[Run], Pieces], *, single: bool = False) -> list[Block]:
    """The paragraphs that `write` gives, each once, naming its runs where they differ."""
    groups: dict[Pieces, list[str]] = {}
    for run in runs:
        groups.setdefault(write(run), []).append(run.run)
    groups.pop((), None)
    if single or len(groups) == 1:
        return [Block(pieces) for pieces in groups]
    return [Block((Emphasis(", ".join(names)), ": ", *pieces)) for pieces, names in groups.items()]


def _acquisition(run: Run) -> Pieces:
    return (" ".join(acquisition_sentences(run)),)


def _reconstruction(run: Run) -> Pieces:
    sentences: list[Pieces] = [(f"Susceptibility maps were reconstructed with {_platform(run)}.",), _following(run)]
    for _, group in groupby(sorted(run.steps, key=_place), key=lambda step: stage_of(step.stage).name):
        steps = list(group)
        before, _, after = stage_of(steps[0].stage).sentence.partition("{}")
        sentences.append((before, *_enumerated([_method(step) for step in steps]), after))
    if run.further_processing:
        sentences.append((f"Further processing: {run.further_processing.rstrip('.')}.",))
    return joined(sentences)


def _place(step: RecordedStep) -> int:
    """Place of a step in the text: brain extraction follows the field, as in the paper's sample."""
    name = stage_of(step.stage).name
    return rank_of("field-scaling") if name in ("mask-image", "mask") else rank_of(name)


def _platform(run: Run) -> str:
    """The toolbox and what it ran on."""
    version = f"qsmprep {run.software.get('qsmprep', '')}".rstrip()
    python = run.software.get("Python", "")
    return f"{version} (Python {python})" if python else version


def _following(run: Run) -> Pieces:
    """How the chain stands to the consensus: said to follow it only where it does."""
    unmet = departures(run)
    own = "nless other software is named, the methods are qsmprep's own implementations."
    if unmet:
        listed = "; ".join(f"{item.id}: {item.value}" for item in unmet)
        return (
            "The processing departs from the consensus recommendations for clinical research in the brain",
            *citing([CONSENSUS]),
            f" in these points: {listed}. U{own}",
        )
    return (
        "The processing follows the consensus recommendations for clinical research in the brain",
        *citing([CONSENSUS]),
        f"; u{own}",
    )


def _method(step: RecordedStep) -> Pieces:
    """A method with its citations and the parameters that acted, what differs from the defaults first."""
    told = parameters_words(step.parameters)
    given = (f" ({told})",) if told else ()
    title = step.title or step.method or "the step's only method"
    return (title, *citing(step.citations), *_network(step), *given)


def _network(step: RecordedStep) -> Pieces:
    """Which weights a step used, and what their card says of their training; nothing for a step without a network."""
    name, statement, file, sha256 = (
        words(step.value(key) or "") for key in ("network", "network_statement", "network_weights", "network_sha256")
    )
    if not name:
        return ()
    told = [f"SHA-256 {sha256[:12]}"] if sha256 else []
    told += [statement.rstrip(".")] if statement else []
    return (f", with the weights {file or name} of the network {name}" + (f" ({'; '.join(told)})" if told else ""),)


def _enumerated(methods: Sequence[Pieces]) -> Pieces:
    if len(methods) == 1:
        return methods[0]
    return joined((joined(methods[:-1], "; "), methods[-1]), "; and ")


def _reference_values(run: Run) -> Pieces:
    values = reference_values(run)
    if values is None:
        return ()
    return (
        f"The reference is imposed by the pipeline. Susceptibility of the reference region ({values.region}): "
        f"{values.mean_name} {values.mean} ppm, standard deviation {values.deviation} ppm"
        + (f"; {values.in_common}." if values.in_common else "."),
    )


def _software(run: Run) -> Pieces:
    """Versions of all software, and what to cite for it."""
    named = [
        (f"{name} {version}".strip(), *citing([SOFTWARE_CITATIONS.get(name.lower(), "")]))
        for name, version in run.software.items()
        if name not in ("qsmprep", "Python")
    ]
    text: Pieces = ("Input and output are organised by the Brain Imaging Data Structure", *citing(["bids2016"]), ".")
    return (*text, " Processing used ", *joined(named, ", "), ".") if named else text
