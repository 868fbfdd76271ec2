"""The report of a subject in a real browser, without a network."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from chromium import open_page

from qsmprep.report.figures import save_mosaic
from qsmprep.report.page import write_subject_report

LONG = 200 * "ありがとう שלום <i>no markup</i> \"quotes\" 'and' & more "
PICTURES = {
    "mask": ("magnitude_magnitude", "masks_magnitude"),
    "unwrapping": ("lastecho_phase", "unwrapped_phase"),
    "background": ("total_fieldmap", "local_fieldmap"),
    "inversion": ("chi_Chimap", "tkd_Chimap", "medi_Chimap"),
}


@pytest.fixture(scope="module")
def page_file(whole_record, tmp_path_factory):
    """A report with everything on it: comparisons, long texts, a missing picture, a run that failed."""
    output, record = tmp_path_factory.mktemp("report"), whole_record
    figures = output / "sub-01" / "figures"
    grey = np.random.default_rng(1).normal(size=(16, 18, 14)).astype(np.float32)
    for step in record["steps"]:
        names = [f"{record['run']}_desc-{name}.png" for name in PICTURES.get(step["stage"], ())]
        step["figures"] = [{"file": name, "caption": f"{step['stage']}: {name}"} for name in names]
        figures.mkdir(parents=True, exist_ok=True)
        for name in names:
            save_mosaic(figures / name, grey, np.diag([3.0, 3, 3, 1]), window=(-2, 2), label="x", title=name)
    record["steps"][0]["figures"] = [{"file": "gone.png", "caption": "gone"}]
    record["steps"][0]["notes"] = [LONG, "x" * 3000]
    record["steps"][4] |= {"curve": [3.0, 2.0, 1.0], "curve_name": "change", "curve_iterations": [1, 2, 3]}
    record["acquisition"]["Sequence name"] = {"value": LONG, "source": "sidecar SeriesDescription"}
    failed = {"run": "sub-01_run-2", "status": "failed", "errors": ["mask extract: " + LONG], "steps": [],
              "crashes": [{"step": "mask extract", "message": "m", "text": 50 * ("y" * 300 + "\n")}]}  # fmt: skip
    for document in (record, failed):
        (figures / f"{document['run']}_record.json").write_text(json.dumps(document))
    return write_subject_report(output, "01")


@pytest.fixture(scope="module")
def page(page_file):
    with open_page(page_file.as_uri(), width=1600) as opened:
        yield opened


@pytest.fixture
def unfolded(page):
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    yield page
    page.evaluate("document.querySelectorAll('main details').forEach(fold => { fold.open = false; })")


def test_nothing_fails_and_nothing_is_asked_of_a_network(page, page_file):
    assert page.console_errors() == []
    assert not [url for url in page.requests() if not url.startswith(("data:", page_file.as_uri()))]


def test_every_picture_loads(page):
    count, broken = page.evaluate("[document.images.length, [...document.images].filter(i => !i.naturalWidth).length]")
    assert count == 10 and broken == 0


def test_what_is_fine_is_folded_and_one_button_unfolds_it(page):
    page.evaluate("document.querySelectorAll('details.fold').forEach(fold => { fold.open = false; })")
    folded = page.evaluate("document.documentElement.scrollHeight")
    page.evaluate("document.querySelector('button[data-folds]').click()")
    assert page.evaluate("document.documentElement.scrollHeight") > 2.5 * folded
    page.evaluate("document.querySelector('button[data-folds]').click()")
    assert page.evaluate("document.documentElement.scrollHeight") == folded


def test_a_finding_leads_to_its_step_and_opens_it(page):
    opened = page.evaluate(
        """new Promise(done => {
          const link = document.querySelector('.findings a[href^="#run-1-step"]');
          const step = document.getElementById(link.getAttribute('href').slice(1));
          step.open = false;
          const seen = () => done([step.open, step.getBoundingClientRect().top]);
          addEventListener('hashchange', () => setTimeout(seen, 900), {once: true});
          link.click();
        })"""
    )
    assert opened[0] is True and 0 <= opened[1] < 900


def test_a_comparison_is_enlarged_with_its_slider(unfolded):
    page = unfolded
    page.evaluate("document.querySelector('.compare .enlarge').click()")
    width, slider = page.evaluate(
        "(f => [f.getBoundingClientRect().width, f.querySelector('input').getBoundingClientRect().top])"
        "(document.querySelector('.compare'))"
    )
    assert width == 1600 and 0 < slider < 1200
    page.evaluate("document.querySelector('.compare .enlarge').click()")
    assert page.evaluate("document.querySelector('.compare').getBoundingClientRect().width") < 1400


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_never_scrolls_sideways(page, width):
    page.resize(width, 900)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('main details').forEach(fold => { fold.open = false; })")
    page.resize(1600, 900)


def test_links_lead_somewhere_and_ids_are_unique(page):
    lost = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert lost == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_the_slider_moves_by_the_keyboard_and_uncovers_the_other_picture(unfolded):
    page = unfolded
    page.evaluate("document.querySelector('.compare input[type=range]').focus()")

    def clip():
        return page.evaluate(
            "getComputedStyle([...document.querySelectorAll('.compare')][0].querySelectorAll('.layer')[1]).clipPath"
        )

    assert "50%" in clip()
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert "52%" in clip()
    page.press("End")
    assert "100%" in clip()
    said = page.evaluate("document.activeElement.getAttribute('aria-valuetext')")
    assert said == "100 % Magnitude, the rest Masks"
    page.evaluate("document.activeElement.closest('.compare').querySelector('.flicker').click()")
    assert re.search(r"inset\(0(px)? 0(px)? 0(px)? 0(%|px)?\)|inset\(0(px|%)?\)", clip()), clip()


def test_of_three_maps_any_two_can_be_compared(unfolded):
    shown = unfolded.evaluate(
        """(() => {
          const figure = [...document.querySelectorAll('.compare')].at(-1);
          const right = figure.querySelectorAll('select')[1];
          right.value = '2';
          right.dispatchEvent(new Event('input'));
          return [...figure.querySelectorAll('.layer')].map(i => i.getBoundingClientRect().height > 0);
        })()"""
    )
    assert shown == [True, False, True]


def test_the_pictures_of_a_comparison_lie_on_each_other(unfolded):
    boxes = unfolded.evaluate(
        "[...document.querySelectorAll('.compare')[1].querySelectorAll('.layer')]"
        ".map(i => { const b = i.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })"
    )
    assert boxes[0] == boxes[1] and boxes[0][2] > 300


def test_every_control_can_be_reached_and_named(page):
    nameless = page.evaluate(
        "[...document.querySelectorAll('main input, main select, main button, main textarea')]"
        ".filter(e => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label'))).length"
    )
    assert nameless == 0
    assert page.evaluate("[...document.images].every(i => i.alt.length > 0 && i.alt.length <= 301)")


def test_print_shows_what_is_folded_and_no_controls(page):
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = page.evaluate(
        "['nav', '.controls', '.actions', 'textarea'].map(s => getComputedStyle(document.querySelector(s)).display)"
    )
    assert hidden == ["none"] * 4
    layers = page.evaluate("[...document.querySelectorAll('.compare .layer')].map(i => i.getBoundingClientRect().top)")
    assert len(set(layers)) == len(layers), "pictures of a comparison are printed one below the other"
    page.call("Emulation.setEmulatedMedia", media="")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") > 5


def test_a_picture_is_enlarged_and_put_back_by_the_keyboard(page):
    page.evaluate("document.querySelector('figure > img').focus()")
    page.press("Enter")
    assert page.evaluate("document.activeElement.getBoundingClientRect().width") == 1600
    page.resize(400, 700)
    wide, scrolled = page.evaluate(
        "[document.activeElement.offsetWidth, document.activeElement.parentElement.scrollWidth]"
    )
    assert wide == scrolled == 1500, "on a small screen the enlarged picture is scrolled through"
    page.resize(1600, 900)
    page.press("Escape")
    assert page.evaluate("document.activeElement.getBoundingClientRect().width") < 1400


def test_dark_colours_have_contrast(page_file):
    script = """(() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
      const solid = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
      const poor = [];
      for (const e of document.querySelectorAll('main p, main td, main th, main li, main summary, main a, .badge')) {
        const [a, b] = [light(getComputedStyle(e).color), light(solid(e))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(e.className + ' ' + e.textContent.slice(0, 30));
      }
      return poor;
    })()"""
    for dark in (False, True):
        with open_page(page_file.as_uri(), dark=dark) as opened:
            assert opened.evaluate(script) == []


def test_the_page_is_valid_html(page_file):
    justhtml = pytest.importorskip("justhtml", reason="needs qsmprep[test]")
    found = justhtml.JustHTML(page_file.read_text("utf-8"), collect_errors=True).errors
    assert found == []


def test_the_w3c_checker_finds_no_error(page_file):
    jar = os.environ.get("VNU_JAR", "")
    if not (os.path.isfile(jar) and shutil.which("java")):
        pytest.skip("name the jar of the Nu Html Checker in VNU_JAR")
    command = ["java", "-jar", jar, "--errors-only", "--format", "gnu", str(page_file)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
