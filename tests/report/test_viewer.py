"""The interactive viewer: what it finds, what its server refuses, and the page in a real browser."""

import http.client
import json
import os
import select
import socket
import threading
import time
from importlib.resources import files

import numpy as np
import pytest
from chromium import open_page
from PIL import Image

from qsmprep.bids.outputs import OUTPUTS, output_path, write_image
from qsmprep.report.server import ResultsServer, answer, split_address
from qsmprep.report.viewer import MAPS, MASKS, is_prefix, list_runs, render_index, run_document, viewer_link

PREFIX = "sub-01_ses-2_run-1"
SHAPE = (22, 26, 20)
# Stored from left to right and from top to bottom, voxels of 4 x 4 x 5 mm, as some scanners do.
AFFINE = np.array([[4.0, 0, 0, -44], [0, 4.0, 0, -50], [0, 0, -5.0, 45], [0, 0, 0, 1]])


def head(shape=SHAPE):
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(axis**2 for axis in grid) < 0.7


def make_output(root):
    """Maps of one run: every voxel of susceptibility has a value of its own."""
    inside = head()
    ramp = np.linspace(-0.2, 0.2, inside.size, dtype=np.float32).reshape(SHAPE) * inside
    for key, volume in {
        "chi": ramp,
        "para": np.clip(ramp, 0, None),
        "local_field": 20 * ramp,
        "magnitude": 100 * (1 + inside),
        "r2star": 20.0 * inside,
    }.items():
        write_image(root / output_path(key, PREFIX), volume, AFFINE)
    write_image(root / output_path("chi", PREFIX, desc="fansi-tgv"), -ramp, AFFINE)
    for key in ("brain_mask", "qsm_mask"):
        write_image(root / output_path(key, PREFIX), inside, AFFINE, mask=True)
    anat = (root / output_path("chi", PREFIX)).parent
    labels = np.where(inside, 1017, 0)
    labels[SHAPE[0] // 2 :] *= 2
    write_image(anat / f"{PREFIX}_desc-tiny_dseg.nii.gz", labels, AFFINE)
    (anat / f"{PREFIX}_desc-tiny_dseg.tsv").write_text("index\tname\n1017\t<i>Left & low</i>\n2034\tRight\n")
    (anat / f"{PREFIX}_Chimap.json").write_text('{"EstimationAlgorithm": "<script>alert(1)</script>"}')
    (anat / f"{PREFIX}_qc.json").write_text('{"verdict": "do not use"}')
    (root / "sub-01.html").write_text("<!DOCTYPE html><title>sub-01</title><p>report")
    figures = root / "sub-01/ses-2/figures"
    figures.mkdir()
    Image.new("L", (40, 30), 90).save(figures / f"{PREFIX}_desc-chi_Chimap.png")
    return ramp


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("viewer") / "out"
    root.mkdir()
    return root, make_output(root)


@pytest.fixture(scope="module")
def server(results):
    with ResultsServer(results[0], 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path, method="GET", *, knows=True, **headers):
    """Status, headers and body of one request, the path sent as it is, after the secret word unless it is not known."""
    path = f"/{server.secret}{path}" if knows and path.startswith("/") else path
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, reply.headers, body


# What is shown


def test_every_derivative_has_a_place_in_the_viewer():
    assert set(MAPS) == {key for key, output in OUTPUTS.items() if not output.is_mask}
    assert set(MASKS) == {key for key, output in OUTPUTS.items() if output.is_mask}


def test_a_run_lists_its_maps_susceptibility_first(results):
    document = run_document(results[0], PREFIX)
    first, further = document["maps"][:2]
    assert (first["name"], first["unit"], first["window"]) == ("Susceptibility", "ppm", [-0.2, 0.2])
    assert further["detail"] == "FANSI with total generalised variation"
    assert [shown["key"] for shown in document["maps"]] == ["chi", "chi", "para", "local_field", "magnitude", "r2star"]
    assert [overlay["name"] for overlay in document["overlays"]] == [
        "Mask 1: brain",
        "Mask 4: QSM",
        "Segmentation: tiny",
    ]
    assert document["overlays"][-1]["labels"] == {"1017": "<i>Left & low</i>", "2034": "Right"}
    assert document["report"] == "sub-01.html"
    for shown in (*document["maps"], *document["overlays"], *document["pictures"]):
        assert (results[0] / shown["file"]).is_file()


def test_runs_are_told_by_their_files_whatever_else_lies_there(tmp_path):
    for name in ("sub-02/anat/sub-02_Chimap.nii.gz", "sub-02/anat/sub-02_acq-a_space-T1w_desc-x_mask.nii.gz",
                 "sub-1/ses-a/fmap/sub-1_ses-a_magnitude.nii.gz", "sub-3/figures/sub-3_run-2_record.json",
                 "sub-4.html", "sourcedata/sub-9/anat/sub-9_T1w.nii.gz"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_runs(tmp_path) == {
        "02": ["sub-02", "sub-02_acq-a"],
        "1": ["sub-1_ses-a"],
        "3": ["sub-3_run-2"],
        "4": [],
    }


@pytest.mark.parametrize(
    "text", ["", "sub-", "sub-01/../x", "../sub-01", "sub-01_desc-x", "sub-01\n", "sub-*", "a" * 999]
)
def test_what_is_no_prefix_of_a_run_is_never_looked_for(text, tmp_path):
    assert not is_prefix(text)
    assert run_document(tmp_path, text) is None


def test_the_link_is_relative_and_quoted():
    assert viewer_link("sub-01_run-1") == "viewer/?run=sub-01_run-1"
    assert viewer_link('a"><b&c=d') == "viewer/?run=a%22%3E%3Cb%26c%3Dd"


def test_the_index_lists_reports_runs_and_verdicts_escaped(results, tmp_path):
    page = render_index(results[0])
    assert 'href="sub-01.html"' in page and f'href="{viewer_link(PREFIX)}"' in page and "do not use" in page
    assert "group.html" not in page
    (tmp_path / "sub-<img src=x onerror=alert(1)>.html").touch()
    (tmp_path / "group.html").touch()
    page = render_index(tmp_path)
    assert "<img" not in page and "sub-&lt;img" in page and 'href="group.html"' in page


# What the server gives and what it refuses


def test_maps_come_as_packed_files_with_every_protection(server, results):
    path = "/" + output_path("chi", PREFIX).as_posix()
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"], headers["Content-Encoding"]) == (200, "application/gzip", None)
    assert body == (results[0] / path[1:]).read_bytes()
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and "Access-Control-Allow-Origin" not in headers


def test_head_tells_the_size_and_sends_nothing(server):
    status, headers, body = ask(server, "/sub-01.html", "HEAD")
    assert (status, int(headers["Content-Length"]) > 0, body) == (200, True, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/viewer/",
        "/viewer/viewer.css",
        "/viewer/viewer.js",
        "/sub-01.html",
        f"/viewer/run.json?run={PREFIX}",
        "/sub-01/ses-2/anat/%73ub-01_ses-2_run-1_Chimap.json",
    ],
)
def test_what_there_is_to_see(server, path):
    assert ask(server, path)[0] == 200


@pytest.fixture(scope="module")
def traps(results, tmp_path_factory):
    """Files beside the output folder, hidden in it or linked from it, all with the same secret."""
    root = results[0]
    outside = root.parent / "secret.txt"
    outside.write_text("secret")
    (root.parent / "out2").mkdir()
    (root.parent / "out2/secret.txt").write_text("secret")
    (root / ".hidden").mkdir()
    (root / ".hidden/secret.txt").write_text("secret")
    (root / ".secret.txt").write_text("secret")
    (root / "secret.py").write_text("secret")
    (root / "link.txt").symlink_to(outside)
    (root / "linked").symlink_to(root.parent)
    (root / "circle.txt").symlink_to("circle.txt")
    os.mkfifo(root / "pipe.txt")
    (root / "viewer").mkdir()
    (root / "viewer/secret.txt").write_text("secret")
    return root


@pytest.mark.parametrize("path", [
    "/../secret.txt", "/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt", "/%2E%2E/secret.txt", "/sub-01/../../secret.txt",
    "/sub-01/%2e%2e/%2e%2e/secret.txt", "/..%5csecret.txt", "/..\\secret.txt", "/%252e%252e/secret.txt",
    "/../out2/secret.txt", "//secret.txt", "///etc/passwd", "/%2fetc/passwd", "/etc/passwd", "/./secret.txt",
    "/.hidden/secret.txt", "/.secret.txt", "/%2esecret.txt", "/secret.py", "/link.txt", "/linked/secret.txt",
    "/circle.txt", "/pipe.txt", "/sub-01", "/sub-01/", "/sub-01.html/", "/sub-01.html%00.txt", "/%ff.txt",
    "/viewer/../secret.txt", "/viewer/secret.txt", "/viewer/%2e%2e/%2e%2e/secret.txt", "/viewer//viewer.js",
    "/viewer/__init__.py", "/viewer/index.html",
    "/viewer/run.json?run=../../secret", "/viewer/run.json", "/viewer/run.json?run=a&run=b", "secret.txt",
    "http://127.0.0.1/sub-01.html", "/" + "a" * 5000 + ".txt", "/" + "a/" * 2000 + "b.txt",
])  # fmt: skip
def test_nothing_else_is_given(server, traps, path):
    status, _, body = ask(server, path)
    assert status in (400, 403, 404)
    assert b"secret" not in body and b"root:" not in body


def test_a_link_that_stays_in_the_folder_is_followed(server, results):
    """Data sets kept by DataLad hold their files as links."""
    (results[0] / "kept.txt").write_text("mine")
    (results[0] / "inside.txt").symlink_to("kept.txt")
    assert ask(server, "/inside.txt")[2] == b"mine"


def test_sidecars_that_lead_elsewhere_are_not_read(results, tmp_path):
    anat = tmp_path / "out/sub-01/anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_Chimap.nii.gz").touch()
    (tmp_path / "secret.json").write_text('{"EstimationAlgorithm": "secret"}')
    (anat / "sub-01_Chimap.json").symlink_to(tmp_path / "secret.json")
    assert run_document(tmp_path / "out", "sub-01")["maps"][0]["detail"] == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_it_only_reads(server, method):
    status, headers, _ = ask(server, "/sub-01.html", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/sub-01.html", "/viewer/", "/viewer/niivue.js", "/wrong/sub-01.html", "//", "/%2e"]
)
def test_who_does_not_know_the_secret_word_gets_nothing(server, path):
    status, _, body = ask(server, path, knows=False)
    assert status == 403 and b"printed" in body


