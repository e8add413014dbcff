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


def test_the_document_of_the_api_is_no_page(gateway: RunningGateway) -> None:
    answer = httpx.get(f"{gateway.url}/docs/openapi.json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
