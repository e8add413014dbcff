"""People of an OpenID Connect provider, on a gateway behind a proxy with a prefix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from harness.browser import Browser, chromium
from harness.gateway import RunningGateway, in_thread
from harness.gateway_page import go, log, sign_in, state, submit
from harness.oidc import OidcProvider, serving
from harness.reverse_proxy import ReverseProxy, reverse_proxy

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIFETIME = 40
"""seconds of an access token, which is renewed when it has 35 left"""


@pytest.fixture(scope="module")
def proxy() -> Iterator[ReverseProxy]:
    with reverse_proxy("/hpc/firecrest") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def provider(proxy: ReverseProxy) -> Iterator[OidcProvider]:
    with serving(f"{proxy.url}/", LIFETIME) as provider:
        yield provider


@pytest.fixture(scope="module")
def behind(
    proxy: ReverseProxy, provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """Its `url` is the proxy's."""
    page = {
        "client_id": "page-client",
        "scope": "openid offline_access firecrest",
        "resource": provider.audience,
        "name": "the institute",
    }
    trusted = {"issuer": provider.issuer, "audience": provider.audience, "page": page}
    home = tmp_path_factory.mktemp("behind") / "home"
    work = home.parent / "work"
    (work / "wanda").mkdir(parents=True)
    systems = {"local": {"file_systems": [{"path": str(work), "default_work_dir": True}]}}
    with in_thread(home, public_url=f"{proxy.url}/", oidc=[trusted], systems=systems) as running:
        proxy.serve(running.url)
        yield RunningGateway(proxy.url, home)


@pytest.fixture(scope="module")
def browser(behind: RunningGateway) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def enter(page: Page, gateway: RunningGateway, place: str = "") -> None:
    page.route("https://**", lambda route: route.abort())
    page.goto(f"{gateway.url}/{place}")
    page.get_by_role("button", name="Sign in with the institute").click()
    page.get_by_placeholder("Enter any login").fill("wanda")
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def test_a_person_signs_in_and_works(page: Page, behind: RunningGateway, provider: OidcProvider) -> None:
    asked: list[str] = []
    # By the gateway's page; the provider's own form wants a font from elsewhere.
    page.on("request", lambda request: asked.append(request.url) if page.url.startswith(behind.url) else None)
    enter(page, behind, "#/submit/local")
    page.get_by_role("heading", name="Submit to local").wait_for()  # where the link led
    page.get_by_text("wanda", exact=True).wait_for()
    assert page.url == f"{behind.url}/#/submit/local"  # the code has left the address
    token = page.evaluate("() => JSON.parse(Object.values(sessionStorage)[0]).token")
    assert not any(token in url for url in asked)
    elsewhere = [url for url in asked if not url.startswith((behind.url, provider.issuer))]
    assert elsewhere == []

    # Through the proxy: events, ranges, an upload, a signed URL.
    submit(page, "#!/bin/bash\necho behind a proxy\ntruncate -s 33M large.bin\n")
    state(page, "COMPLETED").wait_for()
    log(page, "behind a proxy").wait_for()
    go(page, "Files")
    page.get_by_label("Upload files").set_input_files(Path(__file__))
    page.get_by_role("link", name=Path(__file__).name).wait_for()
    with page.expect_download() as found:
        page.get_by_role("button", name="Download large.bin").click()
    assert found.value.url.startswith(f"{behind.url}/transfers/")
    assert found.value.path().stat().st_size == 33 * 1024 * 1024


def test_tokens_are_renewed_by_refresh_tokens_of_one_use(page: Page, behind: RunningGateway) -> None:
    enter(page, behind)
    for _ in range(2):
        with page.expect_response("**/token") as renewed:
            pass
        assert renewed.value.status == 200
        assert "grant_type=refresh_token" in (renewed.value.request.post_data or "")
    go(page, "Files")
    page.get_by_role("heading", name="Files on local").wait_for()


def test_what_was_not_begun_here_is_refused(page: Page, behind: RunningGateway) -> None:
    page.goto(f"{behind.url}/?code=stolen&state=forged")
    page.locator("[role=alert]", has_text="not begun in this tab").wait_for()
    assert page.url == f"{behind.url}/"
    assert page.evaluate("() => sessionStorage.length") == 0


def test_the_policy_names_the_provider(behind: RunningGateway, provider: OidcProvider) -> None:
    policy = httpx.get(behind.url).headers["Content-Security-Policy"]
    assert f"connect-src 'self' {provider.issuer};" in policy


def test_clients_of_the_built_in_issuer_come_in_beside(page: Page, behind: RunningGateway) -> None:
    sign_in(page, behind)
    page.get_by_role("heading", name="Systems").wait_for()
