"""API keys over REST and in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from sqlalchemy import event

from crestline.gateway.identity import InvalidCredentialError, Principal
from crestline.gateway.identity.api_keys import MOST_PER_USER, ApiKeys
from crestline.gateway.store import Store
from crestline.model import (
    AuthenticationError,
    ConflictError,
    GatewayUnavailableError,
    InvalidRequestError,
    NotFoundError,
)
from crestline.wire.extensions import SCOPES
from harness.gateway import GatewayProcess, RunningGateway
from harness.ports import free_port
from harness.postgresql import PostgresServer
from harness.waiting import until, until_answered

ALICE = Principal(username="alice", client_id="test", scopes=SCOPES, groups=frozenset({"staff"}))
DAY = 86400


def create(gateway: RunningGateway, **body: object) -> dict[str, str]:
    with gateway.http() as http:
        answer = http.post("/keys", json={"name": "test"} | body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


def ask(gateway: RunningGateway, method: str, path: str, key: str, **options: object) -> httpx.Response:
    headers = {"X-API-Key": key}
    return httpx.request(method, gateway.url + path, headers=headers, trust_env=False, timeout=60, **options)


def test_a_key_goes_in_either_header(gateway: RunningGateway) -> None:
    key = create(gateway, name="for CI")
    with gateway.http() as http:
        user = http.get("/status/systems").headers["F7T-AuthUsername"]
        listed = next(each for each in http.get("/keys").json()["keys"] if each["keyId"] == key["keyId"])
    for headers in ({"X-API-Key": key["secret"]}, {"Authorization": f"bearer {key['secret']}"}):
        answer = httpx.get(f"{gateway.url}/compute/local/jobs", headers=headers, trust_env=False)
        assert (answer.status_code, answer.headers["F7T-AuthUsername"]) == (200, user)
    assert listed == {name: value for name, value in key.items() if name != "secret"}
    assert (listed["name"], listed["username"]) == ("for CI", user)
    assert set(listed["scopes"]) == SCOPES - {"keys:read", "keys:write"}
    assert listed["expires"] - listed["created"] == 90 * DAY


def test_a_revoked_key_is_refused_at_once(gateway: RunningGateway) -> None:
    key = create(gateway)
    assert ask(gateway, "GET", "/status/systems", key["secret"]).status_code == 200
    with gateway.http() as http:
        assert http.delete(f"/keys/{key['keyId']}").status_code == 204
        assert http.delete(f"/keys/{key['keyId']}").status_code == 404
        assert key["keyId"] not in http.get("/keys").text
    answer = ask(gateway, "GET", "/status/systems", key["secret"])
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["message"] == "The API key was revoked. Create a new one."


@pytest.mark.parametrize("change", ["last", "first", "longer", "shorter", "prefix alone"])
def test_what_is_not_quite_a_key(gateway: RunningGateway, change: str) -> None:
    secret = create(gateway)["secret"]
    wrong = {
        "last": secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        "first": secret.replace("crk_", "crk_0", 1),
        "longer": secret + "A",
        "shorter": secret[:-1],
        "prefix alone": "crk_",
    }[change]
    answer = ask(gateway, "GET", "/status/systems", wrong)
    assert (answer.status_code, answer.json()["message"].partition(".")[0]) == (401, "The API key is not valid")


def test_a_key_never_gives_more_than_it_has(gateway: RunningGateway) -> None:
    key = create(gateway, scopes=["jobs:read", "keys:write"], expiresIn=DAY)
    body = {"name": "child", "expires_in": 300 * DAY}
    for scopes in (["jobs:write"], ["jobs:read", "files:read"]):
        answer = ask(gateway, "POST", "/keys", key["secret"], json=body | {"scopes": scopes})
        assert answer.status_code == 403, answer.text
    child = ask(gateway, "POST", "/keys", key["secret"], json=body)
    assert child.status_code == 201, child.text
    assert child.json()["scopes"] == ["jobs:read"]
    assert child.json()["expires"] <= key["expires"]
    nephew = ask(gateway, "POST", "/keys", child.json()["secret"], json={"name": "nephew"})
    assert nephew.json()["message"] == "The API key lacks the scope 'keys:write'. Use one that has it."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "scopes": ["everything"]}, "everything"),
        ({"name": "x", "scopes": []}, "allow nothing"),
        ({"name": "x", "expiresIn": 0}, "expiresIn"),
        ({"name": "x", "expiresIn": 400 * DAY}, "at most"),
    ],
)
def test_a_key_that_cannot_be_made(gateway: RunningGateway, body: dict[str, object], said: str) -> None:
    with gateway.http() as http:
        answer = http.post("/keys", json=body)
    assert answer.status_code == 400
    assert said in answer.text


def test_a_key_of_another_user_cannot_be_seen_or_revoked(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        assert http.delete("/keys/000000000000").status_code == 404


def test_the_key_itself_is_kept_nowhere(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home", free_port(), "--log-level", "debug")
    gateway.start()
    try:
        secret = create(gateway)["secret"]
        assert ask(gateway, "GET", "/compute/local/jobs", secret).status_code == 200
        assert ask(gateway, "GET", "/compute/local/jobs", secret + "x").status_code == 401
        client_secret = gateway.client[1]
    finally:
        gateway.stop()
    assert b"/compute/local/jobs" in gateway.log.read_bytes(), "the log is the one that is meant"
    part = secret[-24:].encode()
    for file in [gateway.log, *filter(Path.is_file, gateway.home.rglob("*"))]:
        assert part not in file.read_bytes(), file
        assert client_secret.encode() not in file.read_bytes() or file.name == "client.json"


# In the store.


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "gateway.db")
    yield store
    await store.close()


@pytest.mark.anyio
async def test_a_key_ends_when_it_says(store: Store) -> None:
    now = 1_000_000.0
    keys = ApiKeys(store, clock=lambda: now)
    key = await keys.create(ALICE, "short", expires_in=60)
    caller = await keys.verify(key.secret)
    assert (caller.username, caller.via, caller.groups) == ("alice", "api-key", ALICE.groups)
    now += 61
    for each in (keys, ApiKeys(store, clock=lambda: now)):  # remembered, and looked up
        with pytest.raises(InvalidCredentialError, match="expired") as caught:
            await each.verify(key.secret)
        assert caught.value.principal.username == "alice"
    now += 31 * DAY
    await keys.create(ALICE, "another")
    with pytest.raises(AuthenticationError, match="not valid"):
        await keys.verify(key.secret)


@pytest.mark.anyio
async def test_a_users_keys_are_the_users_own(store: Store) -> None:
    keys = ApiKeys(store)
    key = await keys.create(ALICE, "mine")
    assert await keys.list("bob") == []
    with pytest.raises(NotFoundError):
        await keys.revoke(key.key_id, "bob")
    assert [each.key_id for each in await keys.list("alice")] == [key.key_id]


@pytest.mark.anyio
async def test_there_are_so_many_keys_and_no_more(store: Store) -> None:
    keys = ApiKeys(store)
    made = [await keys.create(ALICE, f"key {number}") for number in range(MOST_PER_USER)]
    with pytest.raises(ConflictError):
        await keys.create(ALICE, "one more")
    await keys.revoke(made[0].key_id, "alice")
    await keys.create(ALICE, "in its place")
    with pytest.raises(InvalidRequestError):
        await keys.create(ALICE, "for ever", expires_in=10**9)


@pytest.mark.anyio
async def test_a_known_key_costs_no_look_up(store: Store) -> None:
    now = 1_000_000.0
    keys = ApiKeys(store, clock=lambda: now)
    key = await keys.create(ALICE, "busy")
    await keys.verify(key.secret)
    statements: list[str] = []
    engine = store.engine._engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    keys._checked = float("inf")  # the second until the next look at revocations, drawn out
    for _ in range(1000):
        await keys.verify(key.secret)
    assert statements == []


@pytest.mark.anyio
async def test_use_is_noted_to_the_minute(store: Store) -> None:
    now = 1_000_000.0
    keys = ApiKeys(store, clock=lambda: now)
    key = await keys.create(ALICE, "busy")
    assert (await keys.list())[0].last_used is None
    await keys.verify(key.secret)
    keys._checked = float("-inf")  # as after a second
    now += 5
    await keys.verify(key.secret)
    assert (await keys.list())[0].last_used == int(now)


@pytest.mark.anyio
async def test_a_key_revoked_by_another_replica_ends_here_too(postgresql: PostgresServer) -> None:
    database = postgresql.create_database("api_keys")
    stores = [await Store.open(database) for _ in range(2)]
    here, there = (ApiKeys(each) for each in stores)
    key, other = await here.create(ALICE, "one"), await here.create(ALICE, "other")
    for each in (key, other):
        await here.verify(each.secret)
        await there.verify(each.secret)
    await there.revoke(key.key_id)
    with pytest.raises(InvalidCredentialError):
        await _use_for_ever(here, key.secret)
    await here.verify(other.secret)
    for each_store in stores:
        await each_store.close()


async def _use_for_ever(keys: ApiKeys, secret: str) -> None:
    while True:
        await keys.verify(secret)
        await anyio.sleep(0.02)


@pytest.mark.anyio
async def test_a_database_that_is_away_and_back(postgresql: PostgresServer) -> None:
    store = await Store.open(postgresql.create_database("api_keys_away"))
    keys = ApiKeys(store)
    key = await keys.create(ALICE, "one")
    await keys.verify(key.secret)
    postgresql.stop()
    try:
        keys._checked = float("-inf")  # as after a second
        with pytest.raises(GatewayUnavailableError) as caught:
            await keys.verify(key.secret)
        assert caught.value.retry_after
    finally:
        postgresql.start()
    await until_answered(lambda: keys.verify(key.secret), GatewayUnavailableError)
    postgresql.pause()
    try:
        keys._checked = float("-inf")
        with anyio.fail_after(100):  # one after the other they would take far longer
            refusals = await asyncio.gather(*(keys.verify(key.secret) for _ in range(100)), return_exceptions=True)
        assert {type(each) for each in refusals} == {GatewayUnavailableError}
    finally:
        postgresql.resume()
    await until_answered(lambda: keys.verify(key.secret), GatewayUnavailableError)
    await store.close()


@pytest.mark.anyio
async def test_an_expired_key_over_http(gateway: RunningGateway) -> None:
    key = create(gateway, expiresIn=1)
    await until(lambda: ask(gateway, "GET", "/status/systems", key["secret"]).status_code == 401)
    assert "has expired" in ask(gateway, "GET", "/status/systems", key["secret"]).json()["message"]
