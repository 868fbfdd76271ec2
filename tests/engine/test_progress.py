"""The user sees which step of which run is done, on a terminal and in a log file."""

from __future__ import annotations

import io
import re

import pytest

from qsmprep.engine.messages import message_of
from qsmprep.engine.pool import ProcessPool
from qsmprep.engine.progress import LiveProgress, PlainProgress, make_progress, run_and_step


def tell(progress):
    progress.start(12, {"sub_01": 6, "sub_02": 6})
    progress.node_started("all.sub_01_wf.unwrap")
    progress.node_finished("all.sub_01_wf.unwrap", 1.94, True)
    progress.node_finished("all.sub_02_wf.unwrap", 0.0, True, cached=True)
    progress.node_finished("all.sub_02_wf.fit_field", 3.0, False)
    progress.nodes_skipped(["all.sub_02_wf.background"])
    progress.stop()


def test_plain_lines_name_run_step_and_time():
    stream = io.StringIO()
    tell(PlainProgress(stream=stream))
    assert stream.getvalue().splitlines() == [
        "[ 1/12] sub_01: unwrap, 1.9 s",
        "[ 2/12] sub_02: unwrap, from an earlier run",
        "[ 3/12] sub_02: fit field, 3.0 s, FAILED",
        "[ 4/12] sub_02: background, not run: a step before it failed",
    ]


def test_the_live_display_counts_steps_and_shows_failures():
    stream = io.StringIO()
    tell(LiveProgress(stream=stream))
    assert "sub_02: fit field FAILED after 3.0 s" in stream.getvalue()
    assert "steps 4/12" in stream.getvalue()


def test_output_that_is_no_terminal_gets_plain_lines():
    assert isinstance(make_progress(stream=io.StringIO()), PlainProgress)


def test_the_pool_tells_progress_by_the_given_labels(lab):
    stream = io.StringIO()
    labels = {"graph.one": ("sub-01_run-1", "phase unwrapping")}.__getitem__
    plugin = ProcessPool(plugin_args={"progress": PlainProgress(labels, stream), "labels": labels})
    lab.workflow(lab.nap("one")).run(plugin=plugin)
    assert re.fullmatch(r"\[1/1\] sub-01_run-1: phase unwrapping, \d+\.\d s\n", stream.getvalue())


@pytest.mark.parametrize(
    ("name", "labels"),
    [("all.sub_01_run_1_wf.unwrap", ("sub_01_run_1", "unwrap")), ("wf.brain_mask", ("", "brain mask"))],
)
def test_names_of_nodes_become_words(name, labels):
    assert run_and_step(name) == labels


def test_the_message_is_what_the_step_said_not_what_nipype_wrapped_around_it():
    wrapped = (
        'Traceback (most recent call last):\n  File "nodes.py", line 1, in run\n    raise Error\n'
        "nipype.pipeline.engine.nodes.NodeExecutionError: Exception raised while executing Node x.\n\n"
        'Traceback:\n\tTraceback (most recent call last):\n\t  File "step.py", line 1, in f\n\t    raise ValueError\n'
        "\tValueError: The mask is empty:\n\tno voxel to work on.\n"
    )
    assert message_of(wrapped) == "ValueError: The mask is empty: no voxel to work on."
