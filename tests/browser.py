"""A real browser for tests of pages: headless Chromium, driven by its own protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """The path of a Chromium or Chrome; None if there is none."""
    if sys.platform == "win32":  # the pipes are those of POSIX
        return None
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One headless browser with one tab; a context manager. `errors` are what its console tells of."""

    def __init__(self, program: str, profile: Path) -> None:
        self._answers, theirs_out = os.pipe()
        theirs_in, self._orders = os.pipe()
        options = "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --hide-scrollbars --no-first-run"
        command = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, str(profile)],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._unread, self._session = 0, b"", ""
        self.errors: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._orders)
        os.close(self._answers)

    def open(
        self,
        page: Path | str,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        phone: bool = False,
        awaits_page: bool = True,
    ) -> None:
        """Open a page's file, or URL, in a window of this size, and wait until it says that it is ready, if it does."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self._call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        if awaits_page:
            self.wait_for("document.documentElement?.dataset.ready === 'yes'")

    def value_of(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        answer = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, tries: int = 200) -> None:
        """Wait until an expression is true."""
        pause = "new Promise(done => setTimeout(done, 50))"
        for _ in range(tries):
            if self.value_of(condition):
                return
            self.value_of(pause)
        raise AssertionError(f"never true: {condition}")

    def click(self, selector: str) -> None:
        """Click the first element of a selector."""
        self.value_of(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input."""
        script = f"document.querySelector({json.dumps(selector)})"
        found = self._call("Runtime.evaluate", expression=script)["result"]["objectId"]
        self._call("DOM.setFileInputFiles", files=[str(file.absolute()) for file in files], objectId=found)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def press(self, key: str, with_control: bool = False) -> None:
        """Press and release a key, with Control if wanted."""
        code = {
            "Tab": 9,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Escape": 27,
            "Enter": 13,
        }
        extra = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        number = {
            "windowsVirtualKeyCode": code.get(key, ord(key[0].upper())),
            "modifiers": 2 if with_control else 0,
        }
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, **number, **extra)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key, **number)

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while True:
            message = self._read()
            self._remember(message)
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _remember(self, message: dict[str, Any]) -> None:
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            told = message["params"]
            if told.get("entry", {}).get("level", "error") == "error":
                self.errors.append(json.dumps(told)[:500])
