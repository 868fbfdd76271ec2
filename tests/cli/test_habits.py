"""Flags as users of fMRIPrep know them."""

import pytest

from qsmprep.cli.parser import parse
from qsmprep.presets import SLOPPY

PATHS = ("data", "out", "participant")


@pytest.mark.parametrize(
    ("words", "megabytes"),
    [("16G", 16384), ("16GB", 16384), ("0.5T", 524288), ("2048M", 2048), ("2097152k", 2048), ("16000", 16000)],
)
def test_memory_may_have_a_unit(words, megabytes):
    for flag in ("--mem", f"--mem={words}"):
        _, chosen = parse([*PATHS, flag, words] if "=" not in flag else [*PATHS, flag])
        assert chosen.steps["execution"].mem_mb == megabytes


@pytest.mark.parametrize("flag", ["--nthreads", "--n_cpus", "--n-cpus", "--nprocs"])
def test_the_number_of_cores_has_several_names(flag):
    assert parse([*PATHS, flag, "3"])[1].steps["execution"].nprocs == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--mem", "much"], "'much' is no memory"),
        (["--mem", "1M"], "1M is outside"),
        (["--nthreads", "0"], "0 is outside"),
        (["--nthreads", "x"], "'x' is no whole number"),
        (["--sloppy", "--pipeline", "fast"], "exclude each other"),
        (["--debug", "--plugin", "pool"], "leave --plugin pool out"),
    ],
)
def test_what_makes_no_sense_is_refused_by_flag(capsys, words, reason):
    with pytest.raises(SystemExit) as caught:
        parse([*PATHS, *words])
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_sloppy_is_a_preset_and_debug_three_options(capsys):
    request, chosen = parse([*PATHS, "--sloppy", "--debug"])
    assert chosen.pipeline == SLOPPY and chosen.method("inversion") == "tkd" and chosen.method("separation") == "none"
    execution = chosen.steps["execution"]
    assert execution.plugin == "linear" and execution.stop_on_first_crash and request.verbosity == 2
    assert capsys.readouterr().err == ""


def test_what_changes_nothing_is_accepted_and_says_so(capsys):
    plain = parse([*PATHS])[1]
    assert parse([*PATHS, "--notrack", "--random-seed", "0"])[1] == plain
    said = capsys.readouterr().err
    assert (
        "--notrack: nothing is ever tracked" in said
        and "--random-seed: the seed of a step that draws numbers is fixed" in said
    )
