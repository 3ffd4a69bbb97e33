"""A real browser for the tests: Chromium without a window, driven by the Chrome DevTools Protocol.

::

    with browser() as chromium:
        page = chromium.open("http://127.0.0.1:8787/swarm")
        page.wait_for("document.title == 'Swarm'")
        assert page.count("canvas") > 3 and page.errors == []
        page.screenshot(tmp_path / "swarm.png")

Everything blocks until it is done, and works in any thread: the connection has an event loop in a thread of its own.
A page that this process serves from the loop of an async test is opened with ``await asyncio.to_thread(…)``.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

T = TypeVar("T")
_START_SECONDS = 60.0
_LARGEST_MESSAGE = 1 << 28  # a screenshot of a long page, in base64
_POLL_SECONDS = 0.05
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-port=0",
]
# Bokeh draws into shadow roots, which querySelectorAll does not look into.
DEEP = """((selector) => {
  const found = [];
  const look = (root) => {
    found.push(...root.querySelectorAll(selector));
    for (const element of root.querySelectorAll("*")) if (element.shadowRoot) look(element.shadowRoot);
  };
  look(document);
  return found;
})"""


def executable() -> str | None:
    """Path of the browser, or None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def available() -> bool:
    """Whether there is a browser on this machine."""
    return executable() is not None


needs_browser = pytest.mark.skipif(not available(), reason="no chromium; on Debian: apt-get install chromium")


