"""The viewer's page in a real browser."""

import threading
from importlib.resources import files

import numpy as np
import pytest
from chromium import open_page
from PIL import Image
from viewer_output import AFFINE, PREFIX, SHAPE, head

from qsmprep.bids.outputs import output_path, write_image
from qsmprep.report.montage import plan
from qsmprep.report.server import _SCRIPTS, ResultsServer
from qsmprep.report.viewer import picture_link, viewer_link


@pytest.fixture(scope="module")
def niivue():
    if not files("qsmprep.data").joinpath("viewer/niivue.js").is_file():
        pytest.skip("NiiVue is not built (make viewer)")


def text(page, name):
    return page.evaluate(f"document.getElementById('{name}').textContent")


def open_viewer(server, address="", **window):
    page = open_page(server.url + viewer_link(PREFIX) + address, **window)
    page.wait_for(
        "/[RL] /.test(document.getElementById('position').textContent) || !document.getElementById('message').hidden"
    )
    return page


def voxel(page):
    return tuple(int(part) for part in text(page, "voxel").split(", "))


def value(page, suffix=""):
    return float(text(page, f"value{suffix}").split()[0].replace("−", "-"))


def crop(page, tmp_path, name, mode="L"):
    """What an element looks like on the screen."""
    box = page.evaluate(
        f"(r => [r.left, r.top, r.right, r.bottom])(document.getElementById('{name}').getBoundingClientRect())"
    )
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = Image.open(page.screenshot(tmp_path / "page.png")).convert(mode)
    return np.asarray(picture.crop([round(b) for b in box]), float)


def shade(page, tmp_path):
    """Mean and spread of grey over the slices."""
    pixels = crop(page, tmp_path, "slices")
    return pixels.mean(), pixels.std()


def coloured(page, tmp_path):
    """Share of the slices' pixels that are no grey."""
    return (np.ptp(crop(page, tmp_path, "slices", "RGB"), axis=-1) > 30).mean()


def test_the_viewer_shows_maps_and_tells_the_value_at_the_crosshair(server, results, niivue, tmp_path):
    ramp = results[1]
    with open_viewer(server, width=960, height=640) as page:
        assert text(page, "message") == "" and text(page, "run") == PREFIX
        assert (text(page, "scale-low"), text(page, "scale-high"), text(page, "scale-unit")) == (
            "−0.200",
            "0.200",
            "ppm",
        )
        assert shade(page, tmp_path)[1] > 20

        start = voxel(page)
        for key, step in {"ArrowLeft": (1, 0, 0), "ArrowUp": (0, 1, 0), "PageUp": (0, 0, -1)}.items():
            page.press(key)  # radiological: left is the patient's right, and slices were stored from the top
            start = tuple(np.add(start, step))
            assert voxel(page) == start
            assert value(page) == pytest.approx(ramp[start], abs=6e-5)
        sides = [part.split() for part in text(page, "position").split(", ")]
        place = [float(number) * (1 if side in "RAS" else -1) for side, number in sides]
        assert place == pytest.approx((AFFINE @ [*start, 1])[:3], abs=0.06)

        page.press("r")
        page.press("ArrowLeft")
        assert voxel(page) == (start[0] - 1, *start[1:])

        before = text(page, "voxel")
        box = page.evaluate(
            "(r => [r.left, r.top, r.width, r.height])(document.getElementById('slices').getBoundingClientRect())"
        )
        page.click(box[0] + 0.12 * box[2], box[1] + 0.4 * box[3])
        page.wait_for(f"document.getElementById('voxel').textContent !== '{before}'")
        assert value(page) == pytest.approx(ramp[voxel(page)], abs=6e-5)

        assert page.console_errors() == []
        assert {address.split("/")[2] for address in page.requests() if not address.startswith("data:")} == {
            server.url.split("/")[2]
        }


