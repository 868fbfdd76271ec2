"""Words of --output-spaces, files of TemplateFlow, and names of what is written in a template."""

import gzip
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from qsmprep.bids.outputs import OUTPUTS
from qsmprep.bids.space_files import IN_TEMPLATE, space_path, space_transform_path
from qsmprep.bids.spaces import KNOWN_TEMPLATES, Space, parse_spaces
from qsmprep.bids.templateflow import VARIABLE, template_files, templates_at_hand


def test_the_words_of_fmriprep_are_understood():
    words = ["native", "MNI152NLin2009cAsym:res-2", "MNI152NLin6Asym", "MNI152NLin2009cAsym:res-native", "func"]
    found = parse_spaces(words, KNOWN_TEMPLATES)
    assert found == (Space("MNI152NLin2009cAsym", ("2", "")), Space("MNI152NLin6Asym"))
    assert parse_spaces(["Mine:res-01:res-2"], ["Mine"]) == (Space("Mine", ("1", "2")),)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("MNI152NLin2009cAsm", "unknown space; did you mean MNI152NLin2009cAsym? Spaces are"),
        ("mni152nlin2009casym", "did you mean MNI152NLin2009cAsym?"),
        ("nativ", "did you mean native?"),
        ("Talairach", "unknown space. Spaces are native and templates"),
        ("fsaverage5", "is a surface"),
        ("fsLR:den-32k", "is a surface"),
        ("T1w", "not resampled to the T1w image"),
        ("MNI152NLin6Asym:res-3", "modifier 'res-3' is not known; it may be res-1"),
        ("MNIPediatricAsym:cohort-2", "cohort- is not supported"),
        ("native:res-2", "takes no modifier"),
        ("../x", "is no space"),
        ("", "is no space"),
    ],
)
def test_what_is_no_space_is_refused_with_what_is(word, told):
    with pytest.raises(ValueError, match="--output-spaces") as refusal:
        parse_spaces([word], KNOWN_TEMPLATES)
    assert told in str(refusal.value)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of TemplateFlow; add(template, name) puts a file there."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))

    def add(template, ending, content=b"x"):
        path = tmp_path / f"tpl-{template}" / f"tpl-{template}_{ending}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content) if content else b"")
        return path

    return add


def test_the_whole_head_with_its_mask_or_the_brain_alone_is_found(home):
    whole, mask = home("A", "res-01_T1w"), home("A", "res-01_desc-brain_mask")
    brain = home("B", "res-1_desc-brain_T1w")
    home("C", "res-01_T1w", content=b"")  # as TemplateFlow puts it there before it is fetched
    home("C", "res-01_desc-brain_mask")
    assert template_files("A") == (whole, mask)
    assert template_files("B") == (brain, None)
    assert templates_at_hand() == ("A", "B")


def test_what_is_missing_is_told_with_what_to_mount(home, tmp_path):
    home("C", "res-01_T1w", content=b"")
    with pytest.raises(ValueError, match="tpl-C_res-01_T1w") as refusal:
        template_files("C")
    assert str(tmp_path) in str(refusal.value)
    assert VARIABLE in str(refusal.value)


@pytest.fixture
def package(monkeypatch):
    """The package templateflow, with a function `get` that is given."""

    def install(get):
        for name in ("templateflow", "templateflow.api"):
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            module.get = get
            monkeypatch.setitem(sys.modules, name, module)

    return install


def test_the_package_fetches_what_is_not_there(home, package, tmp_path):
    asked = []

    def get(name, resolution, **wanted):
        asked.append((name, resolution, wanted))
        return [] if resolution else tmp_path / f"{wanted['suffix']}.nii.gz"  # a template of one resolution

    package(get)
    assert template_files("MNIColin27") == (tmp_path / "T1w.nii.gz", tmp_path / "mask.nii.gz")
    assert asked[0] == ("MNIColin27", 1, {"desc": None, "suffix": "T1w"})


def test_without_a_network_the_package_is_no_crash(home, package):
    def get(*_, **__):
        raise OSError("no route to host")

    package(get)
    with pytest.raises(ValueError, match="no route to host") as refusal:
        template_files("NKI")
    assert VARIABLE in str(refusal.value)


def test_names_in_a_template():
    assert space_path("chi", "sub-1_ses-2_run-3", "X", "").as_posix() == (
        "sub-1/ses-2/anat/sub-1_ses-2_run-3_space-X_Chimap.nii.gz"
    )
    names = {space_path(key, "sub-1", "X", "1").name for key in IN_TEMPLATE}
    assert len(names) == len(IN_TEMPLATE) <= len(OUTPUTS)
    assert "sub-1_space-X_res-1_desc-brain_mask.nii.gz" in names
    assert space_transform_path("sub-1", "X").name == "sub-1_from-native_to-X_mode-image_xfm.nii.gz"
    assert space_transform_path("sub-1", "X", inverse=True).name == "sub-1_from-X_to-native_mode-image_xfm.nii.gz"
