"""A headless Chromium that knows what was wrong on the pages that it showed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.parts import require

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Browser:
    """Contexts of one Chromium; each has its own storage."""

    _launched: Any
    troubles: list[str] = field(default_factory=list)
    """exceptions of scripts, and what a page's own Content-Security-Policy kept from happening"""

    @contextmanager
    def page(self, **options: Any) -> Iterator[Page]:
        """A page of a new context; `options` are Playwright's."""
        context: BrowserContext = self._launched.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._note)
        yield page
        context.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.troubles.append(message.text)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium that runs. As long as it does, this thread can run no event loop of its own."""
    require(Path(CHROMIUM).exists(), "Chromium is missing: install Debian's package chromium.")
    require(
        importlib.util.find_spec("playwright") is not None, "Playwright is missing: install the package playwright."
    )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield Browser(launched)
        launched.close()


def picture(page: Page, name: str) -> None:
    """Write a picture for the documentation where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))