def test_connections_that_ask_for_nothing_hold_up_nobody(server):
    idle = []
    for _ in range(100):
        idle.append(socket.create_connection(("127.0.0.1", server.server_port), 20))
    started = time.monotonic()
    assert ask(server, "/")[0] == 200 and time.monotonic() - started < 5
    closed = [one for one in idle if select.select([one], [], [], 0)[0] and one.recv(1) == b""]
    assert len(closed) >= 100 - 64
    for one in idle:
        one.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", ""]
)
def test_another_hosts_name_is_refused(server, host):
    status, _, body = ask(server, "/sub-01.html", Host=host)
    assert status == 421 and b"report" not in body


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:8765", "[::1]:80", "LOCALHOST"])
def test_this_machines_names_are_known_also_through_a_tunnel(server, host):
    assert ask(server, "/sub-01.html", Host=host)[0] == 200


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
def test_a_request_names_one_host(server, hosts):
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as line:
        line.sendall(b"GET /sub-01.html HTTP/1.1\r\n" + hosts + b"\r\n")
        assert line.recv(100).split()[1] == b"421"


def test_it_listens_on_loopback_only(server):
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(OSError):  # a server of every address would answer here too
        socket.create_connection(("127.0.0.2", server.server_port), 5).close()


def test_an_address_is_decoded_once():
    assert split_address("/a%2fb.txt") == ("a", "b.txt")
    assert split_address("/a%252fb.txt") == ("a%2fb.txt",)


