"""A real Chromium for the tests of pages, driven by Playwright through the system's executable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_NOT = "chromium is not installed ('make browser' does)"

COPIED = (
    "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => { window.copied = text; }}});"
)
"""What a page copies, in ``window.copied``: the system's clipboard belongs to whoever runs the tests."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a network. Start one for many pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """One page as a reader has it open, with everything that it asked for and everything that went wrong."""

    def __init__(self, browser: Any, path: Path, *, hash: str = "", **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        self.page.add_init_script(COPIED)
        self.page.goto(path.as_uri() + hash)

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, *error: object) -> None:
        self.context.close()
        if error[0] is None:
            own = [url for url in self.asked if not url.startswith("file:")]
            assert not own, f"the page asked for {own}"
            assert not self.faults, f"the page complained: {self.faults}"
