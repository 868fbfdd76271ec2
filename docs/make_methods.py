"""Write docs/methods.md, docs/outputs.md and docs/consensus.md from the tables of the program."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from qsmprep import registry, settings
from qsmprep.bids.outputs import OUTPUTS, output_path
from qsmprep.cli.arguments import flag
from qsmprep.options import default_text
from qsmprep.presets import DEFAULT_PIPELINE, PRESETS
from qsmprep.report.bibliography import cited
from qsmprep.report.checklist import RECOMMENDATIONS
from qsmprep.report.deviations import DEVIATIONS

HERE = Path(__file__).parent


def methods_page() -> str:
    """Every method of every step with its options, and the options of the steps without alternatives."""
    lines = ["# Methods and their options", "", "Made by `docs/make_methods.py` from the registry.", ""]
    for stage in registry.stages():
        preset = PRESETS[DEFAULT_PIPELINE][stage]["method"][0]
        lines += [f"## `--{stage}`", "", f"Choices: {', '.join(settings.methods_of(stage))}. Default: {preset}.", ""]
        for method in registry.METHODS:
            if method.stage == stage:
                lines += [f"### {method.name}: {method.title}", ""]
                lines += [f"* {reference.long()}" for reference in cited(method.citations)] + [""]
                if method.options_class:
                    lines += _table(method.options_type(), method.name)
    lines += ["# Steps without alternatives", ""]
    for step, section in settings.SECTIONS.items():
        prefix = section.flag_prefix
        lines += [f"## {step}", "", *_table(settings.step_options_type(step), prefix)]
    return "\n".join(lines).rstrip() + "\n"


def outputs_page() -> str:
    """The table of outputs."""
    lines = ["# Outputs", "", "Made by `docs/make_methods.py` from the table of outputs.", "",
             "| file | unit | what | made from |", "|---|---|---|---|"]  # fmt: skip
    for key, output in OUTPUTS.items():
        path = output_path(key, "sub-X").as_posix()
        lines.append(f"| `{path}` | {output.units or 'mask'} | {output.description} | {', '.join(output.parents)} |")
    return "\n".join(lines) + "\n" + (HERE / "outputs_more.txt").read_text("utf-8")


def consensus_page() -> str:
    """How the default follows the consensus, with the list of departures that the report shows too."""
    lines = ["| step | the paper's example | here | to have the example's way |", "|---|---|---|---|"]
    lines += [
        f"| {d.method or d.stage} | {d.example} | {d.here} | {f'`{d.option}`' if d.option else 'no option'} |"
        for d in DEVIATIONS
    ]
    recommendations = [
        "| no. | recommendation |",
        "|---|---|",
        *(f"| {i} | {text} |" for i, text, _ in RECOMMENDATIONS),
    ]
    page = (HERE / "consensus.txt").read_text("utf-8")
    return page.replace("DEPARTURES", "\n".join(lines)).replace("RECOMMENDATIONS", "\n".join(recommendations))


def _table(options_class: type, prefix: str) -> list[str]:
    lines = ["| flag | default | unit | range | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(options_class):
        facts = field.metadata
        low, high = facts.get("low"), facts.get("high")
        allowed = ", ".join(facts["choices"]) if facts.get("choices") else _range(low, high)
        words = (f"`{flag(prefix, field.name)}`", default_text(field), facts["unit"], allowed, facts["help"])
        lines.append("| " + " | ".join(word.replace("|", r"\|") for word in words) + " |")
    return [*lines, ""]


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"{'' if low is None else f'{low:g} <= '}x{'' if high is None else f' <= {high:g}'}"


if __name__ == "__main__":
    (HERE / "methods.md").write_text(methods_page(), "utf-8")
    (HERE / "outputs.md").write_text(outputs_page(), "utf-8")
    (HERE / "consensus.md").write_text(consensus_page(), "utf-8")
