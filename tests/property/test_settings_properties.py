"""Settings and filters of any shape: they are taken, or refused in words; nothing else ever happens."""

import json

import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsmprep import registry
from qsmprep.app.filters import read_filters
from qsmprep.options import shown
from qsmprep.settings import SECTIONS, build, read_settings, to_document

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
WORDS = st.sampled_from(
    ["method", "pipeline", *registry.stages(), *SECTIONS, *sorted({m.name for m in registry.METHODS})]
)
SECTION = st.dictionaries(WORDS | st.text(max_size=5), VALUES, max_size=4)
DOCUMENTS = st.dictionaries(WORDS, VALUES | SECTION, max_size=4)
USUAL = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@USUAL
@given(document=DOCUMENTS)
def test_a_document_makes_settings_or_is_refused(document):
    try:
        made = build(document)
    except ValueError as error:
        assert str(error)
    else:
        assert to_document(build(to_document(made))) == to_document(made)


@USUAL
@given(content=st.binary(max_size=200) | DOCUMENTS)
def test_a_file_makes_settings_or_is_refused_by_name(content, tmp_path):
    file = tmp_path / "study.toml"
    try:
        file.write_bytes(content if isinstance(content, bytes) else tomli_w.dumps(content).encode("utf-8"))
    except (TypeError, UnicodeEncodeError):  # what TOML cannot say
        return
    try:
        read_settings(file)
    except ValueError as error:
        assert str(file) in str(error)


@USUAL
@given(content=st.binary(max_size=200) | VALUES)
def test_a_filter_file_is_taken_or_refused_by_name(content, tmp_path):
    file = tmp_path / "filter.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content, default=str).encode("utf-8"))
    try:
        filters = read_filters(file)
    except ValueError as error:
        assert str(file) in str(error)
    else:
        assert all(isinstance(entities, dict) for entities in filters.values())


def test_a_value_is_shown_in_a_line():
    for value in (10**5000, "x" * 10**6, [[[1]]] * 1000, "a\nb"):
        assert len(shown(value)) < 100 and "\n" not in shown(value)
