"""Sections 4 to 7 of the consensus: how the run was processed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qsmprep import registry
from qsmprep.report.evidence import CANNOT_KNOW, NO_CASE, Evidence, Verdict, short, suggested_edge_mm, unknown, verdict
from qsmprep.report.record import Parameter, RecordedStep

# Options of an inversion that say nothing of the strength or kind of its penalty, nor of when it stops.
NOT_OF_THE_PENALTY = (
    "kernel", "padding", "padding_mm", "residual_threshold", "two_pass", "weights",
    "weights_top", "gradient_per", "regularisation_image", "regularisation_mean",  # conventions of FANSI and SEPIA
)  # fmt: skip
GOOD_IMAGES = ("first-echo", "root-sum-of-squares")  # for brain extraction
DEPARTS = 1.5  # voxel edge over that of the suggested protocol from which a protocol departs much


def unwrapping(evidence: Evidence) -> Verdict:
    """4.a: an exact method."""
    return verdict(evidence.method("unwrapping")[1], evidence.recommended("unwrapping"))


def before_background(evidence: Evidence) -> Verdict:
    """4.b: what came first, combination or background removal."""
    combined, removed = evidence.method("echo-combination")[1], evidence.method("background")[1]
    if len(evidence.echo_times_ms()) == 1:
        return Verdict(NO_CASE, "one echo")
    return verdict(f"{combined}, then {removed}" if combined and removed else "", True)


def combination(evidence: Evidence) -> Verdict:
    """4.c: one of the two ways of the paper."""
    method, title = evidence.method("echo-combination")
    offset = evidence.method("phase-offset")[1]
    if not method:
        return unknown()
    if len(evidence.echo_times_ms()) == 1:
        return Verdict(NO_CASE, "one echo")
    if method == "nonlinear-fit":
        unwrapped = evidence.method("unwrapping")[1]
        return verdict(f"{title}; {unwrapped}", evidence.recommended("unwrapping"))
    if method == "linear-fit":
        return verdict(f"{title}, which fits the offset along", evidence.recommended("echo-combination"))
    told = f"phase offset removed by {offset}" if offset else "no phase offset was removed"
    return verdict(
        f"{told}; {evidence.method('unwrapping')[1]}; {title}", bool(offset) and evidence.recommended("unwrapping")
    )


def brain_mask(evidence: Evidence) -> Verdict:
    """5.a, mask 1: how the brain was extracted, and from which image."""
    method, title = evidence.method("mask")
    kind, image = evidence.method("mask-image")
    volume = evidence.number("mask", "volume")
    value = title + (f" of the {image}" if image else "") + (f", {volume:.2f} L" if volume is not None else "")
    if method == "imported":
        return unknown(f"{value}: how it was made is not told")
    return verdict(value, evidence.recommended("mask") and kind in ("", *GOOD_IMAGES))


def reliable_mask(evidence: Evidence) -> Verdict:
    """5.a, mask 2: a threshold of the phase quality, multiplied with mask 1."""
    method, title = evidence.method("reliable-mask")
    if not method:
        return unknown()
    threshold, share = (
        evidence.parameter("reliable-mask", "quality_threshold"),
        evidence.value("reliable-mask", "unreliable_share"),
    )
    if threshold is not None and threshold.acts and _is_zero(threshold):
        return verdict(f"{title}: a threshold of 0 leaves every voxel in", False)
    left_out = f"; {share:.1f} % of the brain left out" if isinstance(share, int | float) else ""
    return verdict(title + left_out, True)


def _is_zero(parameter: Parameter) -> bool:
    try:
        return float(parameter.value) == 0
    except ValueError:
        return False


def holes_filled(evidence: Evidence) -> Verdict:
    """5.b: mask 3 without holes."""
    filled, count = (
        evidence.value("background-mask", "holes_filled"),
        evidence.value("background-mask", "filled_voxels"),
    )
    if not isinstance(filled, bool):
        return unknown()
    title = evidence.method("background-mask")[1]
    return verdict(title + (f"; {count} voxels filled" if filled and isinstance(count, int) else ""), filled)


def holes_in_the_inversion(evidence: Evidence) -> Verdict:
    """5.c: unreliable voxels may be left out of the inversion; merged reconstructions where their values matter."""
    two_pass, share = evidence.parameter("inversion", "two_pass"), evidence.number("inversion", "unweighted_share")
    if two_pass is not None and two_pass.switch:
        return verdict("reconstructions with and without these voxels are merged (two passes)", True)
    if share is None:
        return unknown()
    if share == 0:
        return Verdict(NO_CASE, "no voxel is unreliable enough to be left out")
    return verdict(
        f"{share:.2g} % of the voxels have no weight in the inversion; their own values are not merged", True
    )


def cut_to_the_mask(evidence: Evidence) -> Verdict:
    """5.d: the map multiplied by the mask without holes."""
    holes, filled = evidence.measured("mask_holes"), evidence.value("background-mask", "holes_filled")
    if not evidence.steps("inversion"):
        return unknown()
    if holes is not None:
        value = f"maps are cut to mask 4, of which {short(holes)} are holes"
        return verdict(value, float(holes.value) == 0 or holes.within)
    return verdict(
        "maps are cut to mask 4" if isinstance(filled, bool) else "", filled if isinstance(filled, bool) else None
    )


def vsharp(evidence: Evidence) -> Verdict:
    """6.a: V-SHARP where the mask may be faulty."""
    method, title = evidence.method("background")
    if method == "pdf":
        return Verdict(NO_CASE, f"{title} was chosen (6.b)")
    if method in ("v-sharp", "sharqnet"):
        return verdict(title, method == "v-sharp")
    return verdict(title, False if method else None)


def pdf(evidence: Evidence) -> Verdict:
    """6.b: PDF where the whole brain with its surface is wanted."""
    method, title = evidence.method("background")
    if method == "pdf":
        return verdict(title, True)
    return Verdict(NO_CASE, f"{title} was chosen") if method else unknown()


def rim(evidence: Evidence) -> Verdict:
    """6.c: what was eroded, and what the field is like at the rim."""
    kept, whole = evidence.number("background", "mask_voxels"), evidence.number("background-mask", "mask_voxels")
    field, lost = evidence.measured("background_rim"), evidence.measured("mask_lost")
    told = [f"{100 * kept / whole:.1f} % of mask 3 kept"] if kept and whole else []
    told += [f"{short(lost)} of the brain lost (limit: {lost.limits})"] if lost else []
    told += [f"field at the rim {short(field)} times that inside (limit: {field.limits})"] if field else []
    judged = [line.within for line in (field, lost) if line is not None]
    good = None if len(judged) < 2 or None in judged else all(judged)
    return verdict("; ".join(told), good)


def sparse(evidence: Evidence) -> Verdict:
    """7.a: a penalty that favours sparse edges."""
    method, title = evidence.method("inversion")
    known = registry.judged("inversion", method)
    return verdict(title, None if known is None else known.sparse)


def penalty(evidence: Evidence) -> Verdict:
    """7.b: the software's defaults, or values tuned on a typical case and kept for the protocol."""
    steps = evidence.steps("inversion")
    if not steps:
        return unknown()
    step = steps[0]
    if evidence.value("inversion", "network"):
        return Verdict(NO_CASE, f"{step.title} has no penalty to choose")
    changed = [p for p in step.parameters if p.acts and not p.default and p.name not in NOT_OF_THE_PENALTY]
    tuned = evidence.run.tuned
    loose = [p for p in changed if not is_tuned(p, step, tuned)]
    if loose:
        told = ", ".join(f"{p.name} = {p.value}" for p in loose)
        return verdict(f"changed without a file of qsmprep-tools tune: {told}", False)
    if changed:
        return verdict(f"tuned: {tuned.get('option')} = {_short(tuned.get('value'))} ({tuned.get('reason', '')})", True)
    if far := _far_protocol(evidence):
        return Verdict(CANNOT_KNOW, f"defaults, but {far}: choose by qsmprep-tools tune on a typical case")
    return verdict("the defaults of the software", True)


def is_tuned(parameter: Parameter, step: RecordedStep, tuned: Mapping[str, Any]) -> bool:
    """Whether a parameter of the inversion has the value that `qsmprep-tools tune` chose for its method."""
    if tuned.get("method") != step.method:
        return False
    followers = tuned.get("followers")
    values = {tuned.get("option"): tuned.get("value"), **(followers if isinstance(followers, Mapping) else {})}
    chosen = values.get(parameter.name)
    if not isinstance(chosen, int | float):
        return False
    try:
        return abs(float(parameter.value) - chosen) <= 1e-4 * abs(chosen)
    except ValueError:
        return False


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _far_protocol(evidence: Evidence) -> str:
    """How a protocol departs much from the suggested ones; empty where it does not, or nothing tells."""
    sizes, field = evidence.item("voxel_size").numbers, evidence.field_t()
    if len(sizes) != 3 or not field:
        return ""
    suggested = suggested_edge_mm(field)
    return (
        f"voxels of {max(sizes):g} mm are far from the suggested {suggested:.2g}"
        if max(sizes) > DEPARTS * suggested
        else ""
    )
