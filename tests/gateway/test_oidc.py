"""Tokens of a real OpenID Connect provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crestline.gateway.identity import oidc
from harness.gateway import RunningGateway, in_thread
from harness.oidc import OidcProvider


@pytest.fixture
def gateway_with_oidc(oidc_provider: OidcProvider, tmp_path: Path) -> Iterator[RunningGateway]:
    trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        yield gateway


def ask(gateway: RunningGateway, token: str) -> httpx.Response:
    return httpx.get(f"{gateway.url}/status/systems", headers={"Authorization": f"Bearer {token}"})


def test_the_user_is_the_username_claim(gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider) -> None:
    for user in ("alice", "bob"):
        answer = ask(gateway_with_oidc, oidc_provider.token(user))
        assert (answer.status_code, answer.headers["F7T-AuthUsername"]) == (200, user)
    # Its own tokens go on to count.
    assert ask(gateway_with_oidc, gateway_with_oidc.token()).status_code == 200


def test_a_token_for_another_audience_is_refused(
    gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider
) -> None:
    answer = ask(gateway_with_oidc, oidc_provider.token("alice", resource="https://elsewhere.test"))
    assert (answer.status_code, answer.json()["message"].partition(".")[0]) == (401, "Access token is invalid")


def test_a_token_without_a_user_is_refused(gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider) -> None:
    answer = ask(gateway_with_oidc, oidc_provider.token("nameless"))
    assert answer.status_code == 400
    assert "preferred_username" in answer.json()["message"]


def test_keys_rotate_while_the_gateway_runs(
    gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = oidc_provider.token("alice")
    assert ask(gateway_with_oidc, before).status_code == 200
    oidc_provider.stop()
    oidc_provider.start(kid="second")
    after = oidc_provider.token("alice")
    monkeypatch.setattr(
        oidc, "_PAUSE", 0.0
    )  # the pause between two looks for new keys, which the test does not wait for
    assert ask(gateway_with_oidc, after).status_code == 200


def test_known_keys_outlive_the_provider(gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider) -> None:
    first, second = oidc_provider.token("alice"), oidc_provider.token("bob")
    assert ask(gateway_with_oidc, first).status_code == 200
    oidc_provider.stop()
    assert ask(gateway_with_oidc, second).status_code == 200


def test_without_keys_the_answer_is_503(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    token = oidc_provider.token("alice")
    oidc_provider.stop()
    trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        answer = ask(gateway, token)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert ask(gateway, gateway.token()).status_code == 200
