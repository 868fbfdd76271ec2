"""The table of runs, links and trends of the group page: what they say, and how they work in a browser."""

import itertools
from dataclasses import replace

import numpy as np
from chromium import open_page
from group_study import edit, quality_file

from qsmprep.bids.group import read_study
from qsmprep.quality.table import DEFINITIONS
from qsmprep.report.group.files import write_group_report
from qsmprep.report.group.lines import TO_DO, first_step, run_lines
from qsmprep.report.group.page import render_group
from qsmprep.report.group.short_words import MAIN, SHORT
from qsmprep.report.group.summary import summarise
from qsmprep.report.group.trends import median_lines, time_axis
from qsmprep.report.page import write_subject_report

SHOWN = "[...document.querySelectorAll('#run-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].textContent)"
CHOOSE = (
    "(s => {{ s.value = [...s.options].find(o => o.text.startsWith('{}')).value;"
    " s.dispatchEvent(new Event('change')); }})(document.querySelector('{}'))"
)


def test_every_limit_has_a_word_or_two():
    limited = [name for name, own in DEFINITIONS.items() if own.low is not None or own.high is not None]
    assert not [name for name in limited if name not in SHORT]
    assert max(map(len, SHORT.values())) <= 24 and set(MAIN) <= set(DEFINITIONS)


def test_lines_tell_why_in_words_that_open_with_message_and_remedy(whole):
    _, planted, group = whole
    lines, words = run_lines(group)
    (line,) = [line for line in lines if planted.outliers.get(line.run.name) == "streaking"]
    (flag,) = [reason for reason in line.reasons if reason.kind == "flag"]
    assert (flag.word, flag.text, flag.remedy) == (
        "streaking",
        "Streaking: 0.061 is beyond 0.05",
        "Look at the pictures.",
    )
    (far,) = [r for one in lines if planted.outliers.get(one.run.name) == "slice_jumps" for r in one.reasons]
    assert far.kind == "far" and "far from the other runs (median 0" in far.text
    assert dict(words)["streaking"] == 1 and all(line.thumbnail for line in lines)
    assert [line.rank for line in lines] == sorted(line.rank for line in lines)


def test_the_page_says_how_many_of_each_and_what_to_begin_with(small):
    bids, out = small
    edit(quality_file(out, "sub-002_ses-1"), lambda document: document.update(verdict="do not use"))
    edit(quality_file(out, "sub-003_ses-1"), lambda document: document.update(verdict="check"))
    lines, _ = run_lines(write_group_report(out, read_study(out, bids)))
    found, begin = first_step(lines)
    assert found == "Of 8 runs, 1 must not be used, 3 need a look and 4 are usable." and "first line" in begin
    assert lines[0].run.name == "sub-002_ses-1" and "sub-003_ses-1" in [line.run.name for line in lines[:4]]
    page = (out / "group.html").read_text("utf-8")
    assert all(TO_DO[verdict] in page for verdict in ("do not use", "check", "usable"))
    assert first_step(lines[:1])[0] == "The one run: 1 must not be used."


def test_links_lead_to_the_run_within_its_subjects_report_and_back(small):
    bids, out = small
    report = write_subject_report(out, "001").read_text("utf-8")
    group = write_group_report(out, read_study(out, bids, session_labels=["2"]))
    (link,) = [run.report for run in group.runs if run.name == "sub-001_ses-2"]
    place = link.partition("#")[2]
    assert f'href="#{place}">sub-001_ses-2</a>' in report and f'id="{place}"' in report
    assert 'href="group.html"' in report
    (out / "sub-001_ses-2.html").touch()  # as a subject of many runs has
    assert read_study(out, bids).pages["sub-001_ses-2"] == "sub-001_ses-2.html"
    (out / "sub-002.html").unlink()
    assert read_study(out, bids).pages["sub-002_ses-1"] == ""


