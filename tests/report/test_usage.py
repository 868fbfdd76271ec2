"""Memory and time of the steps in the report."""

import pytest

from qsmprep.report.page import render_subject
from qsmprep.report.record import parse_run
from qsmprep.report.usage import usage_view

STEP = {"step": "invert", "start_s": 1.0, "seconds": 2.0, "peak_gib": 0.5, "expected_gib": 0.6}
KEPT = {"steps": [STEP], "samples": [[0.5, 1.2, 0.4], [1.0, 1.9, 0.8]]}


def test_what_was_kept_is_a_table_and_two_plots():
    view = usage_view(KEPT)
    assert view["rows"] == [("invert", 1.0, 2.0, 0.5, 0.6)]
    assert [plot.up_label for plot in view["plots"]] == ["memory [GiB]", "cores in use"]
    assert all(plot.across_label == "second" for plot in view["plots"])


@pytest.mark.parametrize("broken", [{}, {"steps": "x", "samples": 3}, {"steps": [{"step": "x"}], "samples": [[1, 2]]}])
def test_what_cannot_be_read_is_left_out(broken):
    assert usage_view(broken) is None


def test_the_page_shows_it_only_where_it_was_kept():
    page = render_subject("01", [parse_run({"run": "sub-01", "status": "ok", "resources": KEPT})])
    assert "Memory and time" in page and "<td>0.6</td>" in page
    assert "Memory and time" not in render_subject("01", [parse_run({"run": "sub-01", "status": "ok"})])
