"""The files that a run left, each with what it is, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qsmprep.bids.outputs import OUTPUTS, subject_folder
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
    """A file: its path relative to the output folder, what it is, and the unit of its values ("" for a mask)."""

    path: str
    text: str
    unit: str = ""


def files_of(output_dir: Path, run: str) -> list[Written]:
    """The maps, masks, tables and numbers of a run that lie in the output folder, by name."""
    folder = Path(output_dir) / subject_folder(run)
    found = []
    for path in sorted(folder.glob(f"[af][nm]a[tp]/{run}_*"), key=lambda path: natural_order(path.name)):
        ending = path.name.removeprefix(run)
        relative = path.relative_to(output_dir).as_posix()
        if ending in FURTHER:
            found.append(Written(relative, FURTHER[ending]))
        elif ending.endswith(".nii.gz"):
            *desc, suffix = ending.removesuffix(".nii.gz").lstrip("_").split("_")
            label = desc[0].removeprefix("desc-") if desc else ""
            output = _KNOWN.get((label, suffix))
            if output is not None:
                found.append(Written(relative, output.description, output.units))
            elif suffix == "Chimap" and len(desc) == 1:
                found.append(Written(relative, f"Magnetic susceptibility by another inversion ({label}).", "ppm"))
    return found