def test_the_axis_of_time_says_whose_time_it_is(small):
    bids, out = small
    axis = time_axis(summarise(read_study(out, bids)).runs)
    assert axis.acquired and np.isfinite(axis.days).all() and "acq_time of scans.tsv: 8 runs" in axis.words
    first = bids / "sub-002/ses-1/sub-002_ses-1_scans.tsv"
    first.write_text(first.read_text().replace("2024", "1920"))
    axis = time_axis(summarise(read_study(out, bids)).runs)
    assert "1 run without a date is not drawn" in axis.words and "shifted for privacy" in axis.words
    for path in bids.rglob("*_scans.tsv"):
        path.unlink()
    axis = time_axis(summarise(read_study(out, bids)).runs)
    assert not axis.acquired and "time of processing" in axis.words and np.isfinite(axis.days).all()


def test_a_scanner_that_differs_or_drifts_is_named(small, make_study, tmp_path):
    make_study(tmp_path / "more" / "bids", tmp_path / "more" / "out", subjects=60)
    bids, out = tmp_path / "more" / "bids", tmp_path / "more" / "out"
    for i, path in enumerate(sorted(out.glob("sub-*/ses-*/anat/*_qc.json"))):
        record = path.parent.parent / "figures" / path.name.replace("_qc", "_record")
        spoiled = {"ghosting": 0.01 + 0.0002 * i} | ({"chi_sd": 0.06} if "SIGNA" in record.read_text() else {})
        edit(path, lambda document, own=spoiled: document["metrics"].update(own))
    group = write_group_report(out, read_study(out, bids))
    lines = median_lines(group.metrics, [r.scanner for r in group.runs], time_axis(group.runs), lettered=True)
    told = {
        line.name: {m.name: (c.differs, c.drifts) for m, c in line.cells if c.differs or c.drifts} for line in lines
    }
    (ge,) = [name for name in told if name.startswith("GE")]
    assert told[ge]["chi_sd"][0] == "higher"
    assert {name: own["ghosting"][1] for name, own in told.items()} == dict.fromkeys(told, "rising")
    page = (out / "group.html").read_text("utf-8")
    assert "Spread of susceptibility higher" in page[page.index('id="differing"') :][:2000]
    # Fewer than five runs of a scanner are not judged.
    few = summarise(read_study(*reversed(small)))
    lines = median_lines(few.metrics, [r.scanner for r in few.runs], time_axis(few.runs), lettered=True)
    assert not [c for line in lines for _, c in line.cells if c.differs or c.drifts]


