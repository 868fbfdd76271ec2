"""Numbers beside the record: quality, regional values, histograms; and pictures that register."""

import json
import os
import re
from datetime import datetime

import numpy as np
import pytest

from qsmprep.bids.outputs import quality_path
from qsmprep.bids.roi_table import roi_path
from qsmprep.report.figures import mosaic
from qsmprep.report.histogram import SUFFIX, histogram, histogram_plot, read_histogram
from qsmprep.report.page import write_subject_report
from qsmprep.report.quality import NOT_MEASURED, read_quality
from qsmprep.report.regional import read_regions

QUALITY = {
    "run": "sub-01_run-1",
    "metrics": {"phase_residual": 0.5, "snr": None, "ghost": float("nan")},
    "definitions": {
        "phase_residual": {"unit": "rad", "description": "Misfit <b>of</b> phase", "low": None, "high": 0.2,
                           "title": "Phase linearity residual", "artefact": "motion", "remedy": "scan again"},
        "snr": {"unit": "", "description": "d", "low": 10, "high": None, "title": "SNR"},
    },
    "flags": [{"metric": "phase_residual", "value": 0.5, "limit": 0.2, "side": "high", "message": "Phase is not linear",
               "remedy": "Scan again"}],
    "verdict": "check",
}  # fmt: skip
REGIONS = (
    "segmentation\tindex\tname\tmap\tunit\tn\tn_region\texcluded_share\tmean\tsd\tmedian\tp5\tp25\tp75\tp95\n"
    "atlas\t1\tGP <left>\tchi\tppm\t90\t100\t0.1\t0.123456\t0.02\t0.12\t0.1\t0.11\t0.13\t0.2\n"
    "atlas\t2\tempty\tchi\tppm\t0\t0\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\tn/a\n"
)


def report(output):
    return " ".join(write_subject_report(output, "01").read_text("utf-8").split())


def test_the_verdict_and_its_remedies_come_first(record, write_record):
    output = write_record(record)
    path = output / quality_path(record["run"])
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(QUALITY))
    text = report(output)
    assert text.index('class="badge warned"') < text.index("Phase is not linear") < text.index('id="run-1-all"')
    assert re.search(r'class="badge warned"[^>]*>check', text) and "Scan again" in text
    assert "Misfit &lt;b&gt;of&lt;/b&gt; phase" in text
    residual, snr, ghost = read_quality(path).lines
    assert (residual.value, residual.limits, residual.within) == ("0.5", "at most 0.2", False)
    assert (snr.value, snr.within) == ("n/a", None)
    assert ghost.title == "Ghost" and ghost.limits == "none"


@pytest.mark.parametrize("content", [None, "", "[]", '{"verdict": "splendid", "flags": 3, "metrics": [1]}'])
def test_without_quality_numbers_the_verdict_is_that_nothing_was_measured(record, write_record, content):
    output = write_record(record)
    path = output / quality_path(record["run"])
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    assert read_quality(path).verdict == NOT_MEASURED
    assert re.search(r'class="badge unknown"[^>]*>not measured', report(output))
    assert "Missing: there is no <code>anat/sub-01_run-1_qc.json" in report(output)


def test_regional_values_are_shown_and_count_for_the_checklist(record, write_record):
    output = write_record(record)
    assert "--segmentation-file" in report(output)
    path = output / roi_path(record["run"], ".tsv")
    path.parent.mkdir(parents=True)
    path.write_text(REGIONS)
    (table,) = read_regions(path)
    assert table.rows[0].voxels == "90 of 100" and table.rows[0].numbers[0] == "0.1235"
    assert table.rows[1].numbers == ("n/a",) * 5
    text = report(output)
    assert "GP &lt;left&gt;" in text and "1 region, values of voxels in mask 4" in text


