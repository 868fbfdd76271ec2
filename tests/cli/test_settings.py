"""Settings: defaults < preset < file < command line, checked, and written so that they can be read back."""

import os
import tomllib

import pytest
import tomli_w

from qsmprep import settings
from qsmprep.cli.parser import parse

PATHS = ["data", "out", "participant"]


def chosen(*words):
    return parse([*PATHS, *words])[1]


def test_presets_are_the_consensus():
    assert chosen().method("inversion") == "fansi"
    assert chosen("--pipeline", "consensus-medi").method("inversion") == "medi"
    assert chosen("--pipeline", "fast").method("inversion") == "rts"
    assert chosen().method("background") == "v-sharp"
    fansi = chosen().options_of("inversion", "fansi")
    assert (fansi.alpha1, fansi.mu1, fansi.mu2, fansi.max_iterations) == (5e-4, 0.05, 1.0, 400)


def test_command_line_overrides_file_overrides_preset(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('pipeline = "fast"\n[inversion]\nmethod = ["tkd"]\n[inversion.tkd]\nthreshold = 0.2\n', "utf-8")
    from_file = chosen("--config-file", str(file))
    assert from_file.pipeline == "fast"
    assert from_file.method("inversion") == "tkd"
    assert from_file.options_of("inversion", "tkd").threshold == 0.2
    over = chosen("--config-file", str(file), "--tkd-threshold", "0.1", "--inversion", "tkd", "rts")
    assert over.options_of("inversion", "tkd").threshold == 0.1
    assert over.methods["inversion"] == ("tkd", "rts")


def test_written_settings_give_equal_settings():
    first = chosen("--inversion", "medi", "rts", "--v-sharp-max-radius", "8", "--echoes", "1,3", "--mask", "robust")
    again = settings.build(tomllib.loads(tomli_w.dumps(settings.to_document(first))))
    assert settings.to_document(again) == settings.to_document(first)
    assert again.options_of("background", "v-sharp").max_radius == 8


def test_underscores_and_hyphens_are_the_same():
    request, _ = parse([*PATHS, "--participant_label", "01", "--skip_bids_validation", "--omp_nthreads=2"])
    assert request.participant_labels == ("01",)
    assert request.skip_validation


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (["--pipeline", "best"], "consensus-fansi"),
        (["--inversion", "magic"], "fansi"),
        (["--tkd-threshold", "-1"], "threshold"),
        (["--v-sharp-max-radius", "wide"], "v-sharp-max-radius"),
        (["--b0-direction", "0,0"], "0,0,1"),
        (["--b0-direction", "0,0,0"], "null"),
        (["--echoes", "0,1"], "counted from 1"),
        (["--echoes", "first"], "whole numbers"),
        (["--field-strength", "-3"], "--field-strength: -3 is outside; allowed is [0.1, 20] T"),
        (["--derivatives", "nowhere"], "NAME=PATH"),
        (["--config-file", "none.toml"], "no such settings file"),
        (["--unknown-flag"], "unknown flag --unknown-flag"),
    ],
)
def test_wrong_usage_is_refused_with_status_2_and_names_the_remedy(words, needle, capsys):
    with pytest.raises(SystemExit) as caught:
        parse([*PATHS, *words])
    assert caught.value.code == 2
    assert needle in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("[inversion]\nmethod = ['tkd']\n[inversion.tkd]\nthresh = 0.1\n", "unknown option 'thresh'"),
        ("[colour]\nx = 1\n", "Unknown section 'colour'"),
        ("[inversion]\nmethod = ['tkd']\n[inversion.tkd]\nthreshold = 'a'\n", "threshold is 'a'; it must be a number"),
        ("[background]\nmethod = ['pdf', 'v-sharp']\n", "give one method"),
        ("[inversion]\nmethod = ['tkd', 'tkd']\n", "different"),
        ("this is no toml", "not a valid TOML"),
        ("background = 'pdf'\n", "background is 'pdf'; it must be a table, as [background] with method"),
        ("execution = 3\n", "execution is 3; it must be a table"),
        ("[background]\nmethod = 3\n", "background: method is 3; it must be a name"),
        ("[background]\nmethod = [['pdf']]\n", "background: method is ['pdf']; it must be a name"),
        ("[background]\nmethod = 'pdf'\npdf = 2\n", "background pdf is 2; it must be a table of options"),
        ("pipeline = ['fast']\n", "Unknown pipeline ['fast']"),
        ("[inversion.fansi]\nmax_iterations = 1" + "0" * 30, "fansi: max_iterations is 1000"),
        ("[inversion.fansi]\nalpha1 = 1" + "0" * 5000, "not a valid TOML"),
        ("[inversion.fansi]\nalpha1 = nan\n", "alpha1"),
        ("x = " + "[" * 5000, "not a valid TOML"),
    ],
)
def test_a_wrong_settings_file_is_refused(text, needle, tmp_path, capsys):
    file = tmp_path / "study.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(SystemExit) as caught:
        parse([*PATHS, "--config-file", str(file)])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert needle in told and str(file) in told


