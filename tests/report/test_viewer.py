"""The interactive viewer: what it finds, where its links lead, and what its server refuses."""

import http.client
import json
import os
import select
import socket
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from viewer_output import PREFIX, SHAPE

from qsmprep.bids.outputs import OUTPUTS, figures_folder, output_path
from qsmprep.report.pictures import PICTURES, further_inversion
from qsmprep.report.server import _SCRIPTS, answer, split_address
from qsmprep.report.viewer import (
    MAPS,
    MASKS,
    PICTURED,
    is_prefix,
    list_runs,
    picture_link,
    render_index,
    run_document,
    slice_link,
    viewer_link,
)


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
    assert {mask for shown in MAPS.values() for mask in shown.masks} <= set(MASKS)


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
    assert document["overlays"][-1]["id"] == "desc-tiny_dseg"
    assert document["report"] == "sub-01.html"
    for shown in (*document["maps"], *document["overlays"], *document["pictures"]):
        assert (results[0] / shown["file"]).is_file()


def test_each_map_has_the_mask_that_tells_where_it_has_values(results):
    masks = {shown["id"]: shown["mask"] for shown in run_document(results[0], PREFIX)["maps"]}
    brain, qsm = (output_path(key, PREFIX).as_posix() for key in ("brain_mask", "qsm_mask"))
    assert {name: masks[name] for name in ("Chimap", "desc-fansitgv_Chimap", "desc-local_fieldmap", "magnitude")} == {
        "Chimap": qsm,
        "desc-fansitgv_Chimap": qsm,
        "desc-local_fieldmap": qsm,
        "magnitude": brain,
    }


def test_a_map_whose_mask_is_not_there_says_so(tmp_path):
    (tmp_path / "sub-01/anat").mkdir(parents=True)
    for name in ("Chimap", "R2starmap", "desc-brain_mask"):
        (tmp_path / f"sub-01/anat/sub-01_{name}.nii.gz").touch()
    masks = {shown["id"]: shown["mask"] for shown in run_document(tmp_path, "sub-01")["maps"]}
    assert masks == {"Chimap": None, "R2starmap": "sub-01/anat/sub-01_desc-brain_mask.nii.gz"}


def test_maps_of_an_earlier_command_are_marked(tmp_path):
    for name in ("anat/sub-01_Chimap", "anat/sub-01_desc-paramagnetic_Chimap"):
        path = tmp_path / "sub-01" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    record = tmp_path / figures_folder("sub-01") / "sub-01_record.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"started": "2026-01-02T03:04:05+00:00"}))
    os.utime(path, (0, 0))
    quality = tmp_path / "sub-01/anat/sub-01_qc.json"
    quality.write_text(json.dumps({"verdict": "usable"}))
    assert ">usable<" in render_index(tmp_path)
    os.utime(quality, (0, 0))
    assert ">usable<" not in render_index(tmp_path)
    names = {shown["id"]: shown["name"] for shown in run_document(tmp_path, "sub-01")["maps"]}
    assert names["Chimap"] == "Susceptibility"
    assert names["desc-paramagnetic_Chimap"].endswith(", of an earlier command")


def test_segmentations_of_a_run_whose_name_begins_alike_are_not_shown(tmp_path):
    (tmp_path / "sub-01/anat").mkdir(parents=True)
    for name in ("sub-01_Chimap", "sub-01_desc-own_dseg", "sub-01_acq-x_desc-other_dseg"):
        (tmp_path / f"sub-01/anat/{name}.nii.gz").touch()
    shown = run_document(tmp_path, "sub-01")["overlays"]
    assert [overlay["id"] for overlay in shown] == ["desc-own_dseg"]


def test_regions_come_with_the_values_that_the_run_measured(results):
    ramp = results[1]
    *_, regions = run_document(results[0], PREFIX)["overlays"]
    assert set(regions["values"]) == {"1017", "2034"}
    assert regions["values"]["1017"] == {"chi": {"mean": None, "sd": None, "voxels": 0}}
    right = ramp[SHAPE[0] // 2 :][ramp[SHAPE[0] // 2 :] != 0]
    found = regions["values"]["2034"]["chi"]
    assert (found["voxels"], found["mean"]) == (right.size, pytest.approx(right.mean(), rel=1e-4))


@pytest.mark.parametrize(
    "damage", ["", "no\ttable\n1\t2\n", "segmentation\tindex\tmap\tn\tmean\tsd\nx\t1\tchi\tmany\t0\t0\n"]
)
def test_a_damaged_table_of_regions_costs_its_values_alone(tmp_path, damage):
    anat = tmp_path / "sub-01/anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_desc-x_dseg.nii.gz").touch()
    (anat / "sub-01_desc-roi_stats.tsv").write_text(damage)
    (overlay,) = run_document(tmp_path, "sub-01")["overlays"]
    assert overlay["values"] == {}


def test_a_table_of_regions_that_leads_elsewhere_is_not_read(tmp_path):
    anat = tmp_path / "out/sub-01/anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_desc-x_dseg.nii.gz").touch()
    (tmp_path / "secret.tsv").write_text("segmentation\tindex\tmap\tn\tmean\tsd\nx\t1\tchi\t5\t1\t1\n")
    (anat / "sub-01_desc-roi_stats.tsv").symlink_to(tmp_path / "secret.tsv")
    assert run_document(tmp_path / "out", "sub-01")["overlays"][0]["values"] == {}


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


def test_a_link_leads_to_a_slice():
    link = slice_link("sub-01", "chi", "sagittal", -12.345, desc="fansi-tgv", overlays=("desc-a_dseg", "desc-b_mask"))
    address = urlsplit(link)
    assert f"{address.path}?{address.query}" == viewer_link("sub-01")
    assert parse_qs(address.fragment) == {
        "map": ["desc-fansitgv_Chimap"],
        "plane": ["sagittal"],
        "slice": ["-12.35"],
        "overlays": ["desc-a_dseg,desc-b_mask"],
    }


@pytest.mark.parametrize(
    ("key", "plane", "place"), [("brain_mask", "axial", 0), ("chi", "oblique", 0), ("chi", "axial", float("nan"))]
)
def test_a_link_to_no_slice_is_refused(key, plane, place):
    with pytest.raises(ValueError, match=r"no map|no plane|place in mm"):
        slice_link("sub-01", key, plane, place)


def test_pictures_of_written_maps_lead_to_these():
    assert {key for key, _ in PICTURED.values()} <= set(MAPS)
    unwritten = {"coherence", "firstecho", "lastecho", "unwrapped", "quality", "weights", "spinecho"}
    assert set(PICTURES) - set(PICTURED) == unwritten
    assert {name for name in PICTURES if not picture_link("sub-01", name, "axial", 0)} == unwritten
    assert "map=desc-tkd_Chimap&" in picture_link("sub-01", further_inversion("tkd").name, "axial", 0)


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
    monkeypatch.setattr("qsmprep.report.server._OWN_FILES", ("viewer.css", *_SCRIPTS))
    reply = answer(results[0], "/viewer/niivue.js")
    assert reply.status == 404 and b"without NiiVue" in reply.body


def test_the_documents_of_a_run_are_json_all_the_way(results):
    json.dumps(run_document(results[0], PREFIX), allow_nan=False)
