"""Credentials do not leave this machine in the clear."""

from __future__ import annotations

import logging

import pytest

from crestline.client.auth import StaticToken
from crestline.client.auth.token_endpoint import request_token
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.client.plain_http import ALLOW, check_url
from crestline.model import ConfigError

ELSEWHERE = [
    "http://api.example.org/firecrest/v2",
    "HTTP://10.0.0.1:8080",
    "http://127.0.0.1.example.org",
    "http://[2001:db8::1]/",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_no_credential_travels_in_the_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW, raising=False)
    with pytest.raises(ConfigError, match="plain HTTP"):
        FirecrestBackend(url, "system", StaticToken("secret"))
    with pytest.raises(ConfigError, match="plain HTTP"):
        request_token(url, {"client_id": "me", "client_secret": "secret"})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://api.example.org"]
)
def test_this_machine_and_tls_are_fine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW, raising=False)
    check_url(url)


def test_a_switch_allows_it_and_warns_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(ALLOW, "1")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            check_url("http://once.example.org/path")
    assert [record.getMessage() for record in caplog.records].count(
        f"credentials travel to http://once.example.org in the clear, as {ALLOW} allows"
    ) == 1
