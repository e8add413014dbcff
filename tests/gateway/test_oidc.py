"""Tokens of a real OpenID Connect provider."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from joserfc.jwk import RSAKey

from crestline.gateway.access import build_authenticator
from crestline.gateway.config import GatewayConfig, IssuerConfig, load_config
from crestline.gateway.identity import InvalidCredentialError, oidc
from crestline.gateway.identity.api_keys import ApiKeys
from crestline.gateway.identity.clients import Clients
from crestline.gateway.identity.issuer import Issuer
from crestline.gateway.identity.tokens import TokenVerifier, TrustedIssuer
from crestline.gateway.store import Store
from harness.gateway import RunningGateway, in_thread
from harness.oidc import OidcProvider
from harness.waiting import until


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


def test_a_token_of_another_issuer_is_refused(gateway: RunningGateway, oidc_provider: OidcProvider) -> None:
    answer = ask(gateway, oidc_provider.token("alice"))
    assert (answer.status_code, answer.json()["message"].partition(".")[0]) == (401, "Access token is invalid")


def test_a_username_claim_of_choice(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience, "username_claim": "client_id"}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        assert ask(gateway, oidc_provider.token("alice")).headers["F7T-AuthUsername"] == "alice-client"


@pytest.mark.anyio
async def test_a_token_ends_when_it_says(oidc_provider: OidcProvider) -> None:
    keys = oidc.ProviderKeys(oidc_provider.issuer)
    issuer = TrustedIssuer(name=oidc_provider.issuer, audience=oidc_provider.audience, keys=keys)
    token = oidc_provider.token("alice")
    now = [time.time()]
    known = TokenVerifier([issuer], clock=lambda: now[0])
    expires = (await known.verify(token)).expires
    for left, said in ((29, "Access token expires too soon"), (0, "Access token expired")):
        now[0] = expires - left
        for verifier in (known, TokenVerifier([issuer], clock=lambda: now[0])):  # one remembers it, the other does not
            with pytest.raises(InvalidCredentialError, match=said) as caught:
                await verifier.verify(token)
            assert caught.value.principal.username == "alice"
    now[0] = expires - 31
    assert (await known.verify(token)).username == "alice"


@pytest.mark.anyio
async def test_a_provider_whose_clock_is_ahead(oidc_provider: OidcProvider) -> None:
    keys = oidc.ProviderKeys(oidc_provider.issuer)
    issuer = TrustedIssuer(name=oidc_provider.issuer, audience=oidc_provider.audience, keys=keys)
    token = oidc_provider.token("alice")
    issued = time.time()
    assert (await TokenVerifier([issuer], clock=lambda: issued - 30).verify(token)).username == "alice"
    with pytest.raises(InvalidCredentialError, match="invalid"):
        await TokenVerifier([issuer], clock=lambda: issued - 300).verify(token)


def test_a_forged_token_is_refused(gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider) -> None:
    head, claims, signature = oidc_provider.token("alice").split(".")
    _, others_claims, others_signature = oidc_provider.token("bob").split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    with_secret = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').decode().rstrip("=")
    for forged in (
        f"{head}.{others_claims}.{signature}",
        f"{head}.{claims}.{others_signature}",
        f"{head}.{claims}.",
        f"{unsigned}.{claims}.",
        f"{with_secret}.{claims}.{signature}",
        f"{head}.{claims}",
        "x.y.z",
    ):
        assert ask(gateway_with_oidc, forged).status_code == 401


def test_keys_rotate_while_the_gateway_runs(
    gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = oidc_provider.token("alice")
    assert ask(gateway_with_oidc, before).status_code == 200
    oidc_provider.stop()
    oidc_provider.start(kid="second")
    after, later = oidc_provider.token("alice"), oidc_provider.token("bob")
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)  # between two looks for new keys; the test does not wait for it
    assert ask(gateway_with_oidc, after).status_code == 200
    assert ask(gateway_with_oidc, later).status_code == 200


@pytest.mark.anyio
async def test_forged_key_ids_cause_no_flood(oidc_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = oidc.ProviderKeys(oidc_provider.issuer)
    await keys.keys("first")
    oidc_provider.stop()  # whatever is asked of it now would fail
    for number in range(100):
        await keys.keys(f"forged-{number}")


def test_known_keys_outlive_the_provider(gateway_with_oidc: RunningGateway, oidc_provider: OidcProvider) -> None:
    first, second = oidc_provider.token("alice"), oidc_provider.token("bob")
    assert ask(gateway_with_oidc, first).status_code == 200
    oidc_provider.stop()
    assert ask(gateway_with_oidc, second).status_code == 200


@pytest.mark.anyio
async def test_known_keys_are_renewed_beside_the_requests(
    oidc_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = oidc.ProviderKeys(oidc_provider.issuer)
    before = await keys.keys("first")
    oidc_provider.pause()
    try:
        monkeypatch.setattr(oidc, "_REFRESH", 0.0)
        monkeypatch.setattr(oidc, "_PAUSE", 0.0)
        assert await keys.keys("first") is before, "a request waited for a provider that hangs"
    finally:
        oidc_provider.resume()
    await until(lambda: keys._keys is not before)


@pytest.mark.anyio
async def test_known_keys_outlive_a_reload(oidc_provider: OidcProvider, tmp_path: Path) -> None:
    def settings(**changes: str) -> GatewayConfig:
        trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience}
        return load_config(state_dir=tmp_path, oidc=[trusted | changes])

    store = await Store.open(tmp_path / "gateway.db")
    issuer = Issuer(RSAKey.generate_key(2048), "test", Clients(store), IssuerConfig())
    keys = ApiKeys(store)
    first = build_authenticator(settings(), issuer, keys)
    headers = {"authorization": f"Bearer {oidc_provider.token('alice')}"}
    await first.authenticate(headers)
    oidc_provider.stop()
    second = build_authenticator(settings(username_claim="client_id"), issuer, keys, first)
    assert (await second.authenticate(headers)).username == "alice-client"
    await store.close()


@pytest.fixture
def without_keys(oidc_provider: OidcProvider, tmp_path: Path) -> Iterator[tuple[RunningGateway, str]]:
    """A gateway that starts while the provider is gone, and a token of it."""
    token = oidc_provider.token("alice")
    oidc_provider.stop()
    trusted = {"issuer": oidc_provider.issuer, "audience": oidc_provider.audience}
    with in_thread(tmp_path / "home", oidc=[trusted]) as gateway:
        yield gateway, token


@pytest.mark.anyio
async def test_without_keys_the_answer_is_503(
    without_keys: tuple[RunningGateway, str], oidc_provider: OidcProvider
) -> None:
    gateway, token = without_keys
    answer = ask(gateway, token)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert ask(gateway, gateway.token()).status_code == 200, "its own tokens go on to count"
    oidc_provider.start()
    fresh = oidc_provider.token("alice")
    await until(lambda: ask(gateway, fresh).status_code == 200)


@pytest.mark.anyio
async def test_requests_do_not_wait_long_for_a_hanging_provider(
    without_keys: tuple[RunningGateway, str], oidc_provider: OidcProvider
) -> None:
    """Twenty that come at once wait for one look at it, not for twenty in turn."""
    gateway, _ = without_keys
    oidc_provider.start()
    token = oidc_provider.token("alice")
    oidc_provider.pause()
    try:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as http:
            headers = {"Authorization": f"Bearer {token}"}
            answers = await asyncio.gather(*(http.get("/status/systems", headers=headers) for _ in range(20)))
    finally:
        oidc_provider.resume()
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    await until(lambda: ask(gateway, token).status_code == 200)
