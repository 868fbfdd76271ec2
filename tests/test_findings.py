"""Facts, warnings and notes are of the right form wherever they are said, and each warning has one place and remedy."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from qsmprep.findings import Fact, Note, Warning, fact_values, read_facts, read_notes, read_warnings
from qsmprep.quality.table import DEFINITIONS

ROOT = Path(__file__).parents[1]
KEY, CODE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*"), re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Where a code or key is no literal: made of a quality number's name, of a problem's own code, read from a file, or of a
# name out of the data (regions, outputs of a network, what an iteration monitors).
MADE = {
    "code_of(flag.metric)",
    "self.code",
    "problem.code",
    "code",
    "code_of(_text(d, 'code'))",
    "key_of(_text(d, 'key'))",
    "PEAK_SNR",
}
PLACES = ("Warning", "Note", "Problem", "advise", "note")
# Regular expressions of the report: over names of files and regions, paths, values of a scanner's header, BibTeX.
WITH_PATTERNS = {"acquisition", "acquisition_checks", "crash", "pictures", "record", "server", "stages",
                 "viewer", "group/regions", "group/runs"}  # fmt: skip


@cache
def every_call():
    """(file, call) of every call by a plain name."""
    paths = [path for room in ("qsmprep", "interfaces", "workflows") for path in sorted((ROOT / room).rglob("*.py"))]
    nodes = ((path, node) for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path, node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def calls(*names):
    """(file, call) of every call of a function of these names."""
    return [(path, call) for path, call in every_call() if call.func.id in names]


def argument(call, place, name):
    """An argument by its place or name; None where it is not given."""
    if len(call.args) > place:
        return call.args[place]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def code_of(call):
    return argument(call, 1 if call.func.id == "Problem" else 0, "code")


def test_keys_of_facts_are_of_one_form():
    found = list(calls("Fact"))
    assert len(found) > 60
    for path, call in found:
        key = argument(call, 0, "key")
        if isinstance(key, ast.JoinedStr):  # f"regions_of_{key_of(label)}"
            texts = [part.value for part in key.values if isinstance(part, ast.Constant)]
            made = [part.value for part in key.values if isinstance(part, ast.FormattedValue)]
            assert all(re.fullmatch("[a-z0-9_]+", text) for text in texts), (path, texts)
            assert all(ast.unparse(part).startswith("key_of(") for part in made), (path, ast.unparse(key))
        elif isinstance(key, ast.Constant):
            assert KEY.fullmatch(key.value), (path, key.value)
        else:
            assert ast.unparse(key) in MADE, (path, ast.unparse(key))


def test_codes_are_of_one_form():
    for path, call in calls(*PLACES):
        code = code_of(call)
        if isinstance(code, ast.Constant):
            assert CODE.fullmatch(code.value), (path, code.value)
        else:
            assert ast.unparse(code) in MADE, (path, ast.unparse(code))


def test_each_warning_has_one_place_and_a_remedy():
    places = []
    for path, call in calls("Warning", "Problem", "advise"):
        code = code_of(call)
        if not isinstance(code, ast.Constant):
            continue
        places.append((code.value, path))
        severity = argument(call, 0, "severity") if call.func.id == "Problem" else None
        if severity is None or severity.value == "warning":
            remedy = argument(call, 5 if call.func.id == "Problem" else 2, "remedy")
            assert remedy is not None and not (isinstance(remedy, ast.Constant) and not remedy.value), (
                path,
                code.value,
            )
    twice = [code for code, count in Counter(code for code, _ in places).items() if count > 1]
    assert not twice, [place for place in places if place[0] in twice]
    of_numbers = {name.replace("_", "-") for name in DEFINITIONS}
    assert not of_numbers & {code for code, _ in places}


def test_every_number_with_limits_has_a_remedy():
    for name, definition in DEFINITIONS.items():
        if definition.low is not None or definition.high is not None:
            assert definition.remedy, name


def reads_words(node):
    """Whether a node looks for words in a text that people read."""

    def is_text(part):
        return isinstance(part, ast.Attribute) and part.attr in ("text", "title", "remedy", "label", "message")

    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, node.comparators, strict=True)
        return any(isinstance(operator, ast.In | ast.NotIn) and is_text(right) for operator, right in pairs)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("startswith", "endswith", "partition", "rpartition", "split", "find", "index"):
            return is_text(node.func.value)
        return ast.unparse(node.func.value) == "re" and any(is_text(part) for part in node.args)
    return False


def test_the_report_reads_no_words():
    """Patterns are for names and headers alone, and no warning, note or title is searched."""
    report = ROOT / "qsmprep" / "report"
    for path in sorted(report.rglob("*.py")):
        text = path.read_text("utf-8")
        name = path.relative_to(report).with_suffix("").as_posix()
        assert name in WITH_PATTERNS or not re.search(r"\bre\.\w+\(", text), name
        assert not [ast.unparse(node) for node in ast.walk(ast.parse(text)) if reads_words(node)], name


def test_a_finding_of_another_form_is_refused():
    for made in (lambda: Fact("A key", "", "", 1), lambda: Note("a_code", ""), lambda: Warning("A", "", "Do it.")):
        with pytest.raises(ValueError, match="lower case"):
            made()
    with pytest.raises(ValueError, match="no remedy"):
        Warning("a-code", "Text.", "")


@pytest.mark.parametrize("damaged", [None, "text", 3, {}, [None, 4, "x", []]])
def test_what_is_damaged_is_left_out(damaged):
    assert read_facts(damaged) == read_warnings(damaged) == read_notes(damaged) == ()
    assert fact_values(damaged) == {}


def test_what_is_damaged_in_part_is_read_as_far_as_it_goes():
    (fact,) = read_facts([{"key": "A <b>", "value": 3}])
    assert (fact.key, fact.label, fact.unit, fact.value) == ("a_b", "A <b>", "", 3)
    (warning,) = read_warnings([{"code": None, "text": " it\n is "}, {"code": "x"}])
    assert (warning.code, warning.text) == ("unnamed", "it is") and warning.remedy
