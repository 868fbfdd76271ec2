import base64
import hashlib
import json
import os
import re
from datetime import datetime
from html.parser import HTMLParser
from io import BytesIO
from zipfile import ZipFile

import pytest
from documents import error, facts, warning

from qsmprep.findings import Warning, document
from qsmprep.quality.table import DEFINITIONS
from qsmprep.report.attention import SHOWN_BY, findings_of
from qsmprep.report.files import files_of
from qsmprep.report.numbers import quantity_words
from qsmprep.report.page import MOST_RUNS, render_subject, write_subject_report
from qsmprep.report.quality import ShownFlag, ShownQuality
from qsmprep.report.record import parse_run
from qsmprep.report.viewer import list_runs
from qsmprep.report.views import MEANINGS
from qsmprep.stages import STAGES

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Tags with their attributes, ids, and the text in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def report(output):
    path = write_subject_report(output, "sub-01")
    assert path == output / "sub-01.html"
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_outside(record, write_record):
    page = Page(report(write_record(record)))
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert attrs.get("src", "data:").startswith("data:")
        assert tag == "a" or "href" not in attrs
        if tag == "a":  # a link to a text is one to save it, and only viewer and group page lie beside the page
            saved = ("data:text/", "data:application/zip")
            assert attrs["href"].startswith(("#", "https://doi.org/", "viewer/?run=", "group.html", *saved))
            assert ("download" in attrs) == attrs["href"].startswith(saved)
        assert "srcset" not in attrs and not any(name.startswith("on") for name in attrs)
    styles = re.findall(r"url\(|@import", report(write_record(record)))
    assert not styles
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    (script,) = re.findall(r"<script>(.*?)</script>", report(write_record(record)), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_pictures_are_embedded_with_alternative_text(record, write_record):
    output = write_record(record)
    images = [attrs for tag, attrs in Page(report(output)).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["Susceptibility"], "once, with the verdict"
    assert "Its picture stands" in report(output)
    png = (output / "sub-01/figures/sub-01_run-1_desc-chi_Chimap.png").read_bytes()
    assert base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,")) == png


def test_every_link_inside_the_page_has_its_target(record, write_record):
    page = Page(report(write_record(record)))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        if tag == "a" and attrs["href"].startswith("#"):
            assert attrs["href"][1:] in ids


def poisoned(value, path=""):
    """Every string of the record replaced by an attack, its structure and file names kept."""
    if isinstance(value, dict):
        return {
            (ATTACK + key if path.endswith(("software", "acquisition")) else key): (
                item if key in ("status", "file") else poisoned(item, key)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, path) for item in value]
    return ATTACK if isinstance(value, str) else value


def test_text_of_the_data_is_shown_as_text(record, write_record):
    name = record["run"]
    output = write_record(record)
    path = output / "sub-01/figures" / f"{name}_record.json"
    path.write_text(json.dumps(poisoned(record)))
    text = report(output)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert all("onerror" not in attrs and attrs.get("src", "data:").startswith("data:") for _, attrs in page.tags)
    assert "alert(" in "".join(page.text)
    assert text.count("<script") == 1


def test_a_label_with_markup_is_escaped_and_one_with_a_path_refused(tmp_path):
    label = "<b onclick=x>1"
    (tmp_path / f"sub-{label}").mkdir()
    page = Page(write_subject_report(tmp_path, label).read_text())
    assert "b" not in [tag for tag, _ in page.tags]
    for wrong in ("../x", "a/b", "..", "", "sub-"):
        with pytest.raises(ValueError, match="participant label"):
            write_subject_report(tmp_path, wrong)


def test_errors_and_warnings_stand_before_everything_else(record, write_record):
    write_record(record)
    failed = {
        **record,
        "run": "sub-01_run-2",
        "status": "failed",
        "errors": [error("Echo 2 is missing.")],
        "steps": [],
    }
    text = report(write_record(failed))
    failure, warning = text.index("Echo 2 is missing."), text.index("Partial Fourier was used.")
    step_warning = text.index("2 regions were not connected.")
    first, second = text.index('id="run-1-all"'), text.index('id="run-2-all"')
    assert text.index('id="run-1-verdict"') < warning < step_warning < first, "before the steps of its run"
    assert text.index('id="run-2-verdict"') < failure < second
    assert "1 failed" in text[: text.index('id="run-1"')]


def test_a_failed_run_still_gives_a_page(record, write_record):
    failed = {
        "run": "sub-01_run-1",
        "status": "failed",
        "errors": [error("Phase is missing.")],
        "steps": [],
    }
    text = report(write_record(failed))
    assert "Phase is missing." in text and "sub-01_run-1" in text
    nothing = {"run": "sub-01_run-1", "steps": []}
    assert "left no message" in report(write_record(nothing))


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', b"\xff\xfe", "[" * 10**5])
def test_a_broken_record_gives_a_page_that_says_so(record, write_record, content):
    output = write_record(record)
    broken = output / "sub-01/figures/sub-01_run-9_record.json"
    broken.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = report(output)
    assert "The record sub-01_run-9_record.json of this run cannot be read" in text
    assert "FANSI" in text


def test_values_of_the_wrong_kind_do_not_stop_the_page(record, write_record):
    odd = {**record, "software": None, "acquisition": [1], "warnings": "one", "seconds": "long", "inputs": None}
    odd["errors"] = ["text", {"step": None}, None]
    odd["steps"] = [None, {"stage": None, "parameters": [None, {"name": "a"}], "facts": [None, "z", {"key": None},
                           {"key": "y", "value": [1] * 99}], "notes": [{"code": 3}, "b"], "warnings": {"code": "c"},
                           "figures": [{"caption": "no file"}]}]  # fmt: skip
    output = write_record(record)
    (output / "sub-01/figures/sub-01_run-1_record.json").write_text(json.dumps(odd))
    assert "99 values" in report(output)


def test_no_record_at_all(tmp_path):
    text = write_subject_report(tmp_path, "01").read_text()
    assert "No run of sub-01 left a record" in text


def test_a_missing_picture_is_named_and_none_is_read_from_elsewhere(record, write_record, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    record["steps"][4]["figures"] = [{"file": "../../secret.png", "caption": "c"}, {"file": "gone.png", "caption": "d"}]
    text = report(write_record(record, pictures=False))
    assert "The picture gone.png is not in the figures folder." in text
    assert base64.b64encode(b"secret").decode() not in text


def test_pictures_without_a_step_are_shown(record, write_record):
    output = write_record(record)
    (output / "sub-01/figures/sub-01_run-1_desc-extra_x.png").write_bytes(b"png")
    assert "desc-extra_x" in report(output)


def test_sessions_are_collected_in_order(record, write_record):
    names = ["sub-01_ses-10", "sub-01_ses-2"]
    for name in names:
        entry = {**record, "run": name, "steps": []}
        output = write_record(entry, session=name.removeprefix("sub-01_"))
    text = report(output)
    assert text.index("sub-01_ses-2</a>") < text.index("sub-01_ses-10</a>")


def test_parameters_are_marked_as_default_or_set(record, write_record):
    text = re.sub(r"\s+", " ", report(write_record(record)))
    assert '0.0005 <span class="tag">default' in text
    assert re.search(r'class="set">9 mm</span> <span class="tag">set', text)


def test_the_consensus_tables_are_complete(record, write_record):
    text = report(write_record(record))
    for item in ("Field strength", "Transmit coil", "Partial Fourier", "Elliptical shutter", "Scan duration"):
        assert re.search(rf'<th scope="row">{item}', text), item
    for line in ("Toolbox and version", "Algorithm: masking", "Algorithm: dipole inversion", "Unit of susceptibility",
                 "Reference region", "Inclusion and exclusion criteria"):  # fmt: skip
        assert re.search(rf'<th scope="row">{line}', text), line
    assert "not available" in text
    assert "0.0125 ± 0.0375 ppm" in text
    assert "research use only" in text


def test_what_network_a_step_used_stands_by_itself(record, write_record):
    step = record["steps"][4]
    step["facts"] += facts(network="mine", network_weights="mine.safetensors", network_sha256=32 * "ab",
                           network_statement="trained on simulated heads")  # fmt: skip
    text = report(write_record(record))
    (table,) = re.findall(r'<div class="network">.*?</div>', text, re.DOTALL)
    for words in ("mine.safetensors", 32 * "ab", "trained on simulated heads"):
        assert text.count(words) - text[text.index('id="methods"') :].count(words) == 1
        assert words in table
    assert "iterations" not in table
    record["steps"][4]["facts"] = []
    assert '<div class="network">' not in report(write_record(record))


LONG = 200 * (
    "\u65e5\u672c\u8a9e \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0e44\u0e17\u0e22 "
    "\U0001f9e0 \"quoted\" 'single' & <i>"
)


def test_metadata_of_any_length_and_script_is_folded_and_shown_as_text(record, write_record):
    assert len(LONG) > 8000
    record["acquisition"]["sequence_name"] = {"value": LONG + "x" * 2000, "source": "sidecar SeriesDescription"}
    record["steps"][0]["notes"] = [{"code": "long", "text": LONG}]
    record["steps"][0]["facts"] = [
        {"key": "a", "label": "name", "unit": "", "value": LONG},
        {"key": "b", "label": LONG, "unit": "", "value": 1},
    ]
    record["warnings"] = [{"code": "long", "text": LONG, "remedy": "None."}]
    text = report(write_record(record))
    page = Page(text)
    assert "i" not in [tag for tag, _ in page.tags]
    shown = "".join(page.text)
    assert LONG.strip() in shown and "x" * 2000 in shown
    assert [attrs.get("class") for tag, attrs in page.tags if tag == "details"].count("long") >= 4


def test_two_pictures_of_one_layout_are_laid_over_each_other(record, write_record):
    record["steps"][4]["figures"].append({"file": "sub-01_run-1_desc-tkd_Chimap.png", "caption": "by TKD"})
    text = report(write_record(record))
    (figure,) = re.findall(r'<figure class="compare".*?</figure>', text, re.DOTALL)
    assert figure.count('<img class="layer"') == 2 and 'type="range"' in figure
    assert re.search(r'class="controls" hidden', figure), "without the script they are two pictures, no dead controls"


def test_the_methods_text_can_be_pasted(record, write_record):
    text = report(write_record(record))
    (plain,) = re.findall(r'<textarea id="methods-text"[^>]*>(.*?)</textarea>', text, re.DOTALL)
    assert "Background fields were removed by V-SHARP (Li et al., 2011; Wu et al., 2012)" in plain
    assert not re.search(r"\[@|^#|\\\\", plain, re.MULTILINE)


def test_every_warning_has_a_remedy(record, write_record):
    text = report(write_record(record))
    assert text.count('class="remedy"') == 2, "the run's and the step's, each once"
    shown = text[: text.index('id="methods"')]
    assert shown.count("2 regions were not connected.") == 1 and shown.count("Partial Fourier was used.") == 1
    (step,) = re.findall(r'<li id="run-1-finding-2".*?</li>', text, re.DOTALL)
    assert 'href="#run-1-step-3"' in step, "the step's leads to where its pictures are"
    assert re.search(r'<details class="card fold" id="run-1-step-3" open>', text)
    assert re.search(r'<details class="card fold" id="run-1-step-2">', text), "what is fine is folded"


def test_the_order_is_that_of_a_reader_in_a_hurry(record, write_record):
    text = report(write_record(record))
    parts = (
        "verdict-title",
        "data:image/png",
        'id="run-1-look"',
        'id="run-1-step-1"',
        'id="run-1-quality"',
        'id="how"',
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_methods_tables_and_bibliography_are_saved_by_one_click(record, write_record):
    page = Page(report(write_record(record)))
    (link,) = [attrs for tag, attrs in page.tags if tag == "a" and attrs["href"].startswith("data:application/zip")]
    assert link["download"] == "sub-01_run-1_methods.zip"
    with ZipFile(BytesIO(base64.b64decode(link["href"].partition("base64,")[2]))) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(texts) == {"methods.md", "methods.txt", "tables.tsv", "references.bib"}
    assert "V-SHARP" in texts["methods.txt"] and "@article{li2011" in texts["references.bib"].lower()
    assert "Field strength" in texts["tables.tsv"]


def test_every_quality_number_leads_to_a_part_of_the_report(record):
    shown = [metric for metrics in SHOWN_BY.values() for metric in metrics]
    assert sorted(shown) == sorted(DEFINITIONS) and set(SHOWN_BY) <= {stage.name for stage in STAGES}
    flags = tuple(ShownFlag(name, "Title", f"{name} is odd.", "Look.") for name in DEFINITIONS)
    found = findings_of("run-1", parse_run(record), ShownQuality("check", flags))
    places = {finding.text.partition(" ")[0]: finding.place for finding in found if finding.kind == "number"}
    assert places["streaking"] == "run-1-step-5" and places["r2star_relative"] == "run-1-quality", (
        "the table if no step"
    )
    assert len({finding.id for finding in found}) == len(found)


def test_a_number_beyond_its_limits_of_which_a_step_warns_is_one_finding(record):
    flag = ShownFlag("streaking", "Streaking", "Streaking is strong.", "Look.")
    record["steps"].append({"stage": "quality", "warnings": [warning("streaking", flag.message)]})
    found = findings_of("run-1", parse_run(record), ShownQuality("check", (flag,)))
    assert [finding.kind for finding in found if finding.text == flag.message] == ["number"]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(-0.000180502, "ppm", "-0.0002"), (-2.7e-11, "ppm", "0"), (1e-17, "", "0"), (127.732, "MHz", "127.732"),
     (18.8596, "1/s", "18.86"), (177342.0, "", "177342"), (0.000249563, "rad", "0.0002496"),
     (3.2e-6, "", "3.2 × 10^-6"), (float("inf"), "ppm", "inf"), (-0.00001, "ppm", "0")],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value, unit, expected):
    assert quantity_words(value, unit) == expected


def test_many_runs_have_a_page_each_and_one_that_lists_them(record, write_record):
    names = [f"sub-01_run-{number}" for number in range(1, MOST_RUNS + 2)]
    figures = [figure for entry in record["steps"] for figure in entry["figures"]]
    for name in names:
        for figure in figures:
            figure["file"] = f"{name}_{figure['file'].partition('_run-')[2].partition('_')[2]}"
        output = write_record({**record, "run": name, "status": "failed" if name.endswith("-2") else "ok"})
    overview = Page(report(output))
    links = [attrs["href"] for tag, attrs in overview.tags if tag == "a"]
    assert links == ["group.html", *(f"{name}.html" for name in names)]
    assert not any(tag == "img" for tag, _ in overview.tags) and "do not use" in "".join(overview.text)
    for name in names:
        text = (output / f"{name}.html").read_text("utf-8")
        assert [other for other in names if f">{other}<" in text] == [name]
        page = Page(text)
        assert len([tag for tag, _ in page.tags if tag == "img"]) >= len(figures)
        assert "sub-01.html" in [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    (output / f"{names[-1]}.html").unlink()
    (output / "sub-01" / "figures" / f"{names[-1]}_record.json").unlink()
    assert "<img" in report(output), "as many as one page holds stay in one"
    assert list_runs(output).keys() == {"01"}


def test_the_files_of_a_run_are_listed_with_what_they_are(tmp_path):
    folder = tmp_path / "sub-01" / "ses-a" / "anat"
    folder.mkdir(parents=True)
    run = "sub-01_ses-a_run-1"
    for ending in ("_Chimap.nii.gz", "_desc-medi_Chimap.nii.gz", "_desc-qsm_mask.nii.gz", "_qc.json", "_Chimap.json"):
        (folder / f"{run}{ending}").touch()
    (folder / "sub-01_ses-a_run-10_Chimap.nii.gz").touch()
    in_template = ("space-X_res-2_Chimap.nii.gz", "space-X_res-2_desc-rss_T2starw.nii.gz",
                   "from-native_to-X_mode-image_xfm.nii.gz")  # fmt: skip
    for ending in in_template:
        (folder / f"{run}_{ending}").touch()
    found = {file.path.rpartition("run-1_")[2]: (file.text, file.unit) for file in files_of(tmp_path, run, "")}
    assert files_of(tmp_path, "sub-01_ses-a", "") == [], "a run whose name begins alike"
    assert set(found) == {"Chimap.nii.gz", "desc-medi_Chimap.nii.gz", "desc-qsm_mask.nii.gz", "qc.json", *in_template}
    assert found[in_template[0]][0].startswith("In X, 2 mm: Magnetic susceptibility")
    assert found[in_template[1]][1] == "arbitrary" and found[in_template[2]][1] == "mm"
    assert found["Chimap.nii.gz"][1] == "ppm" and "another inversion (medi)" in found["desc-medi_Chimap.nii.gz"][0]
    page = render_subject("01", [parse_run({"run": run, "status": "ok"})], output_dir=tmp_path)
    assert "sub-01/ses-a/anat/sub-01_ses-a_run-1_desc-qsm_mask.nii.gz" in page and "run-10" not in page
    assert "earlier command" not in page


def test_what_an_earlier_command_left_is_marked(record, write_record):
    folder = write_record(record)
    run, started = record["run"], datetime.fromisoformat(record["started"]).timestamp()
    anat, figures = folder / "sub-01" / "anat", folder / "sub-01" / "figures"
    anat.mkdir(exist_ok=True)
    picture = next(figures.glob("*.png")).read_bytes()
    (figures / f"{run}_desc-paramagnetic_chi.png").write_bytes(picture)
    (figures / f"{run}_acq-other_desc-magnitude.png").write_bytes(picture)
    for path in (anat / f"{run}_desc-paramagnetic_Chimap.nii.gz", anat / f"{run}_Chimap.nii.gz"):
        path.touch()
    for path in (anat / f"{run}_desc-paramagnetic_Chimap.nii.gz", figures / f"{run}_desc-paramagnetic_chi.png"):
        os.utime(path, (started - 60,) * 2)
    marked = [file.path for file in files_of(folder, run, record["started"]) if file.earlier]
    assert marked == [f"sub-01/anat/{run}_desc-paramagnetic_Chimap.nii.gz"]
    page = report(folder)
    assert "acq-other" not in page, "a picture of a run whose name begins alike"
    told = Warning("files-of-other-options", "A file of this run is of an earlier command.", "Delete it.")
    (finding,) = findings_of("run-1", parse_run({"run": run, "warnings": [document(told)]}), ShownQuality())[-1:]
    assert f'id="{finding.place}"' in page
    assert page.count("Of an earlier command.") == 1 and "desc-paramagnetic_chi, of an earlier command" in page


def test_each_slice_of_a_picture_leads_into_the_viewer(record, write_record):
    page = Page(report(write_record(record)))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and "#map=" in attrs["href"]]
    assert len(links) >= 9 and all(link.startswith("viewer/?run=sub-01_run-1#map=Chimap&plane=") for link in links)
    assert len(set(links)) == len(links) and "Its slices in the viewer" in "".join(page.text)


def test_what_each_verdict_means_is_told(record, write_record):
    text = " ".join("".join(Page(report(write_record(record))).text).split())
    for word, meaning in MEANINGS.items():
        assert f"{word}{meaning}" in text.replace(f"{word} {meaning}", f"{word}{meaning}")
