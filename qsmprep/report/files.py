"""The files that a run left, each with what it is, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qsmprep.bids.names import is_of_run
from qsmprep.bids.outputs import OUTPUTS, subject_folder
from qsmprep.bids.space_files import MAGNITUDE
from qsmprep.files.age import is_of_earlier_command
from qsmprep.report.record import natural_order

# Endings of files that are no maps -> what they are.
FURTHER = {
    "_desc-roi_stats.tsv": "Values of regions.",
    "_qc.json": "Quality numbers with their limits, and the verdict.",
    "_from-MEGRE_to-MESE_mode-image_xfm.txt": "Transform between gradient and spin echoes (ITK).",
}
_KNOWN = {(output.desc, output.suffix): output for output in OUTPUTS.values()}


@dataclass(frozen=True)
class Written:
    """A file: its path relative to the output folder, what it is, and the unit of its values ("" for a mask).

    `earlier`: it was left by an earlier command.
    """

    path: str
    text: str
    unit: str = ""
    earlier: bool = False


def files_of(output_dir: Path, run: str, started: str) -> list[Written]:
    """The maps, masks, tables and numbers of a run that lie in the output folder, by name.

    `started` is when the command of the run's record did, in ISO 8601; empty where that is not known.
    """
    found = _named(output_dir, run)
    return [replace(one, earlier=is_of_earlier_command(output_dir / one.path, started)) for one in found]


def _named(output_dir: Path, run: str) -> list[Written]:
    folder = Path(output_dir) / subject_folder(run)
    found = []
    for path in sorted(folder.glob(f"[af][nm]a[tp]/{run}_*"), key=lambda path: natural_order(path.name)):
        if not is_of_run(path.name, run):
            continue
        ending = path.name.removeprefix(run)
        relative = path.relative_to(output_dir).as_posix()
        if ending in FURTHER:
            found.append(Written(relative, FURTHER[ending]))
        elif ending.endswith(".nii.gz"):
            *words, suffix = ending.removesuffix(".nii.gz").lstrip("_").split("_")
            entities = dict(word.partition("-")[::2] for word in words)
            if "space" in entities or (suffix == "xfm" and "from" in entities):
                found += _in_template(relative, entities, suffix)
                continue
            desc = words
            label = desc[0].removeprefix("desc-") if desc else ""
            output = _KNOWN.get((label, suffix))
            if output is not None:
                found.append(Written(relative, output.description, output.units))
            elif suffix == "Chimap" and len(desc) == 1:
                found.append(Written(relative, f"Magnetic susceptibility by another inversion ({label}).", "ppm"))
    return found


def _in_template(path: str, entities: Mapping[str, str], suffix: str) -> list[Written]:
    """A map in the space of a template, or a transform."""
    if suffix == "xfm":
        return [Written(path, f"Transform from {entities['from']} to {entities.get('to', '')} (ITK, ANTs).", "mm")]
    label = entities.get("desc", "")
    output = OUTPUTS["magnitude"] if (label, suffix) == MAGNITUDE else _KNOWN.get((label, suffix))
    if output is None:
        return []
    size = f", {entities['res']} mm" if entities.get("res") else ""
    return [Written(path, f"In {entities['space']}{size}: {output.description}", output.units)]