class Page:
    """A tab. Its lists grow as things happen.

    Attributes:
        errors: Texts of the console's errors and warnings, uncaught exceptions, and resources that failed to load.
        requests: URLs that the page has asked for, in order, without ``data:`` and ``blob:`` ones.
    """

    def __init__(self, chromium: Browser, session: str, target: str) -> None:
        self._chromium, self._session, self._target = chromium, session, target
        self.errors: list[str] = []
        self.requests: list[str] = []

    def goto(self, url: str, seconds: float = 30.0) -> None:
        """Go to an address, and wait until the page and what it refers to are loaded."""
        answer = self._call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")
        self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'", seconds)

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression, as JSON gives it back; a promise is awaited.

        Raises:
            RuntimeError: It raised.
        """
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {_thrown(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30.0) -> Any:
        """Wait until a JavaScript expression is true; its value.

        Raises:
            TimeoutError: It did not become true; the text says what the console says.
        """
        end, why = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            try:
                value = self.evaluate(script)
            except RuntimeError as error:  # the page is being replaced, or is not that far
                value, why = None, str(error)
            if value:
                return value
            time.sleep(_POLL_SECONDS)  # there is no event for an expression
        raise TimeoutError(f"{script} was not true within {seconds:g} s; {why} console: {self.errors}")

    def count(self, selector: str) -> int:
        """Number of elements that a CSS selector finds, within shadow roots too, where Bokeh draws."""
        return int(self.evaluate(f"{DEEP}({json.dumps(selector)}).length"))

    def text(self, selector: str = "body") -> str:
        """Visible text of all elements that a CSS selector finds, within shadow roots too."""
        return str(self.evaluate(f"{DEEP}({json.dumps(selector)}).map((e) => e.innerText).join('\\n')"))

    def wait_for_text(self, selector: str, text: str, seconds: float = 30.0) -> str:
        """Wait until what a CSS selector finds says something; all that it says."""
        found = f"{DEEP}({json.dumps(selector)}).map((e) => e.textContent).join(' ')"
        return str(self.wait_for(f"((said) => said.includes({json.dumps(text)}) && said)({found})", seconds))

    def click(self, selector: str, number: int = 0) -> None:
        """Click one of the elements that a CSS selector finds, the first unless told otherwise."""
        self.evaluate(f"{DEEP}({json.dumps(selector)})[{number}].click()")

    def click_on(self, selector: str, text: str) -> None:
        """Click the first element that a CSS selector finds and that says this."""
        said = f"{DEEP}({json.dumps(selector)}).find((e) => e.innerText.trim() === {json.dumps(text)})"
        self.evaluate(f"{said}.click()")

    def type(self, selector: str, text: str) -> bool:
        """Put a text into the first such field, as if it was typed; whether there is one, which may be gone by now."""
        field = f"{DEEP}({json.dumps(selector)})[0]"
        typed = self.evaluate(
            f"(() => {{ const field = {field}; if (!field) return false; field.value = {json.dumps(text)}; "
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true})); "
            "return true; })()"
        )
        return bool(typed)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window, in CSS pixels."""
        for step in (2, 1, 0):  # it enters first, and moves then
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x - step, y=y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse's button at a place of the window, move it to another, and let go."""
        self.hover(*start)
        places = [(start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part) for part in (0.5, 1.0)]
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **held)
        for x, y in places:
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **held)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **held)

    def place(self, selector: str, number: int = 0) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of one of the elements that a CSS selector finds, in the window."""
        box = f"{DEEP}({json.dumps(selector)})[{number}].getBoundingClientRect()"
        left, top, right, bottom = self.evaluate(f"((box) => [box.left, box.top, box.right, box.bottom])({box})")
        return left, top, right, bottom

    def prefer(self, scheme: str) -> None:
        """Let the page know that the user prefers a ``dark`` or ``light`` colour scheme."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in CSS pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: str | Path, *, whole: bool = False) -> Path:
        """Write a PNG of the window, or of the whole page however long it is."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        Path(path).write_bytes(base64.b64decode(answer["data"]))
        return Path(path)

    def pdf(self, path: str | Path) -> Path:
        """Write what the printer would get."""
        answer = self._call("Page.printToPDF", printBackground=True)
        Path(path).write_bytes(base64.b64decode(answer["data"]))
        return Path(path)

    def memory(self) -> int:
        """Bytes of the page's JavaScript heap, after garbage collection."""
        self._call("HeapProfiler.collectGarbage")
        return int(self._call("Runtime.getHeapUsage")["usedSize"])

    def close(self) -> None:
        """Close the tab."""
        self._chromium.call("Target.closeTarget", targetId=self._target)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._chromium.call(method, self._session, **parameters)

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def happened(self, method: str, data: dict[str, Any]) -> None:
        """Take note of an event of the protocol."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(_thrown(data["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and data["type"] in ("error", "warning", "assert"):
            values = (str(each.get("value", each.get("description", ""))) for each in data["args"])
            self.errors.append(f"{data['type']}: {' '.join(values)}")
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            self.errors.append(f"{data['entry']['text']} {data['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent" and not data["request"]["url"].startswith(("data:", "blob:")):
            self.requests.append(data["request"]["url"])


class Browser:
    """A running browser, as :func:`browser` starts it."""

    def __init__(self, address: str, width: int, height: int) -> None:
        self._size = width, height
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="browser", daemon=True)
        self._thread.start()
        self._socket: WebSocketClientConnection = self._wait(self._connect(address))

    def open(self, url: str, *, scheme: str = "light", seconds: float = 30.0) -> Page:
        """A new tab at an address, which is loaded; ``scheme`` is as for :meth:`Page.prefer`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        self.call("Page.bringToFront", session)  # what is behind draws nothing
        page.resize(*self._size)
        page.prefer(scheme)
        page.goto(url, seconds)
        return page

    def call(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result.

        Raises:
            RuntimeError: The browser refuses.
        """
        return self._wait(self._call(method, session, parameters))

    def close(self) -> None:
        """Cut the connection."""
        self._loop.call_soon_threadsafe(self._socket.close)
        self._wait(asyncio.sleep(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)

    async def _connect(self, address: str) -> WebSocketClientConnection:
        return await websocket_connect(address, max_message_size=_LARGEST_MESSAGE, on_message_callback=self._on_message)

    async def _call(self, method: str, session: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = answered = self._loop.create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.write_message(json.dumps(message | ({"sessionId": session} if session else {})))
        answer = await answered
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _on_message(self, text: str | bytes | None) -> None:
        if text is None:  # the browser has gone away
            for future in self._waiting.values():
                future.set_exception(RuntimeError("the browser has gone away"))
            return
        message = json.loads(text)
        if "id" in message:
            self._waiting.pop(message["id"]).set_result(message)
        elif message.get("sessionId") in self._pages:
            self._pages[message["sessionId"]].happened(message["method"], message["params"])


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Start a browser without a window, and end it.

    Args:
        width: Of the window, in CSS pixels.
        height: Of the window.
    """
    path = executable()
    if path is None:
        raise RuntimeError("there is no chromium; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            chromium = Browser(_address(Path(profile), process.poll), width, height)
            try:
                yield chromium
            finally:
                chromium.close()
        finally:
            process.terminate()
            process.wait()


def _address(profile: Path, ended: Callable[[], int | None]) -> str:
    """Where the browser listens, which it writes into its profile."""
    file, end = profile / "DevToolsActivePort", time.monotonic() + _START_SECONDS
    while time.monotonic() < end and ended() is None:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"chromium did not start within {_START_SECONDS:g} s (exit code {ended()})")


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text"))
