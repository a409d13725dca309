"""A headless Chromium driven over its pipe (Chrome DevTools Protocol): what a page prints, loads, draws and focuses."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
         "--remote-debugging-pipe")  # fmt: skip
PATIENCE = 60  # seconds for any answer


class Page:
    """One tab; `events` holds all that the browser told about it so far, oldest first."""

    def __init__(self, to_browser: int, from_browser: int):
        self._in, self._out, self._session, self._sent, self._rest = to_browser, from_browser, None, 0, b""
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """The answer to one command of the protocol; raises RuntimeError with what the browser said against it."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        command |= {"sessionId": self._session} if self._session else {}
        os.write(self._in, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._sent:
                break
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def show(self, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """The size of the window and the colour scheme that the reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])

    def open(self, path: Path, until: str = "document.readyState === 'complete'") -> None:
        """Load a file from disk and wait until the expression `until` holds."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait(f"document.readyState === 'complete' && ({until})")

    def wait(self, expression: str) -> None:
        """Wait until `expression` holds; raises TimeoutError."""
        ends = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > ends:
                raise TimeoutError(f"not within {PATIENCE} s: {expression}")
            time.sleep(0.02)

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression; raises RuntimeError if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release one key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """The window, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions that nothing caught."""
        self.evaluate("0")  # what was told before it has arrived
        said = []
        for event in self.events:
            about = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                said.append(str(about["exceptionDetails"]))
            elif event.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                said.append(str(about["args"]))
            elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                said.append(about["entry"]["text"])
        return said

    def requests(self) -> list[str]:
        """The addresses that were asked for, the page's own and data in the page left out."""
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked[1:] if not url.startswith("data:")]

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            if not (more := os.read(self._out, 1 << 20)):
                raise RuntimeError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """A page in a browser of its own, which ends with the block."""
    command_out, command_in = (_high(end) for end in os.pipe())
    answer_out, answer_in = (_high(end) for end in os.pipe())
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{command_out} 4>&{answer_in}', "bash", CHROMIUM, *FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(command_out, answer_in), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(command_out)
        os.close(answer_in)
        try:
            yield Page(command_in, answer_out)
        finally:
            browser.terminate()
            browser.wait(timeout=20)
            os.close(command_in)
            os.close(answer_out)


def _high(descriptor: int) -> int:
    """A copy away from 3 and 4, which the browser talks through."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return copy
