"""The last words of a command."""

from pathlib import Path

from qsmprep.app.closing import closing_lines


def record(run, word="usable", *codes, status="ok", errors=()):
    warnings = [{"code": code, "text": "x", "remedy": "y"} for code in codes]
    fact = {"key": "verdict", "label": "verdict", "unit": "", "value": word}
    return {"run": run, "subject": run[4:6], "status": status, "errors": list(errors), "warnings": [],
            "steps": [{"stage": "quality", "facts": [fact], "warnings": warnings}]}  # fmt: skip


def test_each_run_has_its_verdict_its_reasons_and_its_report(tmp_path):
    for number in (1, 2):
        (tmp_path / f"sub-0{number}.html").touch()
    codes = ("air-in-mask", "streaking-index", "peak-snr", "open-fringes")
    failed = record(
        "sub-03", status="failed", errors=[{"step": "inversion", "message": "z"}, {"step": "", "message": ""}]
    )
    lines = list(closing_lines([failed, record("sub-02", "check", *codes), record("sub-01")], tmp_path))
    assert lines[0] == f"sub-01: usable. Report: {tmp_path}/sub-01.html"
    assert lines[1].startswith("sub-02: check (") and f"and 1 more). Report: {tmp_path}/sub-02.html" in lines[1]
    assert lines[2] == "sub-03: failed (inversion, its input). No report: sub-03.html could not be written."


def test_of_many_runs_those_that_are_not_usable_are_told():
    records = [record(f"sub-{k:02}", "check" if k % 10 == 0 else "usable") for k in range(60)]
    lines = list(closing_lines(records, Path("/out")))
    assert [line[:6] for line in lines[:-1]] == ["sub-00", "sub-10", "sub-20", "sub-30", "sub-40", "sub-50"]
    assert lines[-1] == "Of all runs: 54 usable, 6 check."
