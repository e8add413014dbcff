"""One browser for each file of tests; a page of a fresh context, signed out, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.browser import Browser, chromium
from harness.gateway import RunningGateway

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def browser(gateway: RunningGateway) -> Iterator[Browser]:
    # The gateway comes first: what starts it may need an event loop, which a thread with a browser has not to give.
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """No script may fail, and the page's own policy may have nothing to forbid."""
    browser.troubles.clear()
    with browser.page() as page:
        yield page
    assert browser.troubles == []
