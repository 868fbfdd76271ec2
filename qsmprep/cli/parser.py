"""The command line of `qsmprep`: parsing only. Flags of methods come from the registry."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsmprep import __version__, registry, settings
from qsmprep.app.request import Request
from qsmprep.cli.arguments import add_options, given_options
from qsmprep.stages import stage_of

DESCRIPTION = """\
Quantitative susceptibility mapping of a BIDS dataset of multi-echo gradient-echo MRI, step by step as the ISMRM
consensus asks. Writes field maps, susceptibility, relaxation maps, masks and a report for each subject."""
EPILOG = "Every flag may be written with - or _. Exit status: 0 every run succeeded, 1 something failed, 2 wrong usage."


def parse(argv: Sequence[str]) -> tuple[Request, settings.Settings]:
    """Request and settings of a command line. Exits with status 2 and one message when it makes no sense."""
    parser = build_parser()
    given = parser.parse_args([_hyphens(word) for word in argv])
    try:
        document = settings.read_toml(given.config_file) if given.config_file else {}
        chosen = settings.build(document, _document(given))
        request = Request(
            bids_dir=given.bids_dir.absolute(),
            output_dir=given.output_dir.absolute(),
            work_dir=given.work_dir.absolute(),
            participant_labels=tuple(given.participant_label or ()),
            session_labels=tuple(given.session_label or ()),
            filter_file=given.bids_filter_file,
            derivatives=tuple(_named_path(word) for word in given.derivatives or ()),
            mask_file=given.mask_file,
            segmentation_file=given.segmentation_file,
            atlases=tuple(tuple(path.absolute() for path in paths) for paths in given.atlas or ()),
            skip_validation=given.skip_bids_validation,
            clean_workdir=given.clean_workdir,
            dry_run=given.dry_run,
            boilerplate_only=given.boilerplate_only,
            reports_only=given.reports_only,
            analysis_level=given.analysis_level,
            verbosity=given.verbose,
            command=" ".join(["qsmprep", *argv]),
        )
    except ValueError as error:
        parser.error(str(error))
    return request, chosen


def build_parser() -> argparse.ArgumentParser:
    """The whole parser."""
    parser = argparse.ArgumentParser(
        prog="qsmprep", usage="qsmprep BIDS_DIR OUTPUT_DIR {participant,group} [options]", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=118),
    )  # fmt: skip
    parser.add_argument("bids_dir", type=Path, help="folder of the BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="folder for the derivatives; made if missing")
    parser.add_argument("analysis_level", choices=("participant", "group"), help="each subject, or the page over all")
    parser.add_argument("--version", action="version", version=f"qsmprep {__version__}")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="tell more; -vv for everything")
    _add_selection(parser.add_argument_group("What to process"))
    _add_execution(parser.add_argument_group("Execution"))
    _add_science(parser)
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--participant-label", nargs="+", metavar="LABEL", help="only these subjects (with or without sub-)"
    )
    group.add_argument("--session-label", nargs="+", metavar="LABEL", help="only these sessions (with or without ses-)")
    group.add_argument(
        "--bids-filter-file", type=Path, metavar="JSON", help='entities to select, as {"megre": {"acquisition": "x"}}'
    )
    group.add_argument(
        "--skip-bids-validation", action="store_true", help="do not run bids-validator-deno even where it is installed"
    )
    group.add_argument(
        "--derivatives",
        nargs="+",
        metavar="NAME=PATH",
        help="derivative datasets whose brain masks (desc-brain_mask) and segmentations (dseg, or folders of FreeSurfer, "
        "FastSurfer, SynthSeg) are used",
    )
    group.add_argument(
        "--mask-file", type=Path, metavar="NIFTI", help="brain mask on the grid of the images, used for every run"
    )
    group.add_argument(
        "--segmentation-file",
        type=Path,
        metavar="NIFTI",
        help="label image, used for every run; for --reference segmentation on the grid of the images",
    )
    group.add_argument(
        "--atlas", nargs=3, action="append", type=Path, metavar=("IMAGE", "LABELS.tsv", "TEMPLATE"),
        help="atlas for regional values, registered by its template (needs qsmprep[atlas]); may be given several times",
    )  # fmt: skip


def _add_execution(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        default=Path("work"),
        metavar="PATH",
        help="folder for intermediate files, kept so that a killed run continues (default: ./work)",
    )
    group.add_argument("--clean-workdir", action="store_true", help="empty the work folder of earlier results first")
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="TOML",
        help="settings file, such as the qsmprep.toml of an earlier run's logs",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="check everything, show what would be done, write nothing"
    )
    group.add_argument("--boilerplate-only", action="store_true", help="write only the methods text and bibliography")
    group.add_argument(
        "--reports-only", action="store_true", help="write only the reports, from an earlier run's outputs"
    )
    add_options(group, settings.ExecutionOptions)


def _add_science(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Pipeline", "A preset, and for each step the method that replaces the preset's.")
    group.add_argument(
        "--pipeline",
        choices=tuple(settings.PRESETS),
        default=argparse.SUPPRESS,
        help=f"preset (default: {settings.DEFAULT_PIPELINE})",
    )
    for stage in registry.stages():
        several = stage_of(stage).several
        text = f"method; preset: {settings.PRESETS[settings.DEFAULT_PIPELINE][stage]['method'][0]}"
        if several:
            text += "; several give one map each, the first is the main one"
        group.add_argument(
            f"--{stage}",
            dest=stage,
            choices=settings.methods_of(stage),
            nargs="+" if several else None,
            default=argparse.SUPPRESS,
            help=text,
        )
    for step, section in settings.SECTIONS.items():
        if step == "execution":
            continue
        group = parser.add_argument_group(f"Step: {step}")
        if step == "reference":
            group.add_argument("--reference", dest="reference.region", default=argparse.SUPPRESS, **_region_argument())
        add_options(group, settings.step_options_type(step), section.flag_prefix)
        if step == "roi":
            group.add_argument(
                "--roi", dest="roi.values", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
                help="the same as --roi-values",
            )  # fmt: skip
        if step == "orientation":
            group.add_argument(
                "--multi-orientation", dest="orientation.methods", nargs="+", choices=tuple(settings.ORIENTATION_METHODS),
                action=_Joined, default=argparse.SUPPRESS, help="join the runs of each session: orientations of one head",
            )  # fmt: skip
    for method in registry.METHODS:
        if method.options_class:
            group = parser.add_argument_group(f"{method.stage}: {method.name}", method.title)
            add_options(group, method.options_type(), method.name)


def _region_argument() -> dict[str, Any]:
    facts = settings.ReferenceOptions.__dataclass_fields__["region"].metadata
    return {"choices": facts["choices"], "help": f"{facts['help']} (default: {settings.ReferenceOptions().region})"}


class _Joined(argparse.Action):
    """Several words as one, separated by commas."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, ",".join(values))


def _document(given: argparse.Namespace) -> dict[str, Any]:
    """The settings document of what was given on the command line."""
    values = vars(given)
    document: dict[str, Any] = {name: values[name] for name in ("pipeline",) if name in values}
    for stage in registry.stages():
        section: dict[str, Any] = {}
        if stage in values:
            section["method"] = [values[stage]] if isinstance(values[stage], str) else list(values[stage])
        for method in registry.METHODS:
            if method.stage == stage and method.options_class:
                options = given_options(given, method.options_type(), method.name)
                if options:
                    section[method.name] = options
        if section:
            document[stage] = section
    for step, section in settings.SECTIONS.items():
        options = given_options(given, settings.step_options_type(step), section.flag_prefix)
        if options:
            document[step] = options
    return document


def _hyphens(word: str) -> str:
    """`--participant_label=x_y` -> `--participant-label=x_y`."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _named_path(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    if not equals or not name:
        raise ValueError(f"--derivatives {word!r}: give NAME=PATH.")
    if not Path(path).is_dir():
        raise ValueError(f"--derivatives {word!r}: {path} is no folder.")
    return name, Path(path).absolute()
