"""The built-in OAuth2 issuer."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from harness.gateway import RunningGateway, in_thread


def test_discovery_leads_to_keys_that_verify_the_token(gateway: RunningGateway) -> None:
    discovery = httpx.get(f"{gateway.url}/.well-known/openid-configuration").json()
    keys = KeySet.import_key_set(httpx.get(discovery["jwks_uri"]).json())
    client_id, secret = gateway.client
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    answer = httpx.post(discovery["token_endpoint"], data=form)
    assert answer.headers["Cache-Control"] == "no-store"
    token = jwt.decode(answer.json()["access_token"], keys, algorithms=["RS256"])
    assert token.claims["iss"] == discovery["issuer"]
    assert token.claims["exp"] - token.claims["iat"] == answer.json()["expires_in"]


def test_a_refresh_token_works_once(gateway: RunningGateway) -> None:
    def ask(**form: str) -> httpx.Response:
        return httpx.post(gateway.token_url, data=form, auth=gateway.client)

    first = ask(grant_type="client_credentials", scope="offline_access").json()["refresh_token"]
    second = ask(grant_type="refresh_token", refresh_token=first).json()["refresh_token"]
    assert second != first
    replayed = ask(grant_type="refresh_token", refresh_token=first)
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert ask(grant_type="refresh_token", refresh_token=second).status_code == 200
    assert "refresh_token" not in ask(grant_type="client_credentials").json()


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_grant"),
        ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": "nobody"}, 401, "invalid_client"),
    ],
)
def test_refusals(gateway: RunningGateway, form: dict[str, str], status: int, error: str) -> None:
    client_id, secret = gateway.client
    answer = httpx.post(gateway.token_url, data={"client_id": client_id, "client_secret": secret} | form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_basic_credentials_are_form_encoded(gateway: RunningGateway) -> None:
    answer = httpx.post(gateway.token_url, data={"grant_type": "client_credentials"}, auth=("lo%63al-client", "x"))
    assert answer.status_code == 401
    client_id, secret = gateway.client
    encoded = client_id.replace("l", "%6c")
    answer = httpx.post(gateway.token_url, data={"grant_type": "client_credentials"}, auth=(encoded, secret))
    assert answer.status_code == 200


def test_issuer_keys_and_client_belong_to_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with in_thread(home) as first:
        client, token = first.client, first.token()
        issuer = httpx.get(f"{first.url}/.well-known/openid-configuration").json()["issuer"]
    with in_thread(home) as second:
        assert second.url != first.url
        assert second.client == client
        assert httpx.get(f"{second.url}/.well-known/openid-configuration").json()["issuer"] == issuer
        answer = httpx.get(f"{second.url}/status/systems", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        # Whatever host a request came by, the answer is the same.
        odd = httpx.get(f"{second.url}/.well-known/openid-configuration", headers={"Host": "evil.example"}).json()
        assert "evil" not in json.dumps(odd)
    with in_thread(tmp_path / "other") as other:
        answer = httpx.get(f"{other.url}/status/systems", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_secrets_are_readable_to_the_owner_alone(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home") as gateway:
        gateway.token()
        assert stat.S_IMODE((gateway.home / "client.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((gateway.home / "private").stat().st_mode) == 0o700
        secret = gateway.client[1].encode()
        holders = [file for file in gateway.home.rglob("*") if file.is_file() and secret in file.read_bytes()]
        assert holders == [gateway.home / "client.json"]
