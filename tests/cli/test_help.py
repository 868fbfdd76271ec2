"""The help: two screens first, the rest by topic, every flag once, one form of text, and mistakes told in one line."""

import argparse
import dataclasses
import re

import pytest

from qsmprep import registry, settings
from qsmprep.cli.commands import build_parser as build_tools_parser
from qsmprep.cli.parser import build_parser, parse
from qsmprep.nets.adaptation.options import AdaptOptions
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.phantom.options import SimulationOptions
from qsmprep.relaxometry.r2primenet import R2primenetOptions
from qsmprep.stages import STAGES
from qsmprep.training.recipe import DataOptions, TrainingOptions

PATHS = ("data", "out", "participant")
CLASSES = [method.options_type() for method in registry.METHODS if method.options_class]
CLASSES += [settings.step_options_type(step) for step in settings.SECTIONS]
CLASSES += [SimulationOptions, AdaptOptions, InferenceOptions, R2primenetOptions, DataOptions, TrainingOptions]
# An option's flag, its text, its unit, its default: text [unit] (default: value).
PARTS = re.compile(r"(?P<text>.*?)(?: \[[^\]]+\])?(?: \(default: [^()]+(?:\([^()]*\))?\))?")


def shown(monkeypatch, capsys, *words, columns=120):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as caught:
        parse(list(words))
    assert caught.value.code == 0
    return capsys.readouterr().out