def test_maps_windows_and_overlays_are_changed_by_keys_and_buttons(server, results, niivue, tmp_path):
    with open_viewer(server, width=960, height=640) as page:
        here = voxel(page)
        page.press("2")
        page.wait_for("document.getElementById('value-name').textContent.includes('FANSI')")
        assert voxel(page) == here and value(page) == pytest.approx(-results[1][here], abs=6e-5)
        page.evaluate("document.querySelectorAll('#maps button')[4].click()")
        page.wait_for("document.getElementById('value-name').textContent === 'Magnitude'")
        assert page.evaluate("document.querySelector('#maps [aria-pressed=true] kbd').textContent") == "5"
        assert (value(page), text(page, "scale-unit"), text(page, "scale-low")) == (200, "a.u.", "0")

        page.press("1")
        page.wait_for("document.getElementById('scale-unit').textContent === 'ppm'")
        grey = shade(page, tmp_path)[0]
        page.evaluate(
            "(s => { s.value = 0.05; s.dispatchEvent(new Event('input')); })(document.getElementById('high'))"
        )
        assert text(page, "scale-high") == "0.050" and shade(page, tmp_path)[0] > grey + 5
        page.press("w")
        assert text(page, "scale-high") == "0.200" and shade(page, tmp_path)[0] == pytest.approx(grey, abs=0.5)

        page.press("o")
        page.wait_for("document.getElementById('region').textContent === 'Mask 1: brain'")
        assert shade(page, tmp_path)[0] > grey + 1  # its outline
        page.evaluate("document.querySelectorAll('#overlays input')[2].click()")
        page.wait_for("document.getElementById('region').textContent.includes('(')")
        name = "Right (2034)" if here[0] >= SHAPE[0] // 2 else "<i>Left & low</i> (1017)"
        assert text(page, "region") == f"Mask 1: brain; {name}"
        assert page.evaluate("document.querySelectorAll('main i, #maps script').length") == 0
        assert page.console_errors() == []


def at(index):
    """The part of the address that puts the crosshair on a voxel."""
    return "at=" + ",".join(f"{mm:.1f}" for mm in (AFFINE @ [*index, 1])[:3])


def go(page, address):
    """Follow a link within the page."""
    page.evaluate(f"location.hash = {address!r}")


def show_map(page, number):
    page.evaluate(f"document.querySelectorAll('#maps button')[{number}].click()")
    page.wait_for(
        f"document.querySelectorAll('#maps button')[{number}].getAttribute('aria-pressed') === 'true'"
        " && !document.getElementById('status').textContent"
    )


def test_outside_its_mask_every_map_says_the_same_and_a_zero_within_is_a_value(server, results, niivue):
    ramp = results[1]
    inside = next(zip(*np.nonzero(ramp < -0.01), strict=True))
    with open_viewer(server, f"#{at((1, 1, 1))}", width=700, height=600) as page:
        assert page.evaluate("location.hash") and voxel(page) == (1, 1, 1)
        names, words = [], []
        for number in range(6):
            show_map(page, number)
            names.append(text(page, "value-name"))
            words.append(text(page, "value"))
        assert len(set(names)) == 6 and names[4] == "Magnitude"
        assert words.pop(4) == "outside the mask: 100.0 a.u."  # an image that was not cut
        assert set(words) == {"outside the mask"}
        go(page, f"#map=desc-paramagnetic_Chimap&{at(inside)}")
        page.wait_for("document.getElementById('value-name').textContent.startsWith('Paramagnetic')")
        assert voxel(page) == tuple(int(n) for n in inside) and text(page, "value") == "0.0000 ppm"
        assert page.console_errors() == []


