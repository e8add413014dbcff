"""The page of the API, `/docs`, in a browser."""

from __future__ import annotations

import httpx

from harness.browser import Browser, picture
from harness.gateway import RunningGateway
from harness.page_blocks import ROOT


def test_it_shows_every_operation_and_loads_nothing_from_elsewhere(browser: Browser, gateway: RunningGateway) -> None:
    operations = sum(len(item) for item in httpx.get(f"{gateway.url}/docs/openapi.json").json()["paths"].values())
    asked: list[str] = []
    with browser.page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{gateway.url}/docs")
        page.locator(".opblock").first.wait_for()
        assert page.locator(".opblock").count() == operations
        page.locator(".opblock-summary", has_text="/status/liveness").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".responses-table .response", has_text="200").first.wait_for()
    assert [url for url in asked if not url.startswith((gateway.url, "data:"))] == []
    assert f"{gateway.url}/page/icon.svg" in asked or len(asked) > 4
    assert browser.troubles == []


def test_the_picture_for_links_on_other_sites_holds_its_texts(browser: Browser) -> None:
    with browser.page(viewport={"width": 1200, "height": 630}) as page:
        page.goto((ROOT / "docs/_static/social-card.svg").as_uri())
        outside = """() => [...document.querySelectorAll('text')].filter(text => {
          const box = text.getBoundingClientRect();
          return box.left < 0 || box.top < 0 || box.right > 1200 || box.bottom > 630;
        }).map(text => text.textContent)"""
        assert page.locator("text").count() > 10
        assert page.evaluate(outside) == []
        picture(page, "social-card")
