"""The table of stages and the nodes know the same stages, and nothing else knows any."""

from importlib import import_module
from pathlib import Path

import pytest

from qsmprep import registry
from qsmprep.interfaces.step import Step
from qsmprep.stages import STAGES, TABLE5_ALGORITHMS, rank_of, sections, stage_of

INTERFACES = Path(__file__).parents[1] / "interfaces"


def steps(parent=Step):
    for child in parent.__subclasses__():
        yield child
        yield from steps(child)


@pytest.fixture(scope="module")
def emitted():
    for path in INTERFACES.glob("*.py"):
        import_module(f"qsmprep.interfaces.{path.stem}".removesuffix(".__init__"))
    return {step.stage for step in steps() if step.stage and step.__module__.startswith("qsmprep.interfaces")}


def test_every_node_has_a_row_and_every_row_a_node(emitted):
    assert emitted == {stage.name for stage in STAGES}


def test_names_are_given_once():
    names = [stage.name for stage in STAGES]
    prefixes = [section.name for section in sections()]
    assert len(set(names)) == len(names) and len(set(prefixes)) == len(prefixes)


def test_methods_belong_to_stages_of_the_table():
    assert {method.stage for method in registry.METHODS} <= {stage.name for stage in STAGES}
    assert list(registry.stages()) == sorted(registry.stages(), key=rank_of)


def test_each_sentence_has_a_place_for_the_methods_and_each_row_a_line_of_table_5():
    known = {*TABLE5_ALGORITHMS, "Further processing", "Referencing"}
    for stage in STAGES:
        assert stage.sentence.count("{}") == 1 and stage.sentence.endswith(".")
        assert stage.table5 in known, stage.name


def test_a_stage_that_is_not_in_the_table_is_shown_by_its_name_after_all_others():
    unknown = stage_of("strange_step")
    assert unknown.heading == "Strange step" and rank_of("strange_step") == len(STAGES)


@pytest.mark.parametrize("method", [m for m in registry.METHODS if m.tuning], ids=lambda m: m.name)
def test_what_is_tuned_is_an_option(method):
    fields = set(method.options_type().__dataclass_fields__)
    assert {method.tuning.option, *method.tuning.followers} <= fields
