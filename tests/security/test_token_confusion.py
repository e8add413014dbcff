"""A credential is worth what its own issuer said, where it belongs, and nothing anywhere else."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwe
from joserfc.jwk import RSAKey

from crestline.gateway.identity import oidc
from crestline.gateway.identity.clients import Clients
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from crestline.relay.tokens import HubKey, InvalidTokenError
from harness.forging_issuer import ForgingIssuer
from harness.gateway import RunningGateway, in_thread
from harness.waiting import until

Place = tuple[RunningGateway, ForgingIssuer]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A gateway that trusts its own issuer and one other."""
    with ForgingIssuer().serving() as issuer:
        trusted = {"issuer": issuer.issuer, "audience": issuer.audience}
        with in_thread(tmp_path_factory.mktemp("confusion") / "home", oidc=[trusted]) as gateway:
            yield gateway, issuer


def ask(gateway: RunningGateway, credential: str, header: str = "Authorization") -> httpx.Response:
    value = f"Bearer {credential}" if header == "Authorization" else credential
    return httpx.get(f"{gateway.url}/status/systems", headers={header: value}, trust_env=False, timeout=60)


def b64(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def own_key(gateway: RunningGateway) -> RSAKey:
    """The private key of the gateway's built-in issuer."""
    key = RSAKey.import_key(json.loads((gateway.home / "private" / "signing_key.json").read_text()))
    key.ensure_kid()
    return key


def own_issuer(gateway: RunningGateway) -> dict[str, str]:
    """The claims by which the gateway knows its own tokens."""
    token = gateway.token()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return {"iss": claims["iss"], "aud": claims["aud"]}


def test_honest_tokens_of_both_issuers_pass(place: Place) -> None:
    """So that the refusals below refuse what they mean to."""
    gateway, issuer = place
    for token in (gateway.token(), issuer.token(), issuer.token({"alg": "ES256"}, key=issuer.elliptic)):
        assert ask(gateway, token).status_code == 200


def with_public_key(form: Callable[[RSAKey], bytes]) -> Callable[[RunningGateway, ForgingIssuer], str]:
    """HS256 with what everybody may know as the secret (CVE-2015-9235)."""

    def forge(gateway: RunningGateway, issuer: ForgingIssuer) -> str:
        signed = f"{b64({'alg': 'HS256', 'kid': 'rsa'})}.{b64(issuer.claims())}"
        digest = hmac.digest(form(issuer.key), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    return forge


def strange(header: dict[str, Any]) -> Callable[[RunningGateway, ForgingIssuer], str]:
    """A forger's own signature, and a header that tells where to find the key for it."""

    def forge(gateway: RunningGateway, issuer: ForgingIssuer) -> str:
        where = {name: value.format(issuer=issuer.issuer) for name, value in header.items()}
        return issuer.token({"kid": "rsa"} | where, key=FORGERS)

    return forge


def unsigned(header: object, claims: object = None) -> Callable[[RunningGateway, ForgingIssuer], str]:
    def forge(gateway: RunningGateway, issuer: ForgingIssuer) -> str:
        return f"{b64(header)}.{b64(issuer.claims() if claims is None else claims)}.AAAA"

    return forge


FORGERS = RSAKey.generate_key(2048, {"kid": "rsa"}, private=True)
DEEP = "[" * 20000 + "]" * 20000
FORGED: dict[str, Callable[[RunningGateway, ForgingIssuer], str]] = {
    "HS256 with the public key in PEM": with_public_key(lambda key: key.as_pem(private=False)),
    "HS256 with the public key in DER": with_public_key(lambda key: key.as_der(private=False)),
    "HS256 with the modulus": with_public_key(lambda key: str(key.as_dict(private=False)["n"]).encode()),
    **{
        f"alg {word!r}": unsigned({"alg": word, "kid": "rsa"})
        for word in ("None", "NONE", "nOnE", "", "RS256 ", "rs256", "RSA-OAEP", None, [], 1)
    },
    "key ids of another type": unsigned({"alg": "RS256", "kid": {"rsa": 1}}),
    "critical extension": unsigned({"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}),
    "unencoded payload (RFC 7797)": unsigned({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": False}),
    "claims that are no object": unsigned({"alg": "RS256", "kid": "rsa"}, []),
    "issuers as a list": unsigned({"alg": "RS256", "kid": "rsa"}, {"iss": ["a"]}),
    "a header that is nested without end": lambda gateway, issuer: f"{b64(DEEP)}.{b64(issuer.claims())}.AAAA",
    "claims that are nested without end": lambda gateway, issuer: f"{b64({'alg': 'RS256'})}.{b64(DEEP)}.AAAA",
    "another RSA key of the same id": lambda gateway, issuer: issuer.token(key=FORGERS),
    "jku": strange({"jku": "{issuer}/forged"}),
    "x5u": strange({"x5u": "{issuer}/forged"}),
    **{
        f"kid {kid!r}": strange({"kid": kid})
        for kid in (
            "../../../../dev/null",
            "/dev/null",
            "file:///dev/null",
            "{issuer}/forged",
            "rsa' OR '1'='1",
            "rsa\0",
            "rsa\n",
            "",
            "$(id)",
        )
    },
    "the elliptic key's id for an RSA signature": strange({"kid": "ec"}),
    "one issuer's key for the other's name": lambda gateway, issuer: issuer.token(**own_issuer(gateway)),
    "the built-in key for the other's name": lambda gateway, issuer: issuer.token(key=own_key(gateway)),
    "the built-in key under the other's key id": lambda gateway, issuer: issuer.token(
        {"kid": "rsa"}, key=own_key(gateway)
    ),
    "the other's audience with the built-in issuer": lambda gateway, issuer: issuer.token(
        key=own_key(gateway), **(own_issuer(gateway) | {"aud": issuer.audience})
    ),
    "an issuer whose name goes on": lambda gateway, issuer: issuer.token(iss=f"{issuer.issuer}/"),
    "an audience whose name goes on": lambda gateway, issuer: issuer.token(aud=f"{issuer.audience}.evil.test"),
    "no audience": lambda gateway, issuer: issuer.token(aud=None),
    "no expiry": lambda gateway, issuer: issuer.token(exp=None),
    "an expiry that is text": lambda gateway, issuer: issuer.token(exp="9999999999"),
    "an expiry in the past": lambda gateway, issuer: issuer.token(exp=int(time.time()) - 1),
    "not before an hour from now": lambda gateway, issuer: issuer.token(nbf=int(time.time()) + 3600),
    "issued an hour from now": lambda gateway, issuer: issuer.token(iat=int(time.time()) + 3600),
    "encrypted to the issuer": lambda gateway, issuer: jwe.encrypt_compact(
        {"alg": "RSA-OAEP", "enc": "A128GCM", "kid": "rsa"}, json.dumps(issuer.claims()), issuer.key
    ),
    "a signature more": lambda gateway, issuer: f"{issuer.token()}.AAAA",
    "a signature that is cut": lambda gateway, issuer: issuer.token()[:-8],
    "the signature of other claims": lambda gateway, issuer: ".".join(
        [*issuer.token().split(".")[:2], issuer.token(preferred_username="root").split(".")[2]]
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_and_misdirected_tokens_are_refused(place: Place, what: str) -> None:
    gateway, issuer = place
    token = FORGED[what](gateway, issuer)
    answer = ask(gateway, token)
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (401, "Bearer"), answer.text
    assert token not in answer.text
    assert set(issuer.asked) <= set(issuer.documents()), "an address in a token was asked"


def test_a_key_that_was_withdrawn_counts_no_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for tokens that are new nor for one that was known to be good, however long that would live."""
    gateway, issuer = place
    seen = issuer.token(exp=int(time.time()) + 86400)
    unseen = issuer.token(preferred_username="bob")
    assert ask(gateway, seen).status_code == 200
    issuer.rotate()
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)  # between two looks for new keys; the test does not wait for it
    assert ask(gateway, issuer.token()).status_code == 200
    assert [ask(gateway, token).status_code for token in (seen, unseen)] == [401, 401]


@pytest.mark.anyio
async def test_a_withdrawal_is_noticed_without_new_tokens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, issuer = place
    seen = issuer.token(exp=int(time.time()) + 86400)
    monkeypatch.setattr(oidc, "_PAUSE", 0.0)
    assert ask(gateway, seen).status_code == 200
    issuer.rotate()
    monkeypatch.setattr(oidc, "_REFRESH", 0.0)  # keys are due for a look
    await until(lambda: ask(gateway, seen).status_code == 401)


def test_nothing_passes_for_something_else(place: Place) -> None:
    """Each kind of credential where another kind is expected."""
    gateway, _ = place
    client_id, client_secret = gateway.client
    access = gateway.token()
    form = {"grant_type": "client_credentials", "scope": "offline_access"}
    refresh = httpx.post(gateway.token_url, data=form, auth=gateway.client).json()["refresh_token"]
    with gateway.http() as http:
        api_key = http.post("/keys", json={"name": "confused"}).json()["secret"]
        body = {
            "path": str(gateway.home / "files" / "x"),
            "transferDirectives": {"transferMethod": "s3", "fileSize": 1},
        }
        link = http.post("/filesystem/local/transfer/upload", json=body).json()
    signature = httpx.URL(link["transferDirectives"]["completeUploadUrl"]).params["signature"]
    hub = HubKey(b"a hub's key that is long enough: 0123456789")
    session = hub.new_session(user="alice", path="/user/alice/", hub_api="http://127.0.0.1:9/hub/api", lifetime=60)[1]
    manager = hub.manager_token()

    assert ask(gateway, access).status_code == ask(gateway, api_key).status_code == 200
    for credential in (client_secret, refresh, signature, session, manager, client_id):
        assert ask(gateway, credential).status_code == 401, credential
        assert ask(gateway, credential, "X-API-Key").status_code == 401, credential
    assert ask(gateway, access, "X-API-Key").status_code == 401

    def token_request(auth: tuple[str, str], **form: str) -> int:
        return httpx.post(gateway.token_url, data=form, auth=auth).status_code

    for secret in (access, api_key, refresh, session, manager, signature):
        assert token_request((client_id, secret), grant_type="client_credentials") == 401
    for token in (access, api_key, client_secret, session, manager, signature):
        assert token_request(gateway.client, grant_type="refresh_token", refresh_token=token) == 400

    for credential in (access, api_key, refresh, client_secret, signature, manager):
        with pytest.raises(InvalidTokenError):
            hub.session(credential)
    for credential in (access, api_key, refresh, client_secret, signature, session):
        with pytest.raises(InvalidTokenError):
            hub.check_manager(credential)

    content = httpx.URL(link["transferDirectives"]["partsUploadUrls"][0])
    for forged in (access, api_key, session, manager):
        wrong = content.copy_merge_params({"signature": forged[:128]})
        assert httpx.put(wrong, content=b"x").status_code == 403


def test_a_refresh_token_is_its_clients_own(tmp_path: Path) -> None:
    """And a refusal to another client does not use it up."""
    home = tmp_path / "home"
    other = ("other", asyncio.run(add_client(home, "other", "bob")))
    with in_thread(home) as gateway:
        form = {"grant_type": "client_credentials", "scope": "offline_access"}
        mine = httpx.post(gateway.token_url, data=form, auth=gateway.client).json()["refresh_token"]
        again = {"grant_type": "refresh_token", "refresh_token": mine}
        stolen = httpx.post(gateway.token_url, data=again, auth=other)
        assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
        assert httpx.post(gateway.token_url, data=again, auth=gateway.client).status_code == 200


async def add_client(home: Path, client_id: str, username: str) -> str:
    """The secret of a new client."""
    StateDirectory(home).create()
    store = await Store.open(StateDirectory(home).database)
    secret = await Clients(store).add(client_id, username)
    await store.close()
    return secret


def test_the_first_of_two_credentials_is_the_only_one(place: Place) -> None:
    """A refused token is not made good by a good key beside it."""
    gateway, _ = place
    with gateway.http() as http:
        key = http.post("/keys", json={"name": "beside"}).json()["secret"]
    headers = {"Authorization": "Bearer forged", "X-API-Key": key}
    assert httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code == 401
