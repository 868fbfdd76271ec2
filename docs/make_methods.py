"""Write docs/methods.md from the registry and docs/outputs.md from the table of outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from qsmprep import registry, settings
from qsmprep.bids.outputs import OUTPUTS, output_path
from qsmprep.report.bibliography import cited

HERE = Path(__file__).parent


def methods_page() -> str:
    """Every method of every step with its options, and the options of the steps without alternatives."""
    lines = ["# Methods and their options", "", "Made by `docs/make_methods.py` from the registry.", ""]
    for stage in registry.stages():
        preset = settings.PRESETS[settings.DEFAULT_PIPELINE][stage]["method"][0]
        lines += [f"## `--{stage}`", "", f"Choices: {', '.join(settings.methods_of(stage))}. Default: {preset}.", ""]
        for method in registry.METHODS:
            if method.stage == stage:
                lines += [f"### {method.name}: {method.title}", ""]
                lines += [f"* {reference.long()}" for reference in cited(method.citations)] + [""]
                if method.options_class:
                    lines += _table(method.options_type(), method.name)
    lines += ["# Steps without alternatives", ""]
    for step, section in settings.SECTIONS.items():
        prefix = "" if step == "reference" else section.flag_prefix
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


def _table(options_class: type, prefix: str) -> list[str]:
    lines = ["| flag | default | unit | range | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(options_class):
        facts = field.metadata
        low, high = facts.get("low"), facts.get("high")
        allowed = ", ".join(facts["choices"]) if facts.get("choices") else _range(low, high)
        flag = "--" + "-".join(part for part in (prefix, field.name.replace("_", "-")) if part)
        flag = "--reference" if options_class is settings.ReferenceOptions else flag
        default = {True: "yes", False: "no", None: "none"}.get(field.default) if not _is_number(field.default) else None
        shown = default or (f"{field.default:g}" if _is_number(field.default) else field.default)
        lines.append(f"| `{flag}` | {shown} | {facts.get('unit', '')} | {allowed} | {facts['help']} |")
    return [*lines, ""]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(low, high) -> str:
    if low is None and high is None:
        return ""
    return f"{'' if low is None else f'{low:g} <= '}x{'' if high is None else f' <= {high:g}'}"


if __name__ == "__main__":
    (HERE / "methods.md").write_text(methods_page(), "utf-8")
    (HERE / "outputs.md").write_text(outputs_page(), "utf-8")
