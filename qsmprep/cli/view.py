"""`qsmprep-tools view`: look at the results of an output folder in a browser."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import webbrowser
from ipaddress import IPv4Address
from pathlib import Path

from qsmprep.cli.paths import folder_path
from qsmprep.cli.program import Parser, add_command

PORT = 8765
ADDRESS = "127.0.0.1"


def add_view(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "show the reports and maps of an output folder in a browser, served to this machine only"
    parser = add_command(commands, "view", text)
    parser.add_argument("out", metavar="OUT", type=folder_path, help="output folder of qsmprep")
    parser.add_argument("--port", type=_port, default=PORT, metavar="N",
                        help="port; 0: any free one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--host", type=_host, default=ADDRESS, metavar="ADDRESS",
                        help="address to listen on; 0.0.0.0 only in a container, whose port is published to 127.0.0.1 "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.set_defaults(run=run_view)


def run_view(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    check_folder(arguments.out)
    from qsmprep.report.server import ResultsServer

    try:
        server = ResultsServer(arguments.out, arguments.port, arguments.host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is in use, perhaps by another view"
        else:
            reason = f"cannot be taken ({error.strerror})"
        place = f"Port {arguments.port} of {arguments.host}"
        text = f"{place} {reason}: give another by --port N, or --port 0 for any free one."
        raise OSError(text) from error
    with server:
        print(f"{arguments.out} at {server.url} (Ctrl-C ends)", flush=True)
        if not arguments.no_browser:
            _open_browser(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def check_folder(out: Path) -> None:
    """Refuse what is no output folder, so that no other folder is served by mistake; OSError tells why."""
    if not out.exists():
        raise FileNotFoundError(f"{out} does not exist: give the output folder of a qsmprep run.")
    if not out.is_dir():
        raise NotADirectoryError(f"{out} is no folder: give the output folder of a qsmprep run.")
    if not any(True for pattern in ("sub-*", "group*.html") for _ in out.glob(pattern)):
        raise FileNotFoundError(f"{out} holds no results (no sub-*): give the output folder of a qsmprep run.")


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return port


def _host(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no address: give 127.0.0.1, or 0.0.0.0 in a container") from None


def _open_browser(url: str) -> None:
    """Open the user's browser where there is a screen; a text browser would take over this terminal."""
    screen = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screen):
        return

    webbrowser.open(url)