def told(capsys, *words):
    """The one line that says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        parse(list(words))
    assert caught.value.code == 2
    usage, line = capsys.readouterr().err.splitlines()
    assert usage == "usage: qsmprep BIDS_DIR OUTPUT_DIR {participant,group} [options]"
    return line.removeprefix("qsmprep: error: ")


def flags_of(text):
    """Every flag that stands at the beginning of a line of help."""
    lines = [line.strip() for line in text.splitlines() if re.match(r" {2}-", line)]
    found = []
    for line in lines:
        for flag in re.match(r"-[^ ,]+(, -[^ ,]+)?", line).group().split(", "):
            found += [flag.replace("[no-]", ""), flag.replace("[no-]", "no-")] if "[no-]" in flag else [flag]
    return found


@pytest.mark.parametrize(("columns", "lines"), [(120, 80), (100, 95), (80, 115)])
def test_the_first_help_fits_two_screens(monkeypatch, capsys, columns, lines):
    text = shown(monkeypatch, capsys, "--help", columns=columns)
    assert len(text.splitlines()) <= lines
    assert max(map(len, text.splitlines())) <= columns
    for flag in ("--participant-label", "--nprocs", "--pipeline", "--inversion", "--reference", "--multi-orientation"):
        assert f"  {flag} " in text
    assert "--fansi-alpha1" not in text
    for name in (*registry.stages(), *settings.SECTIONS, "all"):
        assert name in text


def test_every_flag_is_under_one_topic_and_all_names_it(monkeypatch, capsys):
    parser = build_parser()
    known = sorted(flag for action in parser._actions for flag in action.option_strings)
    by_topic = [flag for name in parser.topics for flag in flags_of(parser.topic_help(name))]
    assert sorted(by_topic) == known
    assert sorted(flags_of(shown(monkeypatch, capsys, "--help", "all"))) == known
    assert sorted(flags_of(shown(monkeypatch, capsys, "-h", "ALL"))) == known
    assert set(flags_of(parser.format_help())) <= set(known)


@pytest.mark.parametrize("stage", registry.stages())
def test_a_stage_lists_its_methods_and_a_method_its_options(stage):
    parser = build_parser()
    text = parser.topic_help(stage)
    for name in settings.methods_of(stage):
        assert re.search(rf"^  {re.escape(name)} +\w", text, re.MULTILINE), name
    for method in registry.METHODS:
        if method.stage == stage:
            text = " ".join(parser.topic_help(method.name).split())
            assert f"Method {method.name} (--{stage} {method.name})" in text
            options_type = method.options_type()
            fields = dataclasses.fields(options_type) if options_type else ()
            assert fields or "no options" in text
            assert text.count("(default: ") == len(fields)


def test_every_word_beside_the_methods_is_explained():
    assert all(meaning for stage in STAGES for meaning in stage.words.values())


@pytest.mark.parametrize(
    "words",
    [
        ("--help", "fansi"),
        ("-h", "fansi"),
        ("--help=fansi",),
        (*PATHS, "--inversion", "medi", "--help", "FANSI"),
        ("--help", "fansi-alpha1"),
    ],
)
def test_a_topic_is_shown_wherever_help_stands(monkeypatch, capsys, words):
    text = shown(monkeypatch, capsys, *words)
    assert "--fansi-alpha1 NUMBER" in text
    assert "--medi-" not in text


def test_a_name_may_have_underscores_and_a_word_shows_its_stage(monkeypatch, capsys):
    assert "--v-sharp-threshold" in shown(monkeypatch, capsys, "--help", "v_sharp")
    assert "--mask METHOD" in shown(monkeypatch, capsys, "--help", "fsl-bet")
    assert "--nprocs N" in shown(monkeypatch, capsys, "--help", "execution")
    assert "iharperella" in shown(monkeypatch, capsys, "--help", "accurate")


def test_an_unknown_topic_names_near_ones_and_where_to_look(capsys):
    line = told(capsys, "--help", "fanzi")
    assert "'fanzi' (did you mean fansi?)" in line
    assert "`qsmprep --help` names stages and steps" in line
    assert "did you mean" not in told(capsys, "--help", "xyz")


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        ([], ["BIDS_DIR, OUTPUT_DIR, participant or group missing"]),
        (["data", "out"], ["participant or group missing"]),
        (["--participant-label", "01", *PATHS], ["missing", "up to the next flag"]),
        (["data", "out", "partcipant"], ["did you mean participant?"]),
        ([*PATHS, "more"], ["'more' is one word too many"]),
        ([*PATHS, "-x"], ["unknown flag -x"]),
        (["--fansi-alfa1", "1", *PATHS], ["--fansi-alfa1", "--fansi-alpha1", "--help fansi`"]),
        ([*PATHS, "--reference-region", "csf"], ["unknown flag --reference-region", "mean --reference "]),
        ([*PATHS, "--inversion", "fanzi"], ["--inversion: 'fanzi'", "did you mean fansi?"]),
        (["--inversion", "medi", *PATHS], ["'data' is not known", "up to the next flag"]),
        ([*PATHS, "--nprocs", "two"], ["--nprocs: 'two' is no whole number"]),
        ([*PATHS, "--fansi-alpha1", "0"], ["--fansi-alpha1: 0 is outside; allowed is [1e-09, inf]"]),
        ([*PATHS, "--nprocs"], ["--nprocs: expected one argument"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_flag_and_a_remedy(capsys, words, needles):
    line = told(capsys, *words)
    assert all(needle in line for needle in needles), line


def test_a_value_may_begin_with_a_minus():
    assert parse([*PATHS, "--b0-direction", "-1,0,0"])[1].steps["input"].b0_direction == "-1,0,0"


@pytest.mark.parametrize(
    ("words", "step", "option", "value"),
    [
        (["--reference", "csf"], "reference", "region", "csf"),
        (["--no-roi"], "roi", "values", False),
        (["--multi-orientation", "cosmos", "sti"], "orientation", "methods", "cosmos,sti"),
    ],
)
def test_one_flag_for_one_thing(words, step, option, value):
    assert getattr(parse([*PATHS, *words])[1].steps[step], option) == value
    parser = build_parser()
    other_names = parser.topics["habits"].actions
    destinations = [action.dest for action in parser._actions if action not in other_names]
    assert len(destinations) == len(set(destinations))


def parsers_below(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers_below(child)


def check_form(text):
    """Lower case first (but for names), no full stop, one sentence."""
    first = text.split()[0].rstrip(",;:")
    assert first[0].islower() or re.search(r"\d", first) or first.isupper(), text
    assert not re.search(r"\.( |$)", text.replace("...", "")), text
    assert "(default" not in text, text
    assert "  " not in text, text


@pytest.mark.parametrize("options_class", dict.fromkeys(CLASSES), ids=lambda kind: kind.__name__)
def test_the_text_of_every_option_has_one_form(options_class):
    for field in dataclasses.fields(options_class):
        check_form(field.metadata["help"])
        if field.default is None:
            assert field.metadata["none"] or field.name == "label", field.name


@pytest.mark.parametrize("build", [build_parser, build_tools_parser])
def test_the_help_of_every_flag_has_one_form(build):
    for parser in parsers_below(build()):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for choice in action._choices_actions:
                    check_form(choice.help)
                continue
            text = PARTS.fullmatch(action.help % {"default": action.default}).group("text")
            check_form(text)
            if action.nargs != 0 and not action.choices:
                assert action.metavar, action.option_strings
                assert action.metavar not in ("STR", "INT", "FLOAT")


def test_a_subcommand_tells_a_mistake_with_its_own_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        build_tools_parser().read(["score", "a", "b", "c", "--lables", "x"])
    assert caught.value.code == 2
    usage, line = capsys.readouterr().err.splitlines()
    assert usage == "usage: qsmprep-tools score RECON TRUTH MASK [options]"
    assert "unknown flag --lables (did you mean --labels?)" in line
    with pytest.raises(SystemExit):
        build_tools_parser().read(["simulat"])
    assert "did you mean simulate?" in capsys.readouterr().err
