"""A headless Chromium for tests of pages, driven over its DevTools pipe with the standard library alone.

    with open_page(path.as_uri(), width=400) as page:
        assert page.evaluate("document.title") == "sub-01"
        page.press("Tab")
        assert page.console_errors() == []
        page.screenshot(tmp_path / "page.png")

Where no Chromium is installed the calling test is skipped, with the reason.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers forbid the name spaces it needs; only our own pages are opened
    "--enable-unsafe-swiftshader",  # WebGL 2 without a graphics card
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# Chromium reads commands from file descriptor 3 and answers on 4; Python's subprocess cannot place them by itself.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
# Key -> (code, Windows key code, text) of keys that are no letter or digit.
_KEYS = {
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "PageUp": ("PageUp", 33, ""),
    "PageDown": ("PageDown", 34, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "Enter": ("Enter", 13, "\r"),
    " ": ("Space", 32, " "),
}
_MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}


def chromium() -> str | None:
    """Path of the browser, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)


def open_page(url: str, *, width: int = 1280, height: int = 900, dark: bool = False, timeout_s: float = 60.0) -> Page:
    """Start a fresh Chromium, open the page and wait until it has loaded; skips the test where there is none."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on the PATH (or name it in CHROMIUM)")
    page = Page(program, timeout_s)
    try:
        page.resize(width, height)
        page.prefer("dark" if dark else "light")
        page.go(url)
    except BaseException:
        page.close()
        raise
    return page


class Page:
    """One page in a browser of its own."""

    def __init__(self, program: str, timeout_s: float):
        self.timeout_s = timeout_s
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        (read_here, write_there), (read_there, write_here) = os.pipe(), os.pipe()
        there = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (read_there, write_there)]  # clear of 3 and 4
        os.close(read_there)
        os.close(write_there)
        command = [sys.executable, "-c", _START, *map(str, there), program, *FLAGS, f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen(
            command,
            pass_fds=there,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in there:
            os.close(fd)
        self._read, self._write = read_here, write_here
        self._buffer, self._number, self._session = b"", 0, None
        self._errors: list[str] = []
        self._requests: list[str] = []
        self._loaded = False
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def go(self, url: str) -> None:
        """Open an address in this page and wait until it has loaded."""
        self._loaded = False
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")
        end = time.monotonic() + self.timeout_s
        while not self._loaded:
            self._note(self._message(end))

    def evaluate(self, js: str) -> Any:
        """Value of an expression in the page; a promise is awaited, an exception is raised here."""
        answer = self.call("Runtime.evaluate", expression=js, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(_exception(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, js: str, timeout_s: float | None = None) -> Any:
        """Wait until an expression is true and give its value."""
        end = time.monotonic() + (timeout_s or self.timeout_s)
        while not (value := self.evaluate(js)):
            if time.monotonic() > end:
                raise TimeoutError(f"{js} did not become true; console: {self._errors}")
            time.sleep(0.05)
        return value

    def console_errors(self) -> list[str]:
        """Everything that went wrong so far: console.error, exceptions, failed loads, breaches of the policy."""
        self.evaluate("1")  # whatever was sent before comes before this answer
        return list(self._errors)

    def requests(self) -> list[str]:
        """Addresses that the page asked for so far."""
        self.evaluate("1")
        return list(self._requests)

    def resize(self, width: int, height: int) -> None:
        """Size of the window's inside in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """The user's colour scheme: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(
        self, path: Path, width: int | None = None, height: int | None = None, *, whole: bool = False
    ) -> Path:
        """Write a PNG of the window, or of the whole page; with a size the window is changed first."""
        if width and height:
            self.resize(width, height)
            self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(answer["data"]))
        return Path(path)

    def press(self, key: str, *modifiers: str) -> None:
        """Press and release a key ("a", "1", "ArrowLeft", "Tab", ...) with modifiers ("Shift", "Control", ...)."""
        if key in _KEYS:
            code, number, text = _KEYS[key]
        else:
            code, number, text = (f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"), ord(key.upper()), key
        held = sum(_MODIFIERS[name] for name in modifiers)
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": held}
        typed = {"type": "keyDown", "text": text} if text and not held & ~8 else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **event, **typed)
        self.call("Input.dispatchKeyEvent", **event, type="keyUp")

    def click(self, x: float, y: float) -> None:
        """Click with the left button at a place of the window."""
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **mouse)

    def close(self) -> None:
        """End the browser with all its processes, at once, and remove its profile."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self._read, self._write):
            with contextlib.suppress(OSError):
                os.close(fd)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        end = time.monotonic() + self.timeout_s
        while True:
            answer = self._message(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium gave no answer in {self.timeout_s:g} s; console: {self._errors}")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError(f"Chromium ended with status {self.process.wait(10)}")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep of an event what tests ask for."""
        method, data = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self._requests.append(data["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self._errors.append(_exception(data["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and data["type"] in ("error", "assert"):
            said = (str(part.get("value", part.get("description", ""))) for part in data["args"])
            self._errors.append(" ".join(said))
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            self._errors.append(f"{data['entry']['text']} {data['entry'].get('url', '')}".strip())


def _exception(details: dict[str, Any]) -> str:
    return details.get("exception", {}).get("description") or details["text"]