@pytest.mark.parametrize("what", ["folder", "pipe", "latin", "zeros"])
def test_a_settings_file_that_is_no_file_is_refused(what, tmp_path, capsys):
    file = tmp_path / "study.toml"
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "latin":
        file.write_bytes("[mask]\nmethod = 'b\u00e9t'\n".encode("latin-1"))
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(SystemExit) as caught:
        parse([*PATHS, "--config-file", str(file)])
    assert caught.value.code == 2 and str(file) in capsys.readouterr().err


def test_help_shows_every_method_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse(["--help", "all"])
    text = " ".join(capsys.readouterr().out.split())
    for word in ("--fansi-alpha1", "--medi-", "--v-sharp-max-radius", "--romeo-", "(default: 0.0005)"):
        assert word in text


def test_the_window_of_susceptibility_is_two_numbers_one_or_follows_the_map():
    def limits(word):
        return parse([*PATHS, f"--chi-window={word}"])[1].steps["display"].limits()

    assert parse(PATHS)[1].steps["display"].limits() == (-0.2, 0.2)
    assert (limits("-0.1,0.3"), limits("0.15"), limits("auto")) == ((-0.1, 0.3), (-0.15, 0.15), None)
    for word in ("wide", "0.2,-0.2", "0", "nan,1", "1,2,3", "-inf,0.2"):
        with pytest.raises(SystemExit):
            limits(word)


def test_reference_regions_of_a_settings_file_are_a_name_or_a_list():
    for given, regions in (("csf", ("csf",)), (["whole-brain", "csf"], ("whole-brain", "csf"))):
        chosen = settings.build({"reference": {"region": given}})
        assert chosen.steps["reference"].chosen() == regions
        again = settings.build(tomllib.loads(tomli_w.dumps(settings.to_document(chosen))))
        assert again == chosen
    for wrong, needle in (([], "list of names"), (["csf", "csf"], "different"), (["none", "csf"], "no other"),
                          ([4], "list of names"), ("brain", "choose")):  # fmt: skip
        with pytest.raises(ValueError, match=needle):
            settings.build({"reference": {"region": wrong}})


def test_every_option_of_every_step_is_a_flag():
    _, chosen = parse([*PATHS, "--reference", "segmentation", "--reference-label", "4", "--reference-csf-r2star", "6"])
    assert (chosen.steps["reference"].region, chosen.steps["reference"].label) == ("segmentation", "4")
    assert chosen.steps["reference"].csf_r2star == 6
    _, several = parse([*PATHS, "--reference", "csf", "whole-brain"])
    assert (several.steps["reference"].chosen(), several.steps["reference"].main) == (("csf", "whole-brain"), "csf")
    assert not parse([*PATHS, "--no-roi"])[1].steps["roi"].values
    assert parse([*PATHS, "--roi_erosion", "1"])[1].steps["roi"].erosion == 1
