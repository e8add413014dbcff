"""Headers of everything that a browser shows from the gateway's origin."""

from __future__ import annotations

import re

import httpx
import pytest

from harness.gateway import RunningGateway


@pytest.mark.parametrize("page", ["/", "/docs", "/docs/"])
def test_pages_load_nothing_from_elsewhere_and_stand_in_no_frame(gateway: RunningGateway, page: str) -> None:
    answer = httpx.get(f"{gateway.url}{page}", follow_redirects=True)
    assert answer.status_code == 200
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"], policy["form-action"]) == ("'none'",) * 3
    assert policy["script-src"] == "'self'"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    named = re.findall(r"""(?:src|href|data-document)=["']([^"']+)""", answer.text)
    assert named
    for each in named:
        assert not re.match(r"[a-z]+:|//", each), "from elsewhere"
        if each == "/":
            continue
        file = httpx.get(f"{gateway.url}/{each.lstrip('/')}")
        assert file.status_code == 200, each
        assert file.headers["X-Content-Type-Options"] == "nosniff", each
    assert not re.search(r"<script(?![^>]* src=)", answer.text), "a script within the page"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/docs/assets/index.html"),
        ("GET", "/docs/assets/oauth2-redirect.html"),
        ("GET", "/docs/nowhere"),
        ("GET", "/transfers/local/t0000000000000000/content"),
        ("POST", "/transfers/local/t0000000000000000/complete"),
    ],
)
def test_whatever_else_a_browser_shows_is_empty_and_stands_in_no_frame(
    gateway: RunningGateway, method: str, path: str
) -> None:
    """Files that come with the documentation's scripts, refusals in XML, and pages of other paths."""
    answer = httpx.request(method, f"{gateway.url}{path}")
    if answer.headers["Content-Type"].startswith(("text/html", "application/xml")):
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(
            answer.headers["Content-Security-Policy"].split("; ")
        )
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pages_of_users_files_are_no_pages(gateway: RunningGateway) -> None:
    file = gateway.home / "files" / "page.html"
    file.write_text("<script>1</script>")
    with gateway.http() as http:
        for path in ("content", "download", "view"):
            answer = http.get(f"/filesystem/local/ops/{path}", params={"path": str(file)})
            assert answer.headers["Content-Type"].split(";")[0] in ("application/octet-stream", "application/json")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_document_of_the_api_is_no_page(gateway: RunningGateway) -> None:
    answer = httpx.get(f"{gateway.url}/docs/openapi.json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
