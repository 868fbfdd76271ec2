"""Sections 8 and 9 of the consensus: analysis, reporting and presentation."""

from __future__ import annotations

from collections.abc import Iterator

from qsmprep.analysis.regions import COMMON_REFERENCES
from qsmprep.report.acquisition import missing_essentials
from qsmprep.report.evidence import NO_CASE, Evidence, Verdict, unknown, verdict
from qsmprep.report.referencing import reference_values
from qsmprep.report.regional import RegionRow
from qsmprep.stages import TABLE5_ALGORITHMS, stage_of

NOT_FOUND = ("0 of 0", "0 of n/a", "n/a of n/a", "n/a of 0")  # a region that the segmentation does not hold


def exclusion(evidence: Evidence) -> Verdict:
    """8.a: quality measures found something to exclude, or not."""
    quality = evidence.quality
    if not quality.lines:
        return unknown()
    if not quality.flags:
        return verdict(f"{len(quality.lines)} quality numbers, none beyond its limit", True)
    flagged = ", ".join(flag.title.lower() for flag in quality.flags)
    return unknown(f"beyond their limits: {flagged}; whether regions were left out the study must say")


def valid_voxels(evidence: Evidence) -> Verdict:
    """8.b: regional values of voxels of mask 4 alone, and regions that have some."""
    rows = [row for row in _chi_rows(evidence) if row.voxels not in NOT_FOUND]
    if not rows:
        return unknown("no regional values were made" if evidence.steps("inversion") else "")
    empty = [row.region for row in rows if row.voxels.split(" ")[0] in ("0", "")]
    if empty:
        named = ", ".join(empty[:3]) + (" and others" if len(empty) > 3 else "")
        return verdict(f"{len(empty)} of {len(rows)} regions have no valid voxel: {named}", False)
    return verdict(f"{len(rows)} region{'s' if len(rows) > 1 else ''}, values of voxels in mask 4", True)


def _chi_rows(evidence: Evidence) -> Iterator[RegionRow]:
    for table in evidence.regions:
        if table.map == "χ":
            yield from table.rows


def reference(evidence: Evidence) -> Verdict:
    """8.c: an internal reference region."""
    method, title = evidence.method("reference")
    return verdict(title, method != "none" if method else None)


def choice_of_reference(evidence: Evidence) -> Verdict:
    """8.d: whether the numbers of a second region are there to check with; the choice is the study's."""
    if not evidence.steps("reference"):
        return unknown()
    there = [name for key, name in COMMON_REFERENCES.items() if _reference_number(evidence, key, "mean") is not None]
    known = f"numbers are there for {', '.join(there)}; " if there else ""
    return unknown(f"{known}the choice, and what it biases, are the study's to discuss")


def reference_in_space(evidence: Evidence) -> Verdict:
    """8.e: the reference region is one of three dimensions."""
    method, title = evidence.method("reference")
    if method in ("", "none"):
        return Verdict(NO_CASE, "no reference region") if method else unknown()
    return verdict(f"{title}: a mask of three dimensions", True)


def common_references(evidence: Evidence) -> Verdict:
    """8.f: mean and standard deviation of the common reference regions."""
    if not evidence.steps("reference"):
        return unknown()
    told, missing = [], []
    for key, name in COMMON_REFERENCES.items():
        mean, deviation = (_reference_number(evidence, key, number) for number in ("mean", "sd"))
        if mean is None or deviation is None:
            missing.append(name)
        else:
            told.append(f"{name} {mean:.3f} ± {deviation:.3f} ppm")
    absent = [f"missing: {', '.join(missing)} (no segmentation has it)"] if missing else []
    return verdict("; ".join(told + absent), not missing)


def _reference_number(evidence: Evidence, region: str, number: str) -> float | None:
    return evidence.number("reference", f"reference_{region}_{number}")


def segmentation(evidence: Evidence) -> Verdict:
    """8.g: what regions were drawn on."""
    titles = [evidence.method(stage)[1] for stage in ("segmentation", "atlas")]
    told = "; ".join(filter(None, titles))
    if not told:
        return Verdict(NO_CASE, "no segmentation was used") if evidence.steps("inversion") else unknown()
    return unknown(f"{told}; look at its outlines on the map")


def reported(evidence: Evidence) -> Verdict:
    """9.a: essential items of tables 3, 4 and 5."""
    if not evidence.run.acquisition:
        return unknown()
    missing = [name.lower() for name in missing_essentials(evidence.run.acquisition)]
    done = {stage_of(step.stage).table5 for step in evidence.run.steps}
    if evidence.steps("input"):  # the record of joined orientations leaves what each went through to theirs
        missing += [name.lower() for name, needed in TABLE5_ALGORITHMS.items() if needed and name not in done]
    missing += [] if reference_values(evidence.run) else ["reference values"]
    return verdict(f"missing: {', '.join(missing)}" if missing else "no essential item is missing", not missing)


def pictures(evidence: Evidence) -> Verdict:
    """9.b: maps and tissue field are drawn."""
    files = [picture.file for step in evidence.run.steps for picture in step.figures if picture.data]
    if not files:
        return unknown()
    shown = {
        "susceptibility": any("_Chimap" in f for f in files),
        "tissue field": any("desc-local" in f for f in files),
    }
    missing = [name for name, there in shown.items() if not there]
    return verdict(
        "missing: " + ", ".join(missing) if missing else "susceptibility and tissue field are drawn", not missing
    )
