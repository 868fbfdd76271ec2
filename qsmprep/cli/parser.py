"""The command line of `qsmprep`: parsing only. Flags of methods come from the registry."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsmprep import __version__, registry, settings
from qsmprep.app.request import Request
from qsmprep.bids.reuse import KINDS
from qsmprep.cli.arguments import add_options, given_options
from qsmprep.cli.habits import add_habits, settled
from qsmprep.cli.help import EPILOG, HelpAction, TopicParser
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.presets import DEFAULT_PIPELINE, PRESETS, SLOPPY
from qsmprep.stages import stage_of

DESCRIPTION = """\
Quantitative susceptibility mapping of a BIDS dataset of multi-echo gradient-echo MRI, step by step as the ISMRM
consensus asks. Writes field maps, susceptibility, relaxation maps, masks and a report for each subject."""
LEVELS = ("participant", "group")


def parse(argv: Sequence[str]) -> tuple[Request, settings.Settings]:
    """Request and settings of a command line. Exits with status 2 and one message when it makes no sense."""
    parser = build_parser()
    given = parser.read(argv)
    if given.analysis_level is None:
        names = {"bids_dir": "BIDS_DIR", "output_dir": "OUTPUT_DIR", "analysis_level": " or ".join(LEVELS)}
        missing = ", ".join(name for key, name in names.items() if getattr(given, key) is None)
        parser.error(f"{missing} missing; give them before the flags, since a flag of several values takes every word "
                     "up to the next flag")  # fmt: skip
    try:
        settled(given)
        document = settings.read_settings(given.config_file) if given.config_file else {}
        chosen = settings.build(document, _document(given))
        request = Request(
            bids_dir=given.bids_dir,
            output_dir=given.output_dir,
            work_dir=given.work_dir,
            participant_labels=tuple(given.participant_label or ()),
            session_labels=tuple(given.session_label or ()),
            filter_file=given.bids_filter_file,
            database_dir=given.bids_database_dir,
            derivatives=tuple(_named_path(word) for word in given.derivatives or ()),
            reuse=tuple(dict.fromkeys(given.reuse or ())),
            mask_file=given.mask_file,
            segmentation_file=given.segmentation_file,
            atlases=tuple(tuple(paths) for paths in given.atlas or ()),
            skip_validation=given.skip_bids_validation,
            clean_workdir=given.clean_workdir,
            dry_run=given.dry_run,
            boilerplate_only=given.boilerplate_only,
            reports_only=given.reports_only,
            resource_monitor=given.resource_monitor,
            write_graph=given.write_graph,
            markdown_only=given.md_only_boilerplate,
            analysis_level=given.analysis_level,
            plugin_file=given.nipype_plugin_file,
            verbosity=given.verbose,
            command=shlex.join(["qsmprep", *argv]),
        )
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    return request, chosen


def build_parser() -> TopicParser:
    """The whole parser."""
    parser = TopicParser(prog="qsmprep", description=DESCRIPTION, epilog=EPILOG)
    for action in (
        parser.add_argument("bids_dir", type=folder_path, metavar="BIDS_DIR", help="folder of the BIDS dataset"),
        parser.add_argument(
            "output_dir", type=folder_path, metavar="OUTPUT_DIR", help="folder of the results, made if missing"
        ),
        parser.add_argument(
            "analysis_level", choices=LEVELS, help="participant: each subject; group: one page over all"
        ),
    ):
        action.required = False  # `parse` tells of what is missing, as it knows why it often is
    _add_selection(parser.add_topic("data", "What to process"))
    _add_execution(parser.add_topic("execution", "Execution"))
    add_habits(parser.add_topic("habits", "Habits (flags of fMRIPrep, beside those of the same name above)"))
    _add_cluster(parser.add_topic("cluster", "One job a step on a cluster (one a participant: qsmprep-tools cluster)"))
    _add_pipeline(parser)
    for step in settings.SECTIONS:
        if step not in parser.topics:
            _add_step(parser, step)
    parser.topics["input"].group.add_argument(
        "--bids-database-dir", type=folder_path, metavar="PATH",
        help="taken for the sake of scripts written for fMRIPrep: no index is needed, and none is read or written",
    )  # fmt: skip
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--participant-label", nargs="+", metavar="ID", help="only these subjects, with or without sub-")
    group.add_argument("--session-label", nargs="+", metavar="LABEL", help="only these sessions, with or without ses-")
    group.add_argument(
        "--bids-filter-file",
        type=file_path,
        metavar="JSON",
        help='entities to select, as {"megre": {"acquisition": "x"}}',
    )
    group.add_argument("--skip-bids-validation", action="store_true", help="do not run bids-validator-deno")
    group.add_argument(
        "--derivatives", nargs="+", metavar="NAME=PATH",
        help="datasets with brain masks (desc-brain_mask) and segmentations: dseg images, FreeSurfer, FastSurfer, "
        "SynthSeg",
    )  # fmt: skip
    group.add_argument(
        "--reuse", nargs="+", choices=tuple(KINDS), metavar="KIND",
        help=f"results in --derivatives to take over: {', '.join(KINDS)}",
    )  # fmt: skip
    group.add_argument(
        "--mask-file", type=file_path, metavar="NIFTI", help="brain mask used for every run, on the grid of the images"
    )
    group.add_argument(
        "--segmentation-file", type=file_path, metavar="NIFTI",
        help="label image used for every run, for --reference segmentation on the grid of the images",
    )  # fmt: skip
    group.add_argument(
        "--atlas", nargs=3, action="append", type=file_path, metavar=("IMAGE", "LABELS.tsv", "TEMPLATE"),
        help="atlas of regions, registered by its template; needs qsmprep[atlas]; may be repeated",
    )  # fmt: skip


def _add_execution(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-h", "--help", action=HelpAction, nargs="?", metavar="TOPIC", help="show this help, or that of a topic"
    )
    group.add_argument("--version", action="version", version=f"qsmprep {__version__}", help="show the version")
    group.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv: everything")
    group.add_argument(
        "-w", "--work-dir", type=folder_path, default="work", metavar="PATH",
        help="intermediate files, so that a killed run continues (default: ./work)",
    )  # fmt: skip
    group.add_argument("--clean-workdir", action="store_true", help="empty the work folder of earlier results first")
    group.add_argument(
        "--config-file",
        type=file_path,
        metavar="TOML",
        help="settings file, such as qsmprep.toml in an earlier run's logs",
    )
    group.add_argument("--dry-run", action="store_true", help="check everything, show the plan, write nothing")
    group.add_argument("--boilerplate-only", action="store_true", help="write only the methods text and bibliography")
    group.add_argument(
        "--reports-only", action="store_true", help="write only the reports, from an earlier run's outputs"
    )
    add_options(group, settings.ExecutionOptions)


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--nipype-plugin-file", "--use-plugin", type=file_path, metavar="FILE",
        help='YAML or JSON with nipype\'s plugin that submits each step, as {"plugin": "SLURM", "plugin_args": '
        '{"sbatch_args": "--partition=main"}}, in place of --plugin',
    )  # fmt: skip


def _add_pipeline(parser: TopicParser) -> None:
    """Add the preset, and each stage followed by its methods."""
    presets = {name: _differences(name) for name in PRESETS}
    parser.add_topic("pipeline", "Pipeline (a preset, and the methods that replace the preset's)", presets).add_argument(
        "--pipeline", choices=tuple(PRESETS), metavar="PRESET", default=argparse.SUPPRESS,
        help=f"{', '.join(name for name in PRESETS if name != SLOPPY)} (default: {DEFAULT_PIPELINE})",
    )  # fmt: skip
    for stage in registry.stages():
        methods = {method.name: method for method in registry.METHODS if method.stage == stage}
        words = {word: methods[word].title if word in methods else stage_of(stage).words[word]
                 for word in settings.methods_of(stage)}  # fmt: skip
        several, bare = stage_of(stage).several, stage_of(stage).bare
        text = ", ".join(words) + ("; several give one map each, the first is the main one" if several else "")
        text += f"; alone: {bare}" if bare else ""
        parser.add_topic(stage, f"Stage {stage}", words).add_argument(
            f"--{stage}", dest=stage, choices=tuple(words), nargs="+" if several else "?" if bare else None, metavar="METHOD",
            const=bare or None, default=argparse.SUPPRESS, help=f"{text} (default: {_of_preset(DEFAULT_PIPELINE, stage)})",
        )  # fmt: skip
        for method in methods.values():
            options_type = method.options_type()
            group = parser.add_topic(method.name, f"Method {method.name} (--{stage} {method.name}), {method.title}")
            if options_type is not None:
                add_options(group, options_type, method.name)


def _add_step(parser: TopicParser, step: str) -> None:
    """Add the options of a step without alternatives."""
    several = {"methods": tuple(settings.ORIENTATION_METHODS)} if step == "orientation" else {}
    prefix = settings.SECTIONS[step].flag_prefix
    add_options(parser.add_topic(step, f"Step {step}"), settings.step_options_type(step), prefix, several)


def _of_preset(preset: str, stage: str) -> str:
    return str(PRESETS[preset][stage]["method"][0])


def _differences(preset: str) -> str:
    """A preset in words: its methods, with the options that it sets."""
    words = []
    for stage in registry.stages():
        name = _of_preset(preset, stage)
        options = PRESETS[preset][stage].get(name, {})
        set_to = ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in options.items()
        )
        words += [f"{name} ({set_to})" if set_to else name] if name != "auto" else []
    for step in settings.SECTIONS:
        options = PRESETS[preset].get(step, {})
        words += [f"{step} ({', '.join(f'{key} {value}' for key, value in options.items())})"] if options else []
    return ", ".join(words)


def _document(given: argparse.Namespace) -> dict[str, Any]:
    """The settings document of what was given on the command line."""
    values = vars(given)
    document: dict[str, Any] = {name: values[name] for name in ("pipeline",) if name in values}
    for stage in registry.stages():
        section: dict[str, Any] = {}
        if stage in values:
            section["method"] = [values[stage]] if isinstance(values[stage], str) else list(values[stage])
        for method in registry.METHODS:
            options_type = method.options_type() if method.stage == stage else None
            if options_type and (options := given_options(given, options_type, method.name)):
                section[method.name] = options
        if section:
            document[stage] = section
    for step, row in settings.SECTIONS.items():
        options = given_options(given, settings.step_options_type(step), row.flag_prefix)
        if options:
            document[step] = options
    return document


def _named_path(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    if not equals or not name:
        raise ValueError(f"--derivatives {word!r}: give NAME=PATH.")
    folder = folder_path(path)
    if not folder.is_dir():
        raise ValueError(f"--derivatives {word!r}: {path} is no folder.")
    return name, folder
