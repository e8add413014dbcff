"""Credentials do not leave this machine in the clear."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from crestline.client.auth import StaticToken
from crestline.client.auth.token_endpoint import request_token
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import GatewayConfig, OidcConfig, OpenFgaConfig
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.schedulers.slurm.options import RestOptions
from crestline.gateway.schedulers.slurm.restd import Slurmrestd
from crestline.model import ConfigError
from crestline.plain_http import ALLOW, check_url

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


@pytest.mark.parametrize("url", ["https://me:hunter2@gw.example/v2", "http://hunter2@localhost", "https://:hunter2@gw"])
def test_a_url_that_holds_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FirecrestBackend(url, "system", StaticToken("secret"))
    with pytest.raises(ConfigError) as of_tokens:
        request_token(url, {"client_id": "me", "client_secret": "secret"})
    assert "hunter2" not in str(caught.value) + str(of_tokens.value)


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


@pytest.mark.anyio
@pytest.mark.parametrize("url", ELSEWHERE)
async def test_what_a_gateway_trusts_does_not_come_in_the_clear(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of an identity provider, answers of OpenFGA, and tokens for slurmrestd."""
    monkeypatch.delenv(ALLOW, raising=False)
    (tmp_path / "key").write_text("k" * 32)
    (tmp_path / "key").chmod(0o600)
    config = GatewayConfig(state_dir=tmp_path / "home", oidc=[OidcConfig(issuer=url, audience="x")])
    with pytest.raises(ConfigError, match="plain HTTP"):
        async with GatewayRuntime(config).run():
            pass
    with pytest.raises(ConfigError, match="plain HTTP"):
        OpenFga(OpenFgaConfig(url=url, store_id="x"))
    with pytest.raises(ConfigError, match="plain HTTP"):
        Slurmrestd(RestOptions(url=url, jwt_key_file=tmp_path / "key"), 1.0)