def test_without_niivue_the_server_says_so(results, monkeypatch):
    monkeypatch.setattr("qsmprep.report.server._OWN_FILES", ("viewer.css", "viewer.js", "controls.js", "volumes.js"))
    reply = answer(results[0], "/viewer/niivue.js")
    assert reply.status == 404 and b"without NiiVue" in reply.body


# The page in a browser


@pytest.fixture(scope="module")
def niivue():
    if not files("qsmprep.data").joinpath("viewer/niivue.js").is_file():
        pytest.skip("NiiVue is not built (make viewer)")


def text(page, name):
    return page.evaluate(f"document.getElementById('{name}').textContent")


def open_viewer(server, **window):
    page = open_page(server.url + viewer_link(PREFIX), **window)
    page.wait_for(
        "/[RL] /.test(document.getElementById('position').textContent) || !document.getElementById('message').hidden"
    )
    return page


def voxel(page):
    return tuple(int(part) for part in text(page, "voxel").split(", "))


def value(page):
    return float(text(page, "value").split()[0].replace("−", "-"))


def shade(page, tmp_path):
    """Mean and spread of grey over the slices as they are on the screen."""
    box = page.evaluate(
        "(r => [r.left, r.top, r.right, r.bottom])(document.getElementById('slices').getBoundingClientRect())"
    )
    pixels = np.asarray(
        Image.open(page.screenshot(tmp_path / "page.png")).convert("L").crop([round(b) for b in box]), float
    )
    return pixels.mean(), pixels.std()


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

        page.press("m")
        page.wait_for("document.getElementById('region').textContent === 'Mask 1: brain'")
        assert shade(page, tmp_path)[0] > grey + 1  # its outline
        page.evaluate("document.querySelectorAll('#overlays input')[2].click()")
        page.wait_for("document.getElementById('region').textContent.includes('(')")
        name = "Right (2034)" if here[0] >= SHAPE[0] // 2 else "<i>Left & low</i> (1017)"
        assert text(page, "region") == f"Mask 1: brain; {name}"
        assert page.evaluate("document.querySelectorAll('main i, #maps script').length") == 0
        assert page.console_errors() == []


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1600, False)])
def test_the_page_fits_and_its_controls_have_names(server, niivue, width, dark):
    with open_viewer(server, width=width, height=850, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = """[...document.querySelectorAll('button, input, canvas')].filter(e =>
            !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"""
        assert page.evaluate(nameless) == 0
        if width == 400:
            return
        seen = set()
        for _ in range(28):
            page.press("Tab")
            seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert {"low", "high-number", "window-reset", "fill", "radiological", "zoom", "slices"} <= seen


def test_without_niivue_the_pictures_are_shown(server, monkeypatch):
    monkeypatch.setattr("qsmprep.report.server._OWN_FILES", ("viewer.css", "viewer.js", "controls.js", "volumes.js"))
    with open_viewer(server) as page:
        assert "lacks NiiVue" in text(page, "message") and "make viewer" in text(page, "message")
        page.wait_for("document.querySelector('#pictures img').naturalWidth > 0")


def test_an_unknown_run_is_said_in_words(server):
    with open_page(server.url + "viewer/?run=sub-77") as page:
        page.wait_for("!document.getElementById('message').hidden")
        assert "no such run" in text(page, "message")


def test_the_documents_of_a_run_are_json_all_the_way(results):
    json.dumps(run_document(results[0], PREFIX), allow_nan=False)
