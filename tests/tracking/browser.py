"""Chromium without a window, driven through its DevTools protocol on two pipes; no package is needed for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_LONGEST = 300  # seconds that a browser may take for everything
_OPTIONS = [
    "--headless",
    "--no-sandbox",  # which root does not have; it sees our own pages only
    "--remote-debugging-pipe",  # reads from descriptor 3, writes to descriptor 4
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-first-run",
]
# Ends with what a function of the page returns, once that is something; waits for it at most so many milliseconds.
_UNTIL = """new Promise((found, failed) => {
  const end = Date.now() + %d;
  const look = () => {
    const value = (%s)();
    if (value) found(value);
    else if (Date.now() > end) failed(new Error("the page has " + document.body?.innerText));
    else setTimeout(look, 100);
  };
  look();
})"""

_PLACE = """() => {
  const one = [...document.querySelectorAll(%s)].find(one => one.innerText.trim().startsWith(%s));
  if (!one) return null;
  one.scrollIntoView({block: "center"});
  const box = one.getBoundingClientRect();
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
}"""


class Page:
    """A page of a browser.

    Args:
        browser: The process.
    """

    def __init__(self, browser: subprocess.Popen[bytes]) -> None:
        self._browser = browser
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, address: str) -> None:
        """Go to an address, from an empty page, as one that is only told of another fragment stays as it is."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def until(self, function: str, seconds: int = 60) -> Any:
        """Wait until a function of JavaScript returns something, and return that."""
        expression = _UNTIL % (seconds * 1000, function)
        done = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, f"{function}: {done['result'].get('description', done)}"
        return done["result"]["value"]

    def text(self, *shown: str) -> str:
        """Return the text of the page, once it shows all of these."""
        wanted = json.dumps(shown)
        return str(
            self.until(
                f"() => {wanted}.every(one => document.body?.innerText.includes(one)) && document.body.innerText"
            )
        )

    def click(self, selector: str, text: str = "") -> None:
        """Click with the mouse at the first element of a selector that begins with a text, once there is one."""
        place = self.until(_PLACE % (json.dumps(selector), json.dumps(text)))
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def screenshot(self, path: Path) -> None:
        """Save a picture of what the window shows."""
        path.write_bytes(b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        assert self._browser.stdin is not None
        self._browser.stdin.write(json.dumps(call).encode() + b"\0")
        self._browser.stdin.flush()
        while (answer := self._read()).get("id") != self._number:
            pass  # an event
        assert "result" in answer, f"{method}: {answer}"
        return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        assert self._browser.stdout is not None
        while (byte := self._browser.stdout.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return dict(json.loads(message))


@contextmanager
def open_page(profile: Path, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """Start a browser that keeps its files in a folder, and yield its page; width and height are in pixels."""
    assert CHROMIUM is not None
    pipes = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh"]
    command = [*pipes, CHROMIUM, *_OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={profile}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as browser:
        watchdog = Timer(_LONGEST, browser.kill)
        watchdog.start()
        try:
            yield Page(browser)
        finally:
            watchdog.cancel()
            browser.kill()
