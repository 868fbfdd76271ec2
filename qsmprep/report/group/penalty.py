"""Whether all runs share the penalty of the inversion, as the consensus asks (7.b)."""

from __future__ import annotations

from collections.abc import Sequence

from qsmprep.report.group.runs import GroupRun
from qsmprep.report.processing_checks import NOT_OF_THE_PENALTY, is_tuned
from qsmprep.report.record import Parameter, RecordedStep, Run
from qsmprep.stages import stage_of

Settings = tuple[str, tuple[tuple[str, str], ...]]


def penalty_sentence(runs: Sequence[GroupRun]) -> str:
    """One sentence for the page; empty where no run tells of its inversion.

    Failed runs and joined orientations do not count.
    """
    records = [run.record for run in runs if run.record is not None and run.record.succeeded and not run.joined]
    steps = [(record, step) for record in records if (step := _inversion(record)) is not None]
    kinds = {_settings(step) for _, step in steps}
    if not steps:
        return ""
    if len(kinds) > 1:
        return (
            f"The penalty of the inversion is not the same in all runs: {len(kinds)} settings in {len(steps)} runs. "
            "The consensus (7.b) asks to keep it fixed for a protocol; the table tells which runs differ."
        )
    record, step = steps[0]
    title = step.title or step.method
    changed = [p for p in _penalty(step) if not p.default]
    if not changed:
        told = "the defaults of the software"
    else:
        told = ", ".join(f"{p.name} = {p.value}" for p in changed)
        if all(is_tuned(p, step, record.tuned) for p in changed):
            told += f"; tuned on one case by qsmprep-tools tune ({record.tuned.get('reason', 'no reason recorded')})"
    count = "the one run has" if len(steps) == 1 else f"all {len(steps)} runs share"
    return f"Penalty of the inversion ({title}): {count} {told}."


def _inversion(record: Run) -> RecordedStep | None:
    return next((step for step in record.steps if stage_of(step.stage).name == "inversion"), None)


def _penalty(step: RecordedStep) -> list[Parameter]:
    return [p for p in step.parameters if p.acts and p.name not in NOT_OF_THE_PENALTY]


def _settings(step: RecordedStep) -> Settings:
    return step.method, tuple((p.name, p.value) for p in _penalty(step))
