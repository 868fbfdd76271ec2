"""The group page: what it finds in a study, what it says of what it cannot, and how it looks in a browser."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from chromium import open_page
from group_study import edit, quality_file

from qsmprep.bids.group import read_study
from qsmprep.report.group.files import write_group_report
from qsmprep.report.group.penalty import penalty_sentence
from qsmprep.report.group.regions import repeated_measurements
from qsmprep.report.group.runs import group_runs, letters
from qsmprep.report.group.summary import summarise
from qsmprep.report.group.tables import as_tsv

EVIL = "<script>window.hacked = 1</script>\"'&"


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_what_was_planted_is_found(whole):
    out, planted, group = whole
    page = (out / "group.html").read_text("utf-8")
    marked = {row["run"]: row["outliers"] for row in rows(out / "group_qc.tsv")}
    for run, metric in planted.outliers.items():
        assert metric in marked[run].split(", ")
    assert f"sub-{planted.missing}" in page and group.study.missing == (planted.missing,)
    (difference,) = group.differences
    assert (difference.what, difference.usual, difference.others) == (
        "qsmprep",
        "0.2.0",
        (("0.1.9", (planted.version,)),),
    )


def test_worst_runs_come_first_and_lead_to_the_report(whole):
    out, planted, group = whole
    page = (out / "group.html").read_text("utf-8")
    table = page[page.index('id="run-table"') :]
    first = re.search(r'<a href="([^"]+)">([^<]+)</a>', table)
    assert first[2] in planted.outliers
    links = {link.partition("#")[0] for link in re.findall(r'href="([^"]+)"', page)} - {""}
    assert {f"sub-{run.subject}.html" for run in group.runs} <= links
    assert all((out / link).is_file() for link in links)


def test_tables_hold_every_number_and_describe_every_column(whole):
    out, _, group = whole
    for name, lines in (("group_qc", len(group.runs)), ("group_roi", sum(len(r.results.regions) for r in group.runs))):
        table = rows(out / f"{name}.tsv")
        described = json.loads((out / f"{name}.json").read_text("utf-8"))
        assert len(table) == lines
        assert list(table[0]) == list(described)
        assert all(part["Description"] for part in described.values())
    run = group.runs[7]
    (line,) = [row for row in rows(out / "group_qc.tsv") if row["run"] == run.name]
    assert float(line["snr_first_echo"]) == pytest.approx(run.results.quality["metrics"]["snr_first_echo"])
    assert json.loads((out / "group_qc.json").read_text())["field_sd"]["Units"] == "Hz"


def test_means_slope_and_agreement_are_those_of_the_simulation(make_study, tmp_path):
    make_study(tmp_path / "bids", tmp_path / "out", subjects=120)
    group = summarise(read_study(tmp_path / "out", tmp_path / "bids"))
    (putamen,) = [r for r in group.regions if (r.name, r.quantity) == ("putamen", "chi")]
    assert putamen.everyone.n == 120 and putamen.everyone.mean == pytest.approx(0.057, abs=0.006)
    assert putamen.age_in_sites.slope.low < 0.0009 < putamen.age_in_sites.slope.high
    assert set(putamen.by_site) == {"North", "East", "South", "West", "Centre"}
    assert sum(mean.n for mean in putamen.by_site.values()) == sum(mean.n for mean in putamen.by_sex.values()) == 120
    assert putamen.agreement.within_sd.value == pytest.approx(0.003, rel=0.35)
    assert putamen.agreement.icc_3.value > 0.9 and group.repeats.columns == ("ses-1", "ses-2")


def test_centre_frequency_of_each_scanner(whole):
    out, _, _ = whole
    page = (out / "group.html").read_text("utf-8")
    table = page[page.index('id="scanner-table"') :]
    (line,) = re.findall(r"<tr>.*GE SIGNA Premier 3 T South.*</tr>", table)
    mean, sd = re.findall(r'<td class="number">([0-9.]+)</td>', line)[2:4]
    assert float(mean) == pytest.approx(127.7712, abs=0.0003) and 0.05 < float(sd) < 0.5


def test_runs_that_must_not_be_used_are_left_out_of_means_and_named(small):
    bids, out = small
    run = "sub-002_ses-1"
    edit(quality_file(out, run), lambda document: document.update(verdict="do not use"))
    group = write_group_report(out, read_study(out, bids))
    (putamen,) = [r for r in group.regions if (r.name, r.quantity) == ("putamen", "chi")]
    assert putamen.everyone.n == 5
    assert f"Left out, as failed or judged “do not use”: {run}." in (out / "group.html").read_text("utf-8")
    lines = [row for row in rows(out / "group_roi.tsv") if row["run"] == run]
    assert lines and {row["counted"] for row in lines} == {"no"}


def test_files_that_cannot_be_read_are_named_and_the_rest_is_shown(small):
    bids, out = small
    anat = out / "sub-001" / "ses-1" / "anat"
    (anat / "sub-001_ses-1_qc.json").write_text('{"metrics": [')
    (anat / "sub-001_ses-1_desc-roi_stats.tsv").write_bytes(b"\xff\xfe\x00broken")
    (out / "sub-002/ses-1/anat/sub-002_ses-1_desc-roi_stats.tsv").write_text("segmentation\tname\nx\ty\n")
    (out / "sub-003/ses-1/anat/sub-003_ses-1_qc.json").write_text('{"run": "x"}')
    (out / "sub-004/ses-1/figures/sub-004_ses-1_record.json").write_text("[]")
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-001\t30\t1\n")
    group = write_group_report(out, read_study(out, bids))
    page = (out / "group.html").read_text("utf-8")
    assert len(group.study.unreadable) == 6
    for path, _ in group.study.unreadable:
        assert path in page
    assert len(group.runs) == 8 and group.regions


def test_odd_values_never_stop_the_page(small):
    bids, out = small

    def spoil(document):
        document["metrics"] = {"snr_first_echo": "abc", "streaking": None, "new": 1e400, "list": [1], "run": 3}
        document["definitions"] = {"snr_first_echo": 5, "streaking": None}
        document["flags"] = ["text", {"metric": None}, {"message": {"a": [1]}}]
        document["verdict"] = ["usable"]

    path = quality_file(out, "sub-002_ses-1")
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document).replace("Infinity", "1e999"))
    edit(
        out / "sub-003/ses-1/figures/sub-003_ses-1_record.json",
        lambda d: d.update(acquisition=[], steps=[{"parameters": 3}, 4], software=None),
    )
    group = write_group_report(out, read_study(out, bids))
    assert group.runs[[run.name for run in group.runs].index("sub-002_ses-1")].verdict == "not judged"
    assert "metric_run" in rows(out / "group_qc.tsv")[0]


def test_a_failed_run_says_why(small):
    bids, out = small
    edit(
        out / "sub-005/ses-2/figures/sub-005_ses-2_record.json",
        lambda record: record.update(status="failed", errors=[{"step": "unwrapping", "message": "no seed was found"}]),
    )
    group = write_group_report(out, read_study(out, bids))
    page = (out / "group.html").read_text("utf-8")
    assert "failed: unwrapping</span>" in page and "no seed was found" in page
    assert "Of 8 runs, 1 failed, " in page
    assert [run.name for run in group.runs if run.verdict == "failed"] == ["sub-005_ses-2"]


def test_a_deviating_parameter_and_protocol_are_named(small):
    bids, out = small

    def parameter(record):
        record["steps"][5]["parameters"][0]["value"] = 0.002
        record["acquisition"]["flip_angle"] = {"value": 20, "unit": "degrees", "source": "sidecar FlipAngle"}

    edit(out / "sub-006/ses-1/figures/sub-006_ses-1_record.json", parameter)
    edit(out / "sub-002/ses-1/figures/sub-002_ses-1_record.json", lambda r: r["steps"][4].update(method="pdf"))
    found = {d.what: d for d in summarise(read_study(out, bids)).differences}
    assert found["Dipole inversion: susceptibility, fansi: alpha1"].others == (("0.002", ("sub-006_ses-1",)),)
    assert found["Flip angle"].others == (("20 degrees", ("sub-006_ses-1",)),)
    assert found["Background field removal"].others == (("pdf", ("sub-002_ses-1",)),)
    # The radius of V-SHARP is not compared with a run that has another method.
    assert not [what for what in found if "radius_max" in what]


def test_the_page_says_whether_all_runs_share_the_penalty(small):
    bids, out = small
    runs = summarise(read_study(out, bids)).runs
    assert penalty_sentence(runs).endswith(f"all {len(runs)} runs share the defaults of the software.")
    for path in out.rglob("*_record.json"):

        def tune(record):
            record["steps"][5]["parameters"][0].update(value=2e-4, default=False)
            record["tuned"] = {"method": "fansi", "option": "alpha1", "value": 2e-4, "reason": "corner of the L-curve"}

        edit(path, tune)
    told = penalty_sentence(summarise(read_study(out, bids)).runs)
    assert "alpha1 = 0.0002; tuned on one case" in told and "corner of the L-curve" in told
    edit(path, lambda record: record["steps"][5]["parameters"][0].update(value=1e-3))
    write_group_report(out, read_study(out, bids))
    assert "not the same in all runs: 2 settings" in (out / "group.html").read_text("utf-8")


def test_agreement_says_in_words_when_it_is_not_possible(small):
    bids, out = small
    for path in (out / "sub-005" / "ses-2").rglob("*.*"):
        path.unlink()
    group = write_group_report(out, read_study(out, bids))
    assert not group.repeats.possible
    assert "Not possible: only one subject has two or more usable runs" in (out / "group.html").read_text("utf-8")


def test_measurements_that_are_not_the_same_of_each_subject_give_the_one_way_icc(small):
    bids, out = small
    for path in sorted((out / "sub-005" / "ses-2").rglob("*.*")):
        new = out / "sub-005" / "ses-3" / path.parent.name / path.name.replace("ses-2", "ses-3")
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    group = write_group_report(out, read_study(out, bids))
    assert group.repeats.possible and not group.repeats.columns
    told = [region.agreement for region in group.regions if region.agreement]
    assert told and all(agreement.icc_2 is None for agreement in told)
    assert "ICC(2,1)</th>" not in (out / "group.html").read_text("utf-8")


def test_travelling_subjects_are_compared_by_scanner(small):
    bids, out = small
    for subject in ("001", "005"):
        for session, scanner in (("1", "Skyra"), ("2", "Prisma")):
            name = f"sub-{subject}_ses-{session}"
            edit(
                out / f"sub-{subject}/ses-{session}/figures/{name}_record.json",
                lambda r, s=scanner: r["acquisition"].update(
                    {"scanner_model": {"value": s}, "vendor": {"value": "Siemens"}, "institution": {"value": "X"}}
                ),
            )
    runs, said = group_runs(read_study(out, bids))
    assert "2 subjects were scanned on several scanners" in said
    assert {run.site for run in runs if run.subject == "001"} == {"Siemens Skyra 3 T X", "Siemens Prisma 3 T X"}
    repeats = repeated_measurements(runs)
    assert repeats.columns == ("Siemens Skyra 3 T X", "Siemens Prisma 3 T X")
    swapped = [replace(run, scanner="other") if run.name == "sub-005_ses-2" else run for run in runs]
    assert repeated_measurements(swapped).columns == ("ses-1", "ses-2")


def test_subjects_without_the_usual_measurements_are_left_out_by_name(whole):
    _, _, group = whole
    runs = [run for run in group.runs if run.counts]
    usual = repeated_measurements(runs)

    def odd(subjects):
        return [
            replace(run, name=f"sub-{run.subject}_ses-odd{run.number}", scanner="odd")
            if run.subject in subjects
            else run
            for run in runs
        ]

    subjects = [next(run.subject for run in runs if run.number == row[0]) for row in usual.rows]
    repeats = repeated_measurements(odd(subjects[:1]))
    assert repeats.columns == usual.columns and repeats.rows == usual.rows[1:]
    assert repeats.words.endswith(f"Left out, for they have other measurements: {subjects[0]}.")
    assert repeated_measurements(odd(subjects[::2])).columns == ()


def test_a_study_without_anything_but_records(small):
    bids, out = small
    for path in out.glob("sub-*/ses-*/anat/*"):
        path.unlink()
    (bids / "participants.tsv").unlink()
    write_group_report(out, read_study(out, bids))
    page = (out / "group.html").read_text("utf-8")
    assert "No run has quality numbers." in page and page.count("No run has regional values.") == 2
    assert "Site is the scanner" not in page


def test_no_results_is_said(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read_study(tmp_path / "nothing", tmp_path)
    with pytest.raises(ValueError, match="no results of any subject"):
        read_study(tmp_path, tmp_path)


def test_scanners_have_short_names():
    assert letters(28)[:2] == ["A", "B"] and letters(28)[25:] == ["Z", "AA", "AB"]


@pytest.fixture
def evil(small):
    """A study whose every text wants to be markup, and names in other scripts."""
    bids, out = small

    def spoil(document):
        document["definitions"]["streaking"] |= {"title": EVIL, "description": EVIL, "unit": EVIL}
        document["flags"] = [{"metric": EVIL, "message": EVIL, "remedy": EVIL}]
        document["software"] = {EVIL: EVIL}
        document["metrics"]["streaking"] = 9.0

    for path in out.glob("sub-*/ses-*/anat/*_qc.json"):
        edit(path, spoil)
    for path in out.glob("sub-*/ses-*/anat/*_stats.tsv"):
        text = path.read_text("utf-8").replace("putamen", f"putamen {EVIL}").replace("thalamus", "丘脑 المهاد")
        path.write_text(text.replace("deepgm", EVIL), "utf-8")

    def record(document):
        document["acquisition"]["scanner_model"] = {"value": EVIL, "source": "sidecar"}
        document["steps"][1] |= {"method": EVIL, "title": EVIL}
        document["software"] = {"qsmprep": EVIL}

    edit(out / "sub-002/ses-1/figures/sub-002_ses-1_record.json", record)
    edit(
        out / "sub-003/ses-1/figures/sub-003_ses-1_record.json",
        lambda d: d.update(status="failed", errors=[{"step": EVIL, "message": EVIL}]),
    )
    lines = (bids / "participants.tsv").read_text("utf-8").splitlines()
    lines[1] = f"sub-001\t50\t{EVIL}\tمستشفى {EVIL}"
    (bids / "participants.tsv").write_text("\n".join([*lines, f"sub-{EVIL}\t5\tF\tx"]) + "\n", "utf-8")
    write_group_report(out, read_study(out, bids))
    return out


def test_texts_of_the_data_are_shown_as_text(evil):
    page = (evil / "group.html").read_text("utf-8")
    assert "<script>window" not in page and page.count("<script") == 2  # its data and its own
    assert "丘脑 المهاد" in page
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in page
    for name in ("group_qc", "group_roi"):
        table = (evil / f"{name}.tsv").read_text("utf-8").splitlines()
        assert len({line.count("\t") for line in table}) == 1


@pytest.mark.parametrize("study", ["whole", "evil"])
def test_the_page_is_valid_html(study, request):
    html = pytest.importorskip("justhtml", reason="the parser that finds errors of HTML is not installed")
    out = request.getfixturevalue(study)
    page = ((out if study == "evil" else out[0]) / "group.html").read_text("utf-8")
    assert html.JustHTML(page, collect_errors=True).errors == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page) and "@import" not in page


def test_in_a_browser(whole, tmp_path):
    out, planted, group = whole
    with open_page((out / "group.html").as_uri(), width=1600, height=1000) as page:
        assert page.evaluate("document.querySelectorAll('#run-table tbody tr').length") == len(group.runs)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # The filter leaves the runs that hold every word, and fades the dots of the others.
        run = next(iter(planted.outliers))
        shown = (
            "Array.from(document.querySelectorAll('#run-table tbody tr')).filter(r => !r.hidden)"
            ".map(r => r.cells[1].textContent)"
        )
        page.evaluate(
            f"(() => {{ const i = document.getElementById('filter-runs'); i.value = '{run.upper()}';"
            " i.dispatchEvent(new Event('input')); i.focus(); })()"
        )
        assert page.evaluate(shown) == [run]
        number = next(one.number for one in group.runs if one.name == run)
        count = "document.querySelectorAll('{}').length"
        own = page.evaluate(count.format(f'circle[data-r="{number}"]'))
        assert own > 10 and page.evaluate(count.format("circle:not(.off)")) == own
        page.press("Escape")
        assert len(page.evaluate(shown)) == len(group.runs)
        # Headings sort, by the keyboard too.
        page.evaluate("document.querySelector('#run-table thead button').focus()")
        page.press("Enter")
        names = page.evaluate(shown)
        assert names == [one.name for one in group.runs]
        page.press("Enter")
        assert page.evaluate(shown) == names[::-1]
        # A line that is pointed at marks its dots.
        page.evaluate("document.querySelector('#run-table tbody a').focus()")
        assert page.evaluate("document.querySelectorAll('circle.lit').length") >= 10
        page.resize(400, 800)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.console_errors() == []
        assert [address for address in page.requests() if not address.startswith(("file:", "data:"))] == []


def test_markup_in_the_data_does_nothing_in_a_browser(evil):
    with open_page((evil / "group.html").as_uri(), width=400, height=800) as page:
        assert page.evaluate("typeof window.hacked") == "undefined"
        assert page.evaluate("document.body.textContent.includes('<script>window.hacked = 1</script>')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # The policy lets nothing run but the page's own script.
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 2'}))")
        assert page.evaluate("typeof window.hacked") == "undefined"


def test_values_are_not_those_of_other_runs(whole):
    """The dot of each run is at its own value."""
    _, _, group = whole
    for region in group.regions[:3]:
        for run in group.runs:
            (line,) = [
                line for line in run.results.regions if line.key == (region.segmentation, region.name, region.quantity)
            ]
            assert region.values[run.number] == line.numbers["mean"]
    for metric in group.metrics:
        own = np.array([run.results.quality["metrics"][metric.name] for run in group.runs], float)
        assert np.array_equal(metric.values, own)


def test_a_name_that_is_a_formula_is_written_as_text():
    assert as_tsv(["name", "mean"], [["=cmd|' /C calc'!A0", "-0.05"]]) == "name\tmean\n'=cmd|' /C calc'!A0\t-0.05\n"