def test_filters_sorting_words_and_trends_in_a_browser(whole):
    out, planted, group = whole
    run = next(name for name, metric in planted.outliers.items() if metric == "streaking")
    with open_page((out / "group.html").as_uri(), width=1600, height=1000) as page:
        everything = page.evaluate(SHOWN)
        # Every map is there, and no line is taller than it.
        assert page.wait_for("[...document.images].every(i => i.complete)")
        assert page.evaluate("[...document.images].filter(i => i.naturalWidth).length") == len(group.runs)
        tallest = "Math.max(...[...document.querySelectorAll('#run-table tbody tr')].map(r => r.offsetHeight))"
        assert page.evaluate(tallest) <= 56
        # By verdict, by word, by scanner, each with its count; a badge on top does the same.
        page.evaluate(CHOOSE.format("check", "select[data-of=v]"))
        to_check = {one.name for one in group.runs if one.verdict == "check"}
        assert page.evaluate(SHOWN) == [name for name in everything if name in to_check]
        page.evaluate(CHOOSE.format("streaking", "select[data-of=w]"))
        assert page.evaluate(SHOWN) == [run]
        told = "document.getElementById('shown').textContent"
        assert page.evaluate(told) == f"1 of {len(group.runs)} runs shown"
        page.evaluate("document.getElementById('show-all').click()")
        page.evaluate(CHOOSE.format("A ·", "select[data-of=s]"))
        scanner = group.runs[0].scanner
        assert sorted(page.evaluate(SHOWN)) == [one.name for one in group.runs if one.scanner == scanner]
        page.evaluate("document.querySelector('a[data-verdict]').click()")
        assert len(page.evaluate(SHOWN)) == len(to_check)
        page.evaluate("document.getElementById('show-all').click()")
        # The words open by the keyboard.
        page.evaluate("document.querySelector('#run-table summary').focus()")
        page.press("Enter")
        assert page.evaluate("document.querySelector('#run-table details[open] li').textContent.length") > 20
        # A number sorts by its value, both ways, and says so.
        head = "document.querySelector('th[data-metric]')"
        place = int(page.evaluate(f"{head}.dataset.metric"))
        page.evaluate(f"{head}.querySelector('button').focus()")
        for way, factor in (("ascending", 1), ("descending", -1)):
            page.press("Enter")
            order = [float(group.metrics[place].values[{r.name: r.number for r in group.runs}[name]]) * factor
                     for name in page.evaluate(SHOWN)]  # fmt: skip
            assert np.all(np.diff(order) >= -1e-3 * np.abs(order[1:]))
            assert page.evaluate(f"{head}.getAttribute('aria-sort')") == way
            assert page.evaluate("document.querySelectorAll('#run-table th[aria-sort]').length") == 1
        # Over the time: a plot for each main number and one to choose, a mark a run, each leading to its report.
        marks = "[...document.querySelectorAll('.trend')].map(f => f.querySelectorAll('.marks > *').length)"
        assert page.evaluate(marks) == [len(group.runs)] * (len(MAIN) + 1)
        links = page.evaluate("[...document.querySelectorAll('.trend .marks a')].map(a => a.getAttribute('href'))")
        assert set(links) == {one.report for one in group.runs}
        page.evaluate(CHOOSE.format("Ghosting", "#trend-number"))
        last = "[...document.querySelectorAll('.trend svg')].at(-1).getAttribute('aria-label')"
        assert page.evaluate(last).startswith("Ghosting of the background over the time")
        assert page.evaluate("document.querySelectorAll('#legend li').length") == len({r.scanner for r in group.runs})
        for width in (1600, 1100, 400):
            for scheme in ("light", "dark"):
                page.prefer(scheme)
                page.resize(width, 900)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # As cards, values have the names that the headings had.
        assert page.wait_for("(document.querySelector('#run-table tbody td.number').dataset.name || '').length > 3")
        assert page.evaluate("getComputedStyle(document.getElementById('sort-runs').parentElement).display") == "flex"
        assert page.console_errors() == []


def test_a_thousand_runs_stay_quick(whole):
    out, _, group = whole
    runs = tuple(
        replace(one, prefix=f"sub-{i:04d}_{one.prefix.partition('_')[2]}", subject=f"{i:04d}")
        for i, one in zip(range(1000), itertools.cycle(group.study.runs), strict=False)
    )
    pages = {run.prefix: f"sub-{run.subject}.html" for run in runs}
    many = summarise(replace(group.study, runs=runs, pages=pages, acquired={}))
    path = out / "many.html"
    text = render_group(many)
    path.write_text(text, "utf-8")
    assert 4e5 < len(text.encode()) < 6e6
    with open_page(path.as_uri(), width=1600, height=1000) as page:
        # Plots out of sight are not drawn yet.
        assert page.evaluate("document.querySelectorAll('circle').length") < 5000
        # Nor are lines: more come when the table is scrolled, and all that fit are counted.
        laid = "[...document.querySelectorAll('#run-table tbody tr')].filter(r => r.offsetHeight).length"
        assert page.evaluate(laid) == 150
        assert page.evaluate("document.getElementById('shown').textContent") == "1,000 of 1,000 runs shown"
        page.evaluate("(r => { r.scrollTop = r.scrollHeight; })(document.querySelector('#run-table').parentElement)")
        page.wait_for(f"{laid} === 300")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(laid) == 1000  # on paper all are there
        sort = "document.querySelectorAll('#run-table thead button')[{}].click()"
        for column in (0, 2, 3, 3):
            page.evaluate(sort.format(column))
        page.wait_for(f"{laid} === 150")
        page.evaluate("document.querySelector('.strip').scrollIntoView()")
        assert page.wait_for("document.querySelectorAll('.strip circle').length >= 1000")
        assert page.console_errors() == []
    path.unlink()
