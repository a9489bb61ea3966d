"""A real Chromium, steered by its DevTools protocol: open a page, ask it, take a picture of it."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

_START_S = 60.0
_POLL_S = 0.1
_OPTIONS = (
    "--headless=new",
    # Containers have no user namespaces; the only page it sees is ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Browser:
    """One tab. `problems` are errors of scripts and whatever the console calls an error."""

    def __init__(self, runner: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self._origin = ("", "")
        self._runner = runner
        self._socket = socket
        self._num_sent = 0
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        return self._runner.run(self._call(method, parameters))

    def open(self, url: str) -> None:
        """Go there; what scripts do after the page is whole has to be waited for."""
        self._origin = _origin(url)
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def resize(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Be a window of that size, for a reader who likes it dark or not."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """What is to be read in the first element of that kind."""
        said = self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return str(said)

    def wait_for(self, expression: str, *, timeout_s: float = 60.0) -> None:
        """Return as soon as the expression is true.

        Raises:
            AssertionError: it was not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.ask(expression):
            assert time.monotonic() < deadline, f"{expression}: {self.text('body')}"
            time.sleep(_POLL_S)

    def picture(self, path: Path) -> None:
        """What is in the window, as PNG."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(told["data"]))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._num_sent += 1
        number = self._num_sent
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json(timeout=_START_S)
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(told["params"]["exceptionDetails"]))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            entry = told["params"]["entry"]
            # What a page that was left had still asked of a server that has gone is no fault.
            if entry["source"] != "network" or _origin(entry["url"]) == self._origin:
                self.problems.append(json.dumps(entry))


def _origin(url: str) -> tuple[str, str]:
    """Scheme and address."""
    return urlsplit(url)[:2]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, with nothing in its profile."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no chromium is on the PATH; Debian has it in the package chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [binary, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with asyncio.Runner() as runner:
                session, socket = runner.run(_connect(Path(profile)))
                try:
                    yield Browser(runner, socket)
                finally:
                    runner.run(session.close())
        finally:
            process.terminate()
            process.wait()


async def _connect(
    profile: Path,
) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    deadline = time.monotonic() + _START_S
    told = profile / "DevToolsActivePort"
    while not told.is_file() or not told.read_text().strip():
        assert time.monotonic() < deadline, "chromium does not start"
        await asyncio.sleep(_POLL_S)
    port = told.read_text().split()[0]
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        targets = await answer.json()
    address = next(target for target in targets if target["type"] == "page")
    # A picture of a long page is more than the library would take by itself.
    socket = await session.ws_connect(address["webSocketDebuggerUrl"], max_msg_size=1 << 26)
    return session, socket
