"""Keys and signed URLs of users who may not come any more are refused at use, not when they expire."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from crestline.gateway.identity.clients import ActiveClients
from crestline.gateway.identity.principal import Principal
from harness.forging_issuer import ForgingIssuer
from harness.gateway import RunningGateway, in_thread

DIRECTIVES = {"transferMethod": "s3", "fileSize": 3}


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[ForgingIssuer, ForgingIssuer]]:
    with ForgingIssuer().serving() as first, ForgingIssuer().serving() as second:
        yield first, second


def trusted(provider: ForgingIssuer, **policy: Any) -> dict[str, Any]:
    return {"issuer": provider.issuer, "audience": provider.audience} | policy


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def new_key(gateway: RunningGateway, credential: dict[str, str]) -> dict[str, str]:
    answer = httpx.post(f"{gateway.url}/keys", json={"name": "k"}, headers=credential)
    return {"X-API-Key": answer.json()["secret"]}


def signed_urls(gateway: RunningGateway, credential: dict[str, str], name: str) -> dict[str, str]:
    """Of a download and of an upload, without the address."""
    folder = gateway.home / "files"
    (folder / name).write_text("abc")
    urls = {}
    for kind, field in (("download", "downloadUrl"), ("upload", "partsUploadUrls")):
        answer = httpx.post(
            f"{gateway.url}/filesystem/local/transfer/{kind}",
            json={"path": f"{folder}/{name}{kind[:2]}" if kind == "upload" else f"{folder}/{name}"}
            | {"transferDirectives": DIRECTIVES},
            headers=credential,
        )
        assert answer.status_code == 201, answer.text
        found = answer.json()["transferDirectives"][field]
        split = urlsplit(found if isinstance(found, str) else found[0])
        urls[kind] = f"{split.path}?{split.query}"
    return urls


def statuses(gateway: RunningGateway, urls: dict[str, str]) -> set[tuple[int, bool]]:
    """Of each URL, and whether it says that access is denied in S3's words."""
    answers = [
        httpx.get(gateway.url + urls["download"]),
        httpx.head(gateway.url + urls["download"]),
        httpx.put(gateway.url + urls["upload"], content=b"abc"),
        httpx.post(gateway.url + urls["upload"].replace("parts/1", "complete"), content=b"<a/>"),
    ]
    assert answers[3].status_code == 403  # signed for something else
    assert all("AccessDenied" in each.text for each in (answers[0], answers[2]) if each.status_code >= 400)
    return {each.status_code for each in answers[:3]}


def test_keys_and_urls_of_a_provider_that_was_removed(
    providers: tuple[ForgingIssuer, ForgingIssuer], tmp_path: Path
) -> None:
    first, second = providers
    home = tmp_path / "home"
    with in_thread(home, oidc=[trusted(first), trusted(second)]) as gateway:
        users = {"first": bearer(first.token()), "second": bearer(second.token()), "own": bearer(gateway.token())}
        users |= {f"{name}'s key": new_key(gateway, each) for name, each in users.items()}
        urls = {name: signed_urls(gateway, each, name.partition("'")[0]) for name, each in users.items()}
        assert {status for each in urls.values() for status in statuses(gateway, each)} == {200}

    def served(gateway: RunningGateway) -> set[str]:
        keys = {name for name in users if name.endswith("key")}
        answers = {name: httpx.get(f"{gateway.url}/status/systems", headers=users[name]).status_code for name in keys}
        found = {name: statuses(gateway, each) for name, each in urls.items()}
        assert all(each in ({200}, {403}) for each in found.values())
        good = {name for name, each in found.items() if each == {200}}
        assert {name for name, status in answers.items() if status == 200} == good & keys
        return good

    def of(*names: str) -> set[str]:
        return {each for name in names for each in (name, f"{name}'s key")}

    for configured, good in (
        ([trusted(second)], of("second", "own")),  # its policy would let the first one's user pass
        ([], of("own")),
        ([trusted(first, denied_users=["alice"]), trusted(second)], of("second", "own")),
        ([trusted(first), trusted(second, allowed_users=["bob"])], of("first", "own")),
        ([trusted(first), trusted(second)], of("first", "second", "own")),
    ):
        with in_thread(home, oidc=configured) as gateway:
            assert served(gateway) == good, configured


def test_urls_end_with_the_client_the_key_or_the_access(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with in_thread(home) as gateway:
        first = bearer(gateway.token())
        key = new_key(gateway, first)
        urls = signed_urls(gateway, key, "file")
        assert statuses(gateway, urls) == {200}
        key_id = httpx.get(f"{gateway.url}/keys", headers=first).json()["keys"][0]["keyId"]
        assert httpx.delete(f"{gateway.url}/keys/{key_id}", headers=first).status_code == 204
        assert statuses(gateway, urls) == {403}
        kept = signed_urls(gateway, first, "file")
    rules = {"local": {"access": [{"users": ["somebody-else"]}]}}
    with in_thread(home) as gateway:
        assert statuses(gateway, kept) == {200}
    with in_thread(home, systems=rules) as gateway:
        assert statuses(gateway, kept) == {403}
    with in_thread(home) as gateway:
        with closing(sqlite3.connect(home / "private" / "gateway.db")) as database, database:
            database.execute("UPDATE clients SET username = 'somebody-else'")
        wait_until(lambda: statuses(gateway, kept) == {403})


def wait_until(holds: Callable[[], bool]) -> None:
    """The gateway asks its store once a second which clients there are."""
    for _ in range(1000):
        if holds():
            return
    pytest.fail("the change is not noticed")


@pytest.mark.anyio
async def test_a_client_that_is_another_users_now() -> None:
    class OneClient:
        async def list(self) -> list[Principal]:
            return [Principal(username="bob", client_id="id")]

    active = ActiveClients(OneClient())  # type: ignore[arg-type]
    await active.check(Principal(username="bob", client_id="id"))
    for user, client in (("alice", "id"), ("bob", "other")):
        with pytest.raises(Exception, match="was removed"):
            await active.check(Principal(username=user, client_id=client))