def test_numbers_of_an_earlier_command_are_not_shown(record, write_record):
    output = write_record(record)
    quality, regions = output / quality_path(record["run"]), output / roi_path(record["run"], ".tsv")
    quality.parent.mkdir(parents=True)
    quality.write_text(json.dumps(QUALITY))
    regions.write_text(REGIONS)
    text = report(output)
    assert "GP &lt;left&gt;" in text and "Phase is not linear" in text
    before = datetime.fromisoformat(record["started"]).timestamp() - 60
    for path in (quality, regions):
        os.utime(path, (before, before))
    text = report(output)
    assert "GP &lt;left&gt;" not in text and "Phase is not linear" not in text
    assert re.search(r'class="badge unknown"[^>]*>not measured', text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00broken", b"segmentation\tname\nx\ty\n"])
def test_regional_values_that_cannot_be_read_are_told(record, write_record, content):
    output = write_record(record)
    path = output / roi_path(record["run"], ".tsv")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert f"The regional values in {path.name} cannot be read" in report(output)


def test_a_histogram_counts_what_lies_inside_the_mask_and_is_finite():
    volume = np.zeros((10, 10, 10), np.float32)
    volume[:5] = np.linspace(-1, 1, 500).reshape(5, 10, 10)
    volume[0, 0, 0] = np.nan
    found = histogram(volume, np.arange(10)[:, None, None] < 5 * np.ones((1, 10, 10)), label="χ (ppm)")
    assert found.voxels == 499 and abs(found.mean) < 0.01
    assert sum(found.counts) >= 0.99 * found.voxels
    assert read_histogram(json.loads(json.dumps(found.document()))) == found
    assert histogram(np.ones((3, 3, 3)), None) is None and histogram(volume, np.zeros(volume.shape, bool)) is None


@pytest.mark.parametrize("document", [None, [], {}, {"low": 1, "high": 0}, {"low": "a"}])
def test_a_broken_histogram_is_none(document):
    assert read_histogram(document) is None


def test_a_histogram_beside_its_picture_is_drawn(record, write_record):
    output = write_record(record)
    counted = histogram(np.random.default_rng(0).normal(size=(8, 8, 8)), None, label="χ (ppm) <x>")
    path = output / "sub-01/figures" / f"sub-01_run-1_desc-chi_Chimap{SUFFIX}"
    path.write_text(json.dumps(counted.document()))
    text = report(output)
    assert histogram_plot(counted).numbers in text
    assert '<polygon class="area"' in text and "χ (ppm) &lt;x&gt;" in text
    path.write_text("{")
    text = report(output)
    assert '<polygon class="area"' not in text and f"Its histogram, {path.name}, cannot be read." in text


def test_pictures_of_one_frame_register_pixel_for_pixel():
    from io import BytesIO

    from PIL import Image

    volume = np.zeros((30, 34, 28), np.float32)
    volume[8:22, 8:26, 6:22] = 1
    brain = volume > 0
    inner = np.zeros_like(brain)
    inner[12:18, 12:20, 10:16] = True
    pictures = [
        mosaic(volume, np.eye(4), frame=brain, mask=mask, window=(0, 2), title="t") for mask in (None, brain, inner)
    ]
    arrays = [np.asarray(Image.open(BytesIO(png)).convert("L")) for png in pictures]
    assert arrays[0].shape == arrays[1].shape == arrays[2].shape
    middle = (slice(60, -20), slice(60, -140))
    seen = [array[middle] > 60 for array in arrays]
    assert (seen[1] == seen[0]).all(), "the cut picture lies where the whole one does"
    assert not (seen[2] & ~seen[0]).any() and 0 < seen[2].sum() < seen[0].sum()


def test_tables_are_written_beside_the_pictures(record, write_record):
    output = write_record(record)
    text = report(output)
    lines = (output / "sub-01/figures/sub-01_run-1_tables.tsv").read_text("utf-8").splitlines()
    assert lines[0].split("\t") == ["table", "item", "value", "source", "essential"]
    assert all(len(line.split("\t")) == 5 for line in lines)
    assert "3\tField strength\t3 T\tsidecar MagneticFieldStrength\tyes" in lines
    assert {line[0] for line in lines[1:]} == {"3", "4", "5"}
    assert re.search(r'download="tables.tsv"', text) and re.search(r'href="data:text/tab-separated-values', text)


def test_quality_numbers_that_cannot_be_read_are_told(tmp_path):
    path = tmp_path / "sub-01_qc.json"
    assert read_quality(path).flags == ()  # not there: not measured
    for text in ("{", "[]"):
        path.write_text(text)
        found = read_quality(path)
        assert found.verdict == NOT_MEASURED
        assert path.name in found.flags[0].message and found.flags[0].remedy
