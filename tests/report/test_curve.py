"""The convergence of every iterative solver reaches the report as a plot, and no sidecar of a map."""

import json
import re

import numpy as np
import pytest
from documents import facts

from qsmprep.bids.outputs import sidecar
from qsmprep.interfaces.step import Record
from qsmprep.numerics.convergence import Convergence
from qsmprep.report.curve import line_plot
from qsmprep.report.page import write_subject_report
from qsmprep.report.record import Curve, parse_run


def iterated(history, *, iterations=None, converged=True, monitored="relative change of chi"):
    record = Record("inversion", "fansi", "FANSI")
    record.add_convergence(Convergence(iterations or len(history), converged, tuple(history), monitored, 1.0))
    return record


def section(text):
    """The report's section of the inversion."""
    start = text.index('id="run-1-step-5"')
    return text[start : text.index('<details class="card fold"', start)]


def page_of(record, write_record, **step):
    record["steps"][4] |= step
    return section(write_subject_report(write_record(record), "01").read_text("utf-8"))


def test_a_short_history_is_kept_whole_and_a_long_one_thinned_with_its_ends():
    short = iterated([0.5, 0.123456, 0.01])
    assert (short.curve, short.curve_iterations) == ([0.5, 0.1235, 0.01], [1, 2, 3])
    assert short.curve_name == "relative change of chi"
    history = 0.99 ** np.arange(1000.0)
    long = iterated(history)
    assert len(long.curve) == len(long.curve_iterations) == 200
    assert long.curve_iterations[0] == 1 and long.curve_iterations[-1] == 1000
    kept = np.array(long.curve_iterations) - 1
    assert np.allclose(long.curve, history[kept], rtol=1e-3)


def test_a_slow_descent_is_kept_without_stairs():
    history = np.linspace(1.507, 1.49, 40)
    assert np.all(np.diff(iterated(history).curve) < 0)


def test_a_history_of_the_last_iterations_is_drawn_there():
    """TFI counts the iterations of its start, which monitor something else."""
    assert iterated([3.0, 2.0, 1.0], iterations=60).curve_iterations == [58, 59, 60]


def test_what_does_not_iterate_has_no_curve():
    assert iterated([0.1]).curve == [] == iterated([0.1, float("nan")]).curve
    assert iterated([], iterations=1).curve_name == ""


def test_no_sidecar_of_a_map_holds_the_curve(record):
    step = {**record["steps"][4], "curve": [1.0, 0.5], "curve_iterations": [1, 2], "curve_name": "change"}
    document = sidecar("chi", "sub-01", raw_sources=(), steps=[step], available=frozenset(), software={})
    assert "curve" not in json.dumps(document)
    assert document["ProcessingSteps"][0]["facts"] == step["facts"]


def test_the_plot_stands_in_the_section_of_its_step(record, write_record):
    made = iterated([0.5, 0.1, 0.02, 0.004])
    part = page_of(record, write_record, curve=made.curve, curve_iterations=made.curve_iterations,
                   curve_name=made.curve_name)  # fmt: skip
    (svg,) = re.findall(r"<svg.*?</svg>", part, re.DOTALL)
    assert 'role="img"' in svg and "goes from 0.5 at iteration 1 to 0.004 at iteration 4" in svg
    assert ">iteration</text>" in svg and "relative change of chi (log scale)</text>" in svg
    assert re.search(r'aria-labelledby="([^"]+)">\s*<title id="\1"', svg)
    assert "Convergence: relative change of chi" in part
    assert not re.search(r"(?:fill|stroke)=", svg)  # colours come from the style, for light and dark


def test_the_loss_of_an_adapted_network_is_named_as_such(record, write_record):
    part = page_of(record, write_record, method="qsmnet", curve=[3.0, 2.0], curve_iterations=[1, 2], curve_name="loss",
                   facts=facts(network="mine", network_adapted_by="fine"))  # fmt: skip
    assert "Loss of the adaptation of the network to this case (fine)" in part


@pytest.mark.parametrize("curve", [None, "text", [1.0], [1.0, None], ["a", "b"], [[1], [2]]])
def test_a_record_without_two_numbers_has_no_plot(record, write_record, curve):
    assert "<svg" not in page_of(record, write_record, curve=curve)


def test_a_second_part_is_told_where_the_curve_may_jump(record, write_record):
    two = Convergence(5, True, (3.0, 1.0, 0.1, 2.0, 0.3), "change of chi in percent (two passes)", 1.0, second=4)
    made = Record("inversion", "fansi", "FANSI")
    made.add_convergence(two)
    part = page_of(record, write_record, curve=made.curve, curve_iterations=made.curve_iterations,
                   curve_second=made.curve_second)  # fmt: skip
    assert "At iteration 4 a second part begins" in part
    for none in (0, None, "x", float("nan")):
        assert "second part" not in page_of(record, write_record, curve=made.curve, curve_second=none)


def test_iterations_that_are_missing_are_counted_from_one(record):
    record["steps"][4] |= {"curve": [2.0, 1.0, 0.5]}
    assert parse_run(record).steps[4].curve == Curve("what is monitored", (1.0, 2.0, 3.0), (2.0, 1.0, 0.5))


@pytest.mark.parametrize(
    "values",
    [(1.0, 1e-9), (5.0, 2.0), (0.102, 0.108), (1.0, 1.0), (0.0, 0.0), (1.0, -3.0), (99.0, 100.0), (1e200, 1e-200)],
)
def test_line_and_ticks_lie_inside_the_axes_and_upward_is_larger(values):
    plot = line_plot(Curve("x", (1, 400), values))
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in plot.points.split())
    assert x0 == 70 and x1 == 622
    assert all(30 <= y <= 200 for y in (y0, y1, *(tick.place for tick in plot.up)))
    assert (y0 < y1) == (values[0] > values[1])
    assert 2 <= len(plot.up) <= 9 and 3 <= len(plot.across) <= 9
    assert len({tick.label for tick in plot.up}) == len(plot.up)


def test_values_that_are_all_positive_are_drawn_logarithmically():
    plot = line_plot(Curve("x", (1, 2, 3), (100.0, 10.0, 1.0)))
    heights = [float(point.split(",")[1]) for point in plot.points.split()]
    assert np.diff(heights)[0] == pytest.approx(np.diff(heights)[1], abs=0.2)
    assert "log scale" in plot.up_label
    assert "log scale" not in line_plot(Curve("x", (1, 2), (1.0, 0.0))).up_label
