"""A page in a real browser (Debian's chromium; `make test-all` installs it), driven over W3C WebDriver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--force-color-profile=srgb")


class Browser:
    """A page in headless chromium, over chromedriver's HTTP."""

    def __init__(self, port: int, profile: Path, width: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        options: dict[str, Any] = {"args": [*FLAGS, f"--user-data-dir={profile}"],
                                   "mobileEmulation": {"deviceMetrics": {"width": width, "height": 740, "pixelRatio": 1.0, "touch": False}}}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._base += f"/session/{self.call('/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"

    def call(self, path: str, body: object = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def run(self, script: str) -> Any:
        return self.call("/execute/sync", {"script": script, "args": []})

    def media(self, name: str) -> None:
        self.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"media": name}})


@contextlib.contextmanager
def browser(tmp_path: Path, page: Path, width: int) -> Iterator[Browser]:
    """`page` in a window of that width. Without a browser: the test fails under SOUNDPROOF_REQUIRE_BROWSER=1, and is skipped otherwise."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        if os.environ.get("SOUNDPROOF_REQUIRE_BROWSER") == "1":
            pytest.fail("no chromium and chromedriver")
        pytest.skip("no chromium and chromedriver; make test-all installs them")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opened = None
    try:
        deadline = time.monotonic() + 60
        while opened is None:
            try:
                opened = Browser(port, tmp_path / "profile", width)
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        opened.call("/url", {"url": page.as_uri()})
        yield opened
        opened.call("", method="DELETE")
    finally:
        process.terminate()
        process.wait()
