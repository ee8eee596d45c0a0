"""A browser driven by its DevTools protocol, over two pipes: what a person would see and do with a page."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from dev.chromium import Release
from dev.process import ServerError

WAIT = 20  # seconds for an answer
_PIPES = (  # the browser wants its pipes as 3 and 4
    "import os, sys; r, w = (os.dup(int(fd)) for fd in sys.argv[1:3]); os.dup2(r, 13); os.dup2(w, 14); "
    "os.dup2(13, 3); os.dup2(14, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--no-proxy-server", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


class Page:
    """One tab. `errors`: what the browser has complained of so far."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._browser = browser
        self._session = session
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol, and its answer. Raises: ServerError, in the browser's words."""
        return self._browser.call(method, parameters, self._session)

    def heard(self, method: str, told: dict[str, Any]) -> None:
        """Take note of an event."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in {"error", "warning"}:
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning", "assert"}:
            self.errors.append(json.dumps(told["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    def look(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """Be a screen of this size, in CSS pixels, of somebody who prefers light or dark colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there, and wait until all is loaded."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        self._browser.wait(lambda: self._loaded)

    def value(self, expression: str) -> Any:
        """What JavaScript says of it; a promise is awaited."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise ServerError(json.dumps(told["exceptionDetails"]))
        return told["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key goes down and up. `code`: its virtual key code, e.g. 9 for Tab."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader is given."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and "role" in node
        ]

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))


class Browser:
    """A running browser. Context manager: its end removes all that it wrote."""

    def __init__(self, release: Release) -> None:
        self._stack = contextlib.ExitStack()
        profile = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        ours, theirs = os.pipe(), os.pipe()
        command = [sys.executable, "-c", _PIPES, str(ours[0]), str(theirs[1]), str(release.program)]
        environment = {**os.environ, **release.environment, "HOME": profile}
        self._process = subprocess.Popen(
            [*command, *_OPTIONS[:-1], f"--user-data-dir={profile}", _OPTIONS[-1]],
            pass_fds=(ours[0], theirs[1]), env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._to = self._stack.enter_context(os.fdopen(ours[1], "wb", 0))
        self._from = theirs[0]
        self._stack.callback(os.close, self._from)
        self._buffer = b""
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stack.close()

    def page(self) -> Page:
        """A new tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session)
        self._pages[session] = page
        return page

    def call(self, method: str, parameters: dict[str, object], session: str | None = None) -> dict[str, Any]:
        """One command, and its answer. Raises: ServerError."""
        self._asked += 1
        asked = {"id": self._asked, "method": method, "params": parameters}
        if session:
            asked["sessionId"] = session
        self._to.write(json.dumps(asked).encode() + b"\0")
        self.wait(lambda: self._asked in self._answers)
        answer = self._answers.pop(self._asked)
        if "error" in answer:
            raise ServerError(f"{method}: {answer['error']['message']}")
        return answer["result"]  # type: ignore[no-any-return]

    def wait(self, done: Any) -> None:
        """Take what the browser says until something is so. Raises: ServerError after WAIT seconds, or at its end."""
        until = time.monotonic() + WAIT
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                raise ServerError("the browser does not answer")
            for told in self._read(left):
                if "id" in told:
                    self._answers[told["id"]] = told
                elif page := self._pages.get(told.get("sessionId", "")):
                    page.heard(told["method"], told["params"])

    def _read(self, seconds: float) -> Iterator[dict[str, Any]]:
        if not select.select([self._from], [], [], seconds)[0]:
            return
        data = os.read(self._from, 1 << 20)
        if not data:
            raise ServerError("the browser has ended")
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        yield from map(json.loads, whole)
