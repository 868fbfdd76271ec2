"""A small web server for one output folder: loopback unless told, read only, nothing beyond that folder and the viewer.

Other users of the machine can reach its port too: every address begins with a secret word, which `url` tells.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from socketserver import TCPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote_to_bytes

from qsmprep.report.viewer import FOLDER, render_index, run_document

ADDRESS = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".tsv": "text/plain; charset=utf-8",  # as text, so that a browser shows it
    ".md": "text/plain; charset=utf-8",
    ".bib": "text/plain; charset=utf-8",
    ".toml": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".nii": "application/octet-stream",
    ".nii.gz": "application/gzip",  # as a file that is packed, without Content-Encoding: the reader unpacks it
}
# What of the types above the output folder may give; it has no business with scripts.
_RESULTS = frozenset(TYPES) - {".js", ".css"}
_SCRIPTS = ("viewer.js", "address.js", "compare.js", "controls.js", "pane.js", "readout.js", "volumes.js")
_OWN_FILES = ("viewer.css", *_SCRIPTS, "niivue.js", "niivue.licenses.txt")

_LOCKED = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
VIEWER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    + _LOCKED
)
RESULTS_POLICY = f"default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; {_LOCKED}"
# Reports name the one script they may run by its hash, in a policy of their own that adds to this one.
REPORT_POLICY = f"{RESULTS_POLICY}; script-src 'unsafe-inline'"
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_BLOCK = 1 << 18
_WAITING = 64  # connections that have not asked for anything yet; of more, the oldest are closed


@dataclass(frozen=True)
class Answer:
    """What a request gets: bytes or an open file of `size` bytes."""

    status: HTTPStatus
    kind: str
    body: bytes | BinaryIO
    size: int
    policy: str


class ResultsServer(ThreadingHTTPServer):
    """Serves an output folder.

    Parameters
    ----------
    output_dir : folder of the derivatives.
    port : to listen on; 0 takes any free one, then `url` tells which.
    host : address to listen on. A container must listen on 0.0.0.0 to be reached through a published port; requests
        must name localhost or 127.0.0.1 all the same.

    Raises
    ------
    OSError : the port is in use or may not be taken.
    """

    daemon_threads = True
    request_queue_size = 128
    block_on_close = False  # an unfinished download must not hold up the end

    def __init__(self, output_dir: Path, port: int, host: str = ADDRESS):
        self.root = Path(output_dir).resolve()
        self.secret = token_urlsafe(16)
        self._waiting: deque[socket.socket] = deque()
        self._watching = threading.Lock()
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name that HTTPServer would make."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    @property
    def url(self) -> str:
        """Where the index is, for whom it was told."""
        return f"http://{ADDRESS}:{self.server_port}/{self.secret}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own; those that ask for nothing must not pile up."""
        with self._watching:
            self._waiting.append(request)
            oldest = self._waiting.popleft() if len(self._waiting) > _WAITING else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def asked(self, request: socket.socket) -> None:
        """A connection has sent its request, or is closed."""
        with self._watching, suppress(ValueError):
            self._waiting.remove(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.asked(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who hangs up is no error of ours."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, one request a connection."""

    server: ResultsServer
    server_version = "qsmprep"
    sys_version = ""
    timeout = 10

    def parse_request(self) -> bool:
        """Refuse, before anything else, other methods and requests that were meant for another host."""
        if not super().parse_request():
            return False
        self.server.asked(self.connection)
        hosts = self.headers.get_all("Host", [])
        if self.command not in ("GET", "HEAD"):
            self._send(_words(HTTPStatus.METHOD_NOT_ALLOWED, "This server only reads."), {"Allow": "GET, HEAD"})
        elif len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
            # A foreign name that leads to this machine is a page elsewhere trying to read the results.
            self._send(_words(HTTPStatus.MISDIRECTED_REQUEST, "Open this server as localhost or 127.0.0.1."))
        else:
            return True
        return False

    def do_GET(self) -> None:
        """Answer with the file, to those who know the secret word."""
        word, slash, rest = self.path.removeprefix("/").partition("/")
        if self.path == "/favicon.ico":  # browsers ask for it by themselves
            self._send(Answer(HTTPStatus.NO_CONTENT, "image/x-icon", b"", 0, RESULTS_POLICY))
        elif not (slash and compare_digest(word.encode("utf-8", "replace"), self.server.secret.encode())):
            told = "Open the address that `qsmprep-tools view` printed when it began: it holds the key."
            self._send(_words(HTTPStatus.FORBIDDEN, told))
        else:
            self._send(answer(self.server.root, f"/{rest}"))

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet: paths name participants."""

    def _send(self, reply: Answer, more: dict[str, str] | None = None) -> None:
        headers = {
            "Content-Type": reply.kind,
            "Content-Length": str(reply.size),
            "Content-Security-Policy": reply.policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Connection": "close",
            **(more or {}),
        }
        self.close_connection = True
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if isinstance(reply.body, bytes):
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            return
        with reply.body as stream:
            while self.command != "HEAD" and (block := stream.read(_BLOCK)):
                self.wfile.write(block)


def answer(root: Path, target: str) -> Answer:
    """What a request's target ("/sub-01.html?x=y") gets.

    Parameters
    ----------
    root : the output folder, resolved.
    target : as it stands in the request line, after the secret word.
    """
    address, _, query = target.partition("?")
    parts = split_address(address)
    if parts is None:
        return _words(HTTPStatus.BAD_REQUEST, "This is no address of this server.")
    if parts == ("",):
        return _page(render_index(root).encode(), ".html", VIEWER_POLICY)
    if parts[0] == FOLDER:
        return _viewer(root, parts[1:], query)
    return _result(root, parts)


def split_address(address: str) -> tuple[str, ...] | None:
    """The decoded parts of an address between its slashes; None for one that could name anything but a file below.

    >>> split_address("/sub-01/anat/a%20b.json")
    ('sub-01', 'anat', 'a b.json')
    >>> split_address("/sub-01/%2e%2e/secret") is None
    True
    """
    if not address.startswith("/"):
        return None
    try:
        decoded = unquote_to_bytes(address).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if re.search(r"[\x00-\x1f\x7f\\]", decoded):
        return None
    parts = tuple(decoded[1:].split("/"))
    if any(part in (".", "..") for part in parts) or "" in parts[:-1]:
        return None
    return parts


def _viewer(root: Path, parts: tuple[str, ...], query: str) -> Answer:
    """The viewer's own files, and what it asks about a run."""
    name = "/".join(parts)
    folder = resources.files("qsmprep.data").joinpath("viewer")
    if name == "run.json":
        asked = parse_qs(query).get("run", [""])
        document = run_document(root, asked[0]) if len(asked) == 1 else None
        if document is None:
            return _words(HTTPStatus.NOT_FOUND, "There is no such run in this folder.")
        return _page(json.dumps(document, allow_nan=False).encode(), ".json", VIEWER_POLICY)
    name = name or "viewer.html"
    if name in ("viewer.html", *_OWN_FILES) and folder.joinpath(name).is_file():
        return _page(folder.joinpath(name).read_bytes(), _ending(name), VIEWER_POLICY)
    if name == "niivue.js":
        return _words(HTTPStatus.NOT_FOUND, "This installation was built without NiiVue; see docs/viewer.md.")
    return _missing()


def _result(root: Path, parts: tuple[str, ...]) -> Answer:
    """A file of the output folder: of a known type, not hidden, not by a link that leads out of the folder."""
    ending = _ending(parts[-1])
    if ending not in _RESULTS or any(part.startswith(".") for part in parts):
        return _missing()
    try:
        path = root.joinpath(*parts).resolve(strict=True)
        if not path.is_relative_to(root):
            return _missing()
        # Not blocking, so that a pipe lying there cannot hold this thread; no further link, in case one came just now.
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except (OSError, ValueError, RuntimeError):  # no such file, a name too long, a circle of links
        return _missing()
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        stream.close()
        return _missing()
    policy = REPORT_POLICY if ending == ".html" else RESULTS_POLICY
    return Answer(HTTPStatus.OK, TYPES[ending], stream, status.st_size, policy)


def _ending(name: str) -> str:
    return ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1].lower()


def _page(body: bytes, ending: str, policy: str) -> Answer:
    return Answer(HTTPStatus.OK, TYPES[ending], body, len(body), policy)


def _missing() -> Answer:
    return _words(HTTPStatus.NOT_FOUND, "There is no such file here.")


def _words(status: HTTPStatus, text: str) -> Answer:
    body = f"{text}\n".encode()
    return Answer(status, TYPES[".txt"], body, len(body), RESULTS_POLICY)
