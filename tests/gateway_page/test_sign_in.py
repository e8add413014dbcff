"""Who may see something, and where credentials are kept."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from crestline.gateway.identity.clients import Clients
from crestline.gateway.store import Store
from harness.browser import Browser
from harness.gateway import RunningGateway
from harness.gateway_page import go, sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

ALERT = "[role=alert]"


def test_by_a_client_for_this_tab_alone(page: Page, gateway: RunningGateway) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    client_id, secret = gateway.client
    page.goto(f"{gateway.url}/#/files/local")
    page.get_by_label("Client id").fill(client_id)
    page.get_by_label("Client secret").fill("wrong")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.locator(ALERT, has_text="wrong secret").wait_for()

    sign_in(page, gateway, "#/files/local")
    page.get_by_role("heading", name="Files on local").wait_for()  # where the link led
    token = page.evaluate("JSON.parse(Object.values(sessionStorage)[0]).token")
    assert not any(secret in url or token in url for url in asked)
    assert all(url.startswith(gateway.url) for url in asked)
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []

    page.reload()
    page.get_by_role("heading", name="Files on local").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").first.wait_for()
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    page.get_by_role("heading", name="Sign in").first.wait_for()


def test_by_an_api_key_that_may_little(page: Page, gateway: RunningGateway) -> None:
    with gateway.http() as http:
        key = http.post("/keys/", json={"name": "page", "scopes": ["status:read"]}).json()
    page.goto(gateway.url)
    page.get_by_label("API key").fill("crk_none")
    page.get_by_role("button", name="Sign in with the key").click()
    page.locator(ALERT).wait_for()
    assert page.evaluate("sessionStorage.length") == 0

    page.get_by_label("API key").fill(key["secret"])
    page.get_by_role("button", name="Sign in with the key").click()
    page.get_by_role("heading", name="Systems").wait_for()
    go(page, "Jobs")
    page.locator(ALERT, has_text="jobs:read").wait_for()

    with gateway.http() as http:
        http.delete(f"/keys/{key['keyId']}").raise_for_status()
    go(page, "Files")
    page.get_by_role("heading", name="Sign in").first.wait_for()
    page.locator(ALERT).wait_for()


def test_a_token_is_renewed_ahead(page: Page, gateway: RunningGateway) -> None:
    page.clock.install()
    sign_in(page, gateway)
    page.get_by_role("heading", name="Systems").wait_for()
    before = page.evaluate("Object.values(sessionStorage)[0]")
    with page.expect_response("**/oauth2/token") as renewed:
        page.clock.fast_forward(225_000)  # of 300 s
    assert renewed.value.status == 200
    page.wait_for_function("before => Object.values(sessionStorage)[0] !== before", arg=before)
    # While the issuer does not answer, the token that is there goes on to serve.
    page.route("**/oauth2/token", lambda route: route.abort())
    page.clock.fast_forward(225_000)
    go(page, "Files")
    page.get_by_role("heading", name="Files on local").wait_for()


def new_code(gateway: RunningGateway) -> str:
    """The code of a new sign-in link, made in a thread that has no browser and so may have an event loop."""

    async def make() -> str:
        store = await Store.open(gateway.home / "private" / "gateway.db")
        try:
            return await Clients(store).new_sign_in_code(gateway.client[0])
        finally:
            await store.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, make()).result()


def test_by_a_link_once(browser: Browser, page: Page, gateway: RunningGateway) -> None:
    code = new_code(gateway)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{gateway.url}/#/sign-in/{code}")
    page.get_by_role("heading", name="Systems").wait_for()
    assert page.evaluate("location.href") == f"{gateway.url}/#/"
    assert all(code not in url.partition("#")[0] for url in asked)
    held = page.evaluate("JSON.parse(Object.values(sessionStorage)[0])")
    assert code not in str(held)
    go(page, "API keys")
    page.get_by_role("cell", name=held["keyId"]).wait_for()

    with browser.page() as another:
        another.goto(f"{gateway.url}/#/sign-in/{code}")
        another.locator(ALERT, has_text="used already").wait_for()
        another.get_by_role("heading", name="Sign in").first.wait_for()
        assert another.evaluate("sessionStorage.length") == 0
        assert another.evaluate("location.href") == f"{gateway.url}/#/"
        another.goto(f"{gateway.url}/#/sign-in/{new_code(gateway)}")  # in a tab that shows the page already
        another.get_by_role("button", name="Sign out").wait_for()

    with page.expect_response(f"**/keys/{held['keyId']}") as revoked:
        page.get_by_role("button", name="Sign out").click()
    assert revoked.value.status == 204
    headers = {"Authorization": f"Bearer {held['token']}"}
    assert httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/settings.json"])
def test_headers(gateway: RunningGateway, path: str) -> None:
    answer = httpx.get(f"{gateway.url}{path}")
    assert answer.status_code == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"


def test_the_policy_is_strict_and_the_page_small(browser: Browser, page: Page, gateway: RunningGateway) -> None:
    answer = httpx.get(gateway.url)
    rules = dict(each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(rules)
    assert answer.headers["X-Frame-Options"] == "DENY"

    sign_in(page, gateway)
    page.get_by_role("table").wait_for()
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').filter((each) => new URL(each.name).pathname.startsWith('/page/'))"
        ".map((each) => each.encodedBodySize)"
    )
    assert len(loaded) > 15
    assert sum(loaded) < 60_000
    # Markup that a mistake would make of text is refused by the browser, too.
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError"
    assert "TrustedHTML" in browser.troubles.pop()


def test_files_of_the_page_and_no_others(gateway: RunningGateway) -> None:
    known = httpx.get(f"{gateway.url}/page/app.js").headers["ETag"]
    assert httpx.get(f"{gateway.url}/page/app.js", headers={"If-None-Match": known}).status_code == 304
    plain = httpx.get(f"{gateway.url}/page/app.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.text == httpx.get(f"{gateway.url}/page/app.js").text
    for name in ("index.html", "none.js", "..%2fapp.py", "%2e%2e/config.py"):
        assert httpx.get(f"{gateway.url}/page/{name}").status_code == 404
