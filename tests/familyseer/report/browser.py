"""A headless Chromium that opens one page and tells what happened, over its own debugging protocol.

Run as a program it takes screenshots: ``python -m tests.familyseer.report.browser PAGE FOLDER``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
_FLAGS += ("--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0")
_START_S = 60.0


def find_browser() -> str | None:
    """The path of a browser of Chromium's kind, None if there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass(frozen=True)
class View:
    """How a page is looked at; `media` is ``screen`` or ``print``."""

    width: int
    dark: bool = False
    media: str = "screen"


@dataclass
class Seen:
    """What a page did.

    Attributes
    ----------
    requests
        Addresses that it asked for, its own first.
    errors
        Exceptions, and what the browser or a script complained of.
    answers
        Of the script, for each view.
    pictures
        PNG files, for each view, empty unless they were asked for.
    """

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)


def look(page: Path | str, views: list[View], script: str = "0", *, pictures: bool = False) -> Seen:
    """Opens a page, a file or an address, and evaluates a script in each of the views."""
    address = page if isinstance(page, str) else page.resolve().as_uri()
    browser = find_browser()
    assert browser is not None
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            return asyncio.run(_look(port, address, views, script, pictures))
        finally:
            process.terminate()
            process.wait(30)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        if file.exists() and "\n" in (text := file.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.05)
    raise RuntimeError("the browser does not start")


class _Session:
    """The protocol's calls, and the events that come between their answers."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        await self._connection.write_message(json.dumps(request))
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                answer: dict[str, Any] = message["result"]
                return answer

    async def until(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            await self._next()

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._connection.read_message())
        if "method" in message:
            self.events.append(message)
        return message


async def _look(port: int, address: str, views: list[View], script: str, pictures: bool) -> Seen:
    from tornado.httpclient import AsyncHTTPClient
    from tornado.websocket import websocket_connect

    found = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json")
    target = next(one for one in json.loads(found.body) if one["type"] == "page")
    connection = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=256 << 20)
    session, seen = _Session(connection), Seen()
    for domain in ("Page", "Network", "Runtime", "Log"):
        await session.call(f"{domain}.enable")
    await session.call("Page.navigate", url=address)
    await session.until("Page.loadEventFired")
    for view in views:
        scheme = "dark" if view.dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await session.call("Emulation.setEmulatedMedia", media=view.media, features=features)
        size = {"width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        await session.call("Emulation.setDeviceMetricsOverride", **size)
        answer = await session.call("Runtime.evaluate", expression=script, returnByValue=True)
        seen.answers.append(answer["result"].get("value"))
        if pictures:
            shot = await session.call(
                "Page.captureScreenshot", format="png", captureBeyondViewport=True
            )
            seen.pictures.append(base64.b64decode(shot["data"]))
    for event in session.events:
        _note(event["method"], event["params"], seen)
    connection.close()
    return seen


def _note(method: str, told: dict[str, Any], seen: Seen) -> None:
    if method == "Network.requestWillBeSent":
        seen.requests.append(told["request"]["url"])
    elif method == "Runtime.exceptionThrown":
        seen.errors.append(told["exceptionDetails"]["text"])
    elif method == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
        seen.errors.append(told["entry"]["text"])
    elif method == "Runtime.consoleAPICalled" and told["type"] in ("warning", "error"):
        seen.errors.append(str(told["args"]))


def main() -> None:
    """Takes a screenshot of each kind."""
    page, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    views = [View(360), View(1200), View(1200, dark=True), View(360, dark=True)]
    views.append(View(794, media="print"))
    seen = look(page, views, "document.documentElement.scrollWidth", pictures=True)
    for view, picture, width in zip(views, seen.pictures, seen.answers, strict=True):
        name = f"{view.media}-{view.width}{'-dark' if view.dark else ''}.png"
        (folder / name).write_bytes(picture)
        print(folder / name, "is", width, "wide")
    print("requests", seen.requests, "errors", seen.errors)


if __name__ == "__main__":
    main()