def test_what_is_cut_is_told_by_the_mask_and_without_one_by_the_value(server, niivue):
    """A zero within the mask is grey where the window goes below zero, not black."""
    script = """import('./volumes.js').then(({ cutOutside }) => {
        const cut = mask => { const image = { img: Float32Array.of(0, 0, 0.1, NaN) }; cutOutside(image, mask);
                              return [...image.img].map(v => v < -1e29); };
        return [cut({ img: Uint8Array.of(1, 0, 1, 1) }), cut(null)]; })"""
    with open_page(server.url + viewer_link(PREFIX)) as page:
        assert page.evaluate(script) == [[False, True, False, True], [True, True, False, True]]


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A run whose head is marked at the right, in front and above, in an oblique slab; and the susceptibility."""
    root = tmp_path_factory.mktemp("marked")
    turn = np.deg2rad(12)
    affine = AFFINE.copy()
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]] @ AFFINE[1:3, 1:3]
    inside = head()
    chi = np.where(inside, -0.15, 0).astype(np.float32)
    chi[13:18, 15:20, 3:8] = 0.2
    write_image(root / output_path("chi", "sub-01"), chi, affine)
    write_image(root / output_path("qsm_mask", "sub-01"), inside, affine, mask=True)
    with ResultsServer(root, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, chi, affine
        server.shutdown()


def test_one_plane_fills_the_frame_and_lies_as_in_the_report(marked, niivue, tmp_path):
    server, chi, affine = marked
    mark = ",".join(f"{mm:.1f}" for mm in (affine @ [15, 17, 5, 1])[:3])
    with open_page(f"{server.url}viewer/?run=sub-01#at={mark}", width=640, height=600) as page:
        page.wait_for("document.getElementById('voxel').textContent === '15, 17, 5'")
        page.press("x")  # no crosshair
        for convention in ("radiological", "neurological"):
            layout = plan(chi.shape, affine, slices=15, convention=convention)
            drawn = layout.draw(chi)
            for key, name in (("a", "axial"), ("c", "coronal"), ("s", "sagittal")):
                page.press(key)
                page.wait_for(f"document.querySelector('[data-plane={name}]').getAttribute('aria-pressed') === 'true'")
                seen = crop(page, tmp_path, "slices")[10:-10, 10:-10]  # without the frame's round corners
                seen[:40, :60] = 0  # the letters
                # Where the mark lies in the head, on the screen and in that slice of the report that shows most of it.
                tiles = [tile for tile in layout.tiles if tile.plane.name == name]
                pictures = [drawn[t.row : t.row + t.height, t.column : t.column + t.width] for t in tiles]
                picture = max(pictures, key=lambda part: (part > 0.1).sum())
                assert place_of_mark(seen > 180, (seen > 3) & (seen < 180)) == pytest.approx(
                    place_of_mark(picture > 0.1, picture < -0.1), abs=0.06
                )
                assert np.ptp(np.nonzero((seen > 3).any(axis=1))) > 0.6 * seen.shape[0]  # not a third of the frame
            page.press("r")
        assert page.console_errors() == []


def place_of_mark(mark, head):
    """Middle of the mark as shares of the box of both, across and down."""
    rows, columns = np.nonzero(mark | head)
    down, across = (np.mean(found) for found in np.nonzero(mark))
    return (across - columns.min()) / np.ptp(columns), (down - rows.min()) / np.ptp(rows)


def test_the_reports_slices_are_found_by_their_link_also_in_an_oblique_slab(marked, niivue):
    server, chi, affine = marked
    layout = plan(chi.shape, affine)
    middle = (np.array(chi.shape) - 1) / 2
    with open_page(f"{server.url}viewer/?run=sub-01", width=700, height=600) as page:
        page.wait_for("/[RL] /.test(document.getElementById('position').textContent)")
        for tile in layout.tiles[:: len(layout.tiles) // 3]:
            through = tile.plane.through
            index = middle.copy()
            axis = layout.axes[through]
            index[axis] = chi.shape[axis] - 1 - tile.index if layout.flips[through] else tile.index
            place = (affine @ [*index, 1])[through]
            go(page, "#" + picture_link("sub-01", "chi", tile.plane.name, place).partition("#")[2])
            page.wait_for(
                f"document.getElementById('voxel').textContent.split(', ')[{axis}] === '{int(index[axis])}'"
                f" && document.querySelector('[data-plane={tile.plane.name}]').getAttribute('aria-pressed') === 'true'"
            )
            assert text(page, "ignored") == ""


def test_two_maps_side_by_side_share_crosshair_and_zoom_but_not_the_window(server, results, niivue, tmp_path):
    ramp = results[1]
    with open_viewer(server, "#plane=axial", width=920, height=560) as page:
        page.press("b")
        page.wait_for("document.getElementById('value-name-2').textContent.includes('FANSI')")
        assert text(page, "name") != text(page, "name-2") and "FANSI" in text(page, "name-2")
        box = page.evaluate(
            "(r => [r.left, r.top, r.width, r.height])(document.getElementById('slices-2').getBoundingClientRect())"
        )
        before = voxel(page)
        page.click(box[0] + 0.4 * box[2], box[1] + 0.45 * box[3])
        page.wait_for(f"document.getElementById('voxel').textContent !== '{', '.join(map(str, before))}'")
        here = voxel(page)
        assert (value(page), value(page, "-2")) == pytest.approx((ramp[here], -ramp[here]), abs=6e-5)

        page.evaluate("document.getElementById('crosshair').click()")
        for _ in range(4):
            page.press("+")
        pixels = [crop(page, tmp_path, f"slices{suffix}")[24:] for suffix in ("", "-2")]  # without the letters
        assert np.median(pixels[0] + pixels[1]) == pytest.approx(255, abs=3)  # the second is the first's negative
        assert "zoom=2" in page.wait_for("location.hash.includes('zoom') && location.hash")

        page.evaluate(
            "(s => { s.value = 0.02; s.dispatchEvent(new Event('input')); })(document.getElementById('high-2'))"
        )
        assert (text(page, "scale-high"), text(page, "scale-high-2")) == ("0.200", "0.020")
        page.press("5", "Shift")
        page.wait_for("document.getElementById('value-name-2').textContent === 'Magnitude'")
        page.press("5")  # they change places
        page.wait_for("document.getElementById('value-name').textContent === 'Magnitude'")
        assert text(page, "value-name-2").startswith("Susceptibility") and value(page, "-2") != value(page)
        page.press("b")
        page.wait_for("document.getElementById('pane-2').hidden")
        assert page.console_errors() == []


def test_two_maps_flicker_and_are_held_by_the_space_bar(server, niivue, tmp_path):
    front = "[...document.querySelectorAll('.pane:not(.behind)')].map(p => p.id).join()"
    with open_viewer(server, "#second=magnitude&compare=flicker", width=700, height=600) as page:
        page.wait_for("document.getElementById('value-name-2').textContent === 'Magnitude'")
        page.wait_for(f"{front} === 'pane-2'")
        page.wait_for(f"{front} === 'pane-1'")
        page.press(" ")
        held = page.evaluate(front)
        assert page.evaluate(f"new Promise(r => setTimeout(() => r({front}), 700))") == held
        assert text(page, "running") == "Run"
        seen = crop(page, tmp_path, "panes")
        page.press(" ")
        assert {held, page.evaluate(front)} == {"pane-1", "pane-2"}
        assert page.evaluate("document.activeElement.id") == "slices"  # arrows still move
        assert np.abs(crop(page, tmp_path, "panes") - seen).max() > 50
        page.press("f")
        page.wait_for("document.getElementById('pane-2').hidden")
        assert page.console_errors() == []


def test_the_address_holds_what_is_shown(server, niivue):
    with open_viewer(server, width=700, height=600) as page:
        for key in ("2", "c", "o", "r", "ArrowUp", "+"):
            page.press(key)
        page.wait_for("document.getElementById('value-name').textContent.includes('FANSI')")
        page.evaluate(
            "(s => { s.value = 0.05; s.dispatchEvent(new Event('input')); })(document.getElementById('high'))"
        )
        kept = page.wait_for("/window=/.test(location.hash) && /at=/.test(location.hash) && location.hash")
        shown = [text(page, name) for name in ("value", "voxel", "region", "scale-high", "name")]
        for part in ("map=desc-fansitgv_Chimap", "plane=coronal", "overlays=desc-brain_mask", "window=-0.2,0.05"):
            assert part in kept
        assert "convention=neurological" in kept and "zoom=1.25" in kept

        page.go("about:blank")
        page.go(server.url + viewer_link(PREFIX) + kept)
        page.wait_for("document.getElementById('region').textContent === 'Mask 1: brain'")
        assert [text(page, name) for name in ("value", "voxel", "region", "scale-high", "name")] == shown
        assert page.evaluate("document.getElementById('radiological').checked") is False
        page.wait_for("location.hash.includes('zoom')")
        assert page.evaluate("location.hash") == kept
        assert page.console_errors() == []


def test_a_bad_address_is_ignored_with_a_line(server, niivue):
    bad = {
        "map=nothing&plane=oblique&slice=x&at=1,2&window=2,1&zoom=NaN&compare=no&<b>=1": "zoom (give a number)",
        "%E0%A4%A&&&==&constructor=1&__proto__=2": "__proto__ (there is no such word)",
        "slice=4&at=9999,0,0&second=Chimap": "at (it lies outside the map); slice (it needs one plane)",
        "plane=axial&slice=4000": "slice (the map has none there)",
        "map=" + "a" * 5000: "map (this run has no aaa",
    }
    with open_viewer(server, "#" + next(iter(bad)), width=700, height=600) as page:
        for address, words in bad.items():
            go(page, f"#{address}")
            page.wait_for(f"document.getElementById('ignored').textContent.includes({words!r})")
            assert text(page, "ignored").startswith("Of the address this was ignored: ")
            assert len(text(page, "ignored")) < 600 and text(page, "value").endswith("ppm")
        assert page.evaluate("document.querySelectorAll('#ignored b').length") == 0
        go(page, "#plane=axial&slice=0")
        page.wait_for("document.getElementById('ignored').textContent === ''")
        assert page.console_errors() == []


def test_regions_are_laid_over_the_map_with_their_names_and_values(server, results, niivue, tmp_path):
    ramp = results[1]
    right = ramp[SHAPE[0] // 2 :][ramp[SHAPE[0] // 2 :] != 0]
    with open_viewer(server, f"#overlays=desc-tiny_dseg&{at((14, 13, 10))}", width=700, height=600) as page:
        page.wait_for("document.getElementById('region').textContent === 'Right (2034)'")
        assert text(page, "statistics") == (
            f"Susceptibility in Right: {right.mean():.4f} ± {right.std():.4f} ppm, {right.size} voxels"
        )
        filled = coloured(page, tmp_path)
        assert filled > 0.2
        page.evaluate(
            "(s => { s.value = 0; s.dispatchEvent(new Event('input')); })(document.getElementById('fill-regions'))"
        )
        assert 0.02 < coloured(page, tmp_path) < 0.7 * filled  # outlines alone
        go(page, f"#{at((8, 13, 10))}")
        page.wait_for("document.getElementById('region').textContent === '<i>Left & low</i> (1017)'")
        assert text(page, "statistics") == "Susceptibility in <i>Left & low</i>: no valid voxel"
        page.press("2")  # of a further inversion the run measures nothing
        page.wait_for("document.getElementById('statistics').textContent === 'not measured here'")
        assert page.console_errors() == []


# Texts whose colour differs too little from what is behind them.
POOR_CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
  const solid = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('p, dt, dd, h1, h2, a, label, button, kbd, summary, select, .scale span')]
    .filter(e => e.checkVisibility() && e.textContent.trim()).filter(e => {
      const [a, b] = [light(getComputedStyle(e).color), light(solid(e))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05) < 4.5; }).map(e => e.className + ' ' + e.textContent.slice(0, 30));
})()"""


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1100, True), (1600, False)])
def test_the_page_fits_and_its_controls_can_be_read_named_and_reached(server, niivue, width, dark):
    address = "#second=magnitude&compare=side&overlays=desc-tiny_dseg&nonsense=1"
    with open_viewer(server, address, width=width, height=850, dark=dark) as page:
        page.wait_for("document.getElementById('ignored').textContent")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        frames = page.evaluate(
            "['slices', 'slices-2'].map(id => document.getElementById(id).getBoundingClientRect().top)"
        )
        assert frames[0] == pytest.approx(frames[1], abs=0.5)  # however long their names are
        nameless = """[...document.querySelectorAll('button, input, canvas, select')].filter(e =>
            !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"""
        assert page.evaluate(nameless) == 0
        assert page.evaluate(POOR_CONTRAST) == []
        if width != 1600:
            return
        seen = set()
        for _ in range(50):
            page.press("Tab")
            seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        wanted = {"slices", "slices-2", "low", "high-number", "low-2", "window-reset-2", "second", "flicker"}
        assert wanted | {"window-reset", "fill", "fill-regions", "radiological", "zoom", "Axial A"} <= seen


def test_without_niivue_the_pictures_are_shown(server, monkeypatch):
    monkeypatch.setattr("qsmprep.report.server._OWN_FILES", ("viewer.css", *_SCRIPTS))
    with open_viewer(server) as page:
        assert "lacks NiiVue" in text(page, "message") and "make viewer" in text(page, "message")
        page.wait_for("document.querySelector('#pictures img').naturalWidth > 0")


def test_an_unknown_run_is_said_in_words(server):
    with open_page(server.url + "viewer/?run=sub-77") as page:
        page.wait_for("!document.getElementById('message').hidden")
        assert "no such run" in text(page, "message")
