"""What permits one thing once, or for a while, permits nothing else and nothing later: signed URLs, relay sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.transfers.signing import UrlSigner
from crestline.relay.agent import Agent, SessionEndedError
from crestline.relay.config import HubConfig, RelayConfig
from crestline.relay.standalone import Server
from crestline.relay.tokens import HubKey
from crestline.relay.websocket import RefusedError, connect
from harness.gateway import RunningGateway
from harness.relay import Relayed

TRANSFER = "/filesystem/local/transfer"
CONTENT = b"what the upload brought"


@pytest.fixture(scope="module")
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as client:
        yield client


@pytest.fixture(scope="module")
def anybody() -> Iterator[httpx.Client]:
    """A client that has got hold of a URL."""
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def work(gateway: RunningGateway, tmp_path: Path) -> Path:
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


def begin(http: httpx.Client, path: Path, size: int = len(CONTENT)) -> dict[str, Any]:
    body = {"path": str(path), "transferDirectives": {"transferMethod": "s3", "fileSize": size}}
    return dict(http.post(f"{TRANSFER}/upload", json=body).raise_for_status().json())


def offer(http: httpx.Client, path: Path) -> str:
    body = {"path": str(path), "transferDirectives": {"transferMethod": "s3"}}
    answer = http.post(f"{TRANSFER}/download", json=body).raise_for_status().json()
    return str(answer["transferDirectives"]["downloadUrl"])


def completion(etag: str) -> bytes:
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    return f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()


def graft(url: str, signature_of: str) -> httpx.URL:
    """A URL with the permission of another."""
    return httpx.URL(url).copy_with(query=httpx.URL(signature_of).query)


def test_a_signature_fits_its_own_transfer_alone(http: httpx.Client, anybody: httpx.Client, work: Path) -> None:
    (work / "mine").write_bytes(b"mine")
    (work / "other").write_bytes(b"other")
    first, second = (begin(http, work / name)["transferDirectives"] for name in ("first", "second"))
    mine, other = offer(http, work / "mine"), offer(http, work / "other")
    urls = {
        "GET": [mine, other],
        "PUT": [first["partsUploadUrls"][0], second["partsUploadUrls"][0]],
        "POST": [first["completeUploadUrl"], second["completeUploadUrl"]],
    }
    everything = [url for pair in urls.values() for url in pair]
    for method, pair in urls.items():
        for url in pair:
            for borrowed in everything:
                if borrowed != url:
                    answer = anybody.request(method, graft(url, borrowed), content=CONTENT)
                    assert answer.status_code == 403, (method, url, borrowed)
    assert not (work / "first").exists()
    assert not (work / "second").exists()


def test_a_signed_url_is_good_for_its_method_alone(http: httpx.Client, anybody: httpx.Client, work: Path) -> None:
    directives = begin(http, work / "file")["transferDirectives"]
    (work / "there").write_bytes(b"there")
    urls = {directives["partsUploadUrls"][0]: "PUT", directives["completeUploadUrl"]: "POST"}
    urls[offer(http, work / "there")] = "GET"
    for url, right in urls.items():
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"} - {right}:
            if (right, method) == ("GET", "HEAD"):
                continue  # size and ETag of what the URL gives anyway
            headers = {"X-HTTP-Method-Override": right, "X-Original-Method": right}
            answer = anybody.request(method, url, content=b"", headers=headers)
            if method == "OPTIONS":
                assert answer.content == b""
            else:
                assert answer.status_code in (403, 405), (method, url)
    assert (work / "there").read_bytes() == b"there"


def test_a_changed_query_changes_nothing(http: httpx.Client, anybody: httpx.Client, work: Path) -> None:
    """Fields that are none are ignored, and of a field that is there twice none is taken over the signed one."""
    (work / "mine").write_bytes(b"mine")
    (work / "other").write_bytes(b"other")
    url = httpx.URL(offer(http, work / "mine"))
    for added in (f"path={work}/other", f"transfer_id=t{'0' * 16}", "system_name=other", "username=root"):
        answer = anybody.get(f"{url}&{added}")
        assert (answer.status_code, answer.content) == (200, b"mine")
    later = int(url.params["expires"]) + 10**6
    for query in (f"expires={later}&{url.query.decode()}", f"{url.query.decode()}&expires={later}"):
        answer = anybody.get(url.copy_with(query=query.encode()))
        assert answer.status_code in (200, 400, 403)
        assert answer.status_code != 200 or answer.content == b"mine"
    expired = f"expires={int(time.time()) - 5}&signature={url.params['signature']}"
    for query in (f"{expired}&{url.query.decode()}", f"{url.query.decode()}&{expired}"):
        assert anybody.get(url.copy_with(query=query.encode())).status_code != 500


def test_a_signed_url_ends_when_it_says(
    gateway: RunningGateway, http: httpx.Client, anybody: httpx.Client, work: Path
) -> None:
    """Signed with the gateway's own key, so that nothing but the time is wrong."""
    (work / "file").write_bytes(b"x")
    signer = UrlSigner(StateDirectory(gateway.home).transfer_key(), lambda: gateway.url)
    path = httpx.URL(offer(http, work / "file")).path
    now = int(time.time())
    assert anybody.get(signer.url("GET", path, now + 60)).content == b"x"
    for expires in (now - 1, 0, -(10**30)):
        answer = anybody.get(signer.url("GET", path, expires))
        assert (answer.status_code, "expired" in answer.text) == (403, True)


def test_a_completed_upload_is_closed(http: httpx.Client, anybody: httpx.Client, work: Path) -> None:
    """Its URLs neither change the file nor bring it back; a completion whose answer may have got lost only says so."""
    directives = begin(http, work / "file")["transferDirectives"]
    part, complete = directives["partsUploadUrls"][0], directives["completeUploadUrl"]
    etag = anybody.put(part, content=CONTENT).headers["ETag"]
    assert anybody.post(complete, content=completion(etag)).status_code == 200
    (work / "file").write_bytes(b"what its owner wrote later")
    assert anybody.put(part, content=CONTENT).status_code == 404
    assert anybody.post(complete, content=completion(etag)).status_code == 200
    assert (work / "file").read_bytes() == b"what its owner wrote later"
    (work / "file").unlink()
    assert anybody.post(complete, content=completion(etag)).status_code == 200
    assert not (work / "file").exists()


def test_a_document_type_in_another_encoding_is_seen(http: httpx.Client, anybody: httpx.Client, work: Path) -> None:
    """Entities could grow without end; a search for `<!` in the bytes would not find one in UTF-16."""
    directives = begin(http, work / "file")["transferDirectives"]
    etag = anybody.put(directives["partsUploadUrls"][0], content=CONTENT).headers["ETag"].strip('"')
    for encoding in ("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "cp037"):
        text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE r [<!ENTITY e "{etag}">]>'
        body = (text + completion("&e;").decode()).encode(encoding)
        answer = anybody.post(directives["completeUploadUrl"], content=body)
        assert (answer.status_code, "MalformedXML" in answer.text) == (400, True), encoding
    assert not (work / "file").exists()


@asynccontextmanager
async def two_hubs(folder: Path) -> AsyncIterator[list[Relayed]]:
    """One relay for two hubs that do not trust each other."""
    keys = {}
    for name in ("one", "two"):
        keys[name] = folder / f"{name}.key"
        keys[name].write_text(f"the key of hub {name}, long enough: 0123456789abcdef\n")
        keys[name].chmod(0o600)
    hubs = {name: HubConfig(key_file=str(file), ingress="127.0.0.1:0") for name, file in keys.items()}
    server = Server(RelayConfig(hubs=hubs), "127.0.0.1", 0)
    ready = asyncio.Event()
    server.on_ready = ready.set
    task = asyncio.create_task(server.serve(sockets=[]))
    await ready.wait()
    try:
        yield [Relayed(server, server.address[1], HubKey(file.read_bytes()), folder) for file in keys.values()]
    finally:
        server.should_exit = True
        await task


async def manage(relay: Relayed, method: str, identifier: str, token: str) -> int:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as http:
        return (await http.request(method, f"{relay.url}/sessions/{identifier}")).status_code


async def refused(relay: Relayed, token: str, job: str = "") -> int:
    with pytest.raises(RefusedError) as refusal:
        await connect(f"{relay.url}/agents", {"Authorization": f"Bearer {token}", "Crestline-Job-Id": job})
    return refusal.value.status


@pytest.mark.anyio
async def test_a_hub_neither_sees_nor_ends_what_another_has(tmp_path: Path) -> None:
    async with two_hubs(tmp_path) as (one, two):
        session, token = one.session()
        async with one.agent(token):
            stranger = two.key.manager_token()
            assert await manage(two, "GET", session.id, stranger) == 404
            assert await manage(two, "DELETE", session.id, stranger) == 204  # nothing of its own has that id
            assert await manage(one, "GET", session.id, one.key.manager_token()) == 200
            place = one.server.relay.hubs[0].sessions.find(session.id)
            assert place is not None
            assert place.mux is not None
            # The other hub's ingress leads to the other hub's sessions, whatever the path.
            reader, writer = await asyncio.open_connection("127.0.0.1", one.server.relay.hubs[1].ingress.port)
            writer.write(b"GET /user/alice/ HTTP/1.1\r\nHost: hub\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
            writer.close()


@pytest.mark.anyio
async def test_a_session_token_says_what_the_hub_said(relay: Relayed) -> None:
    """No other user, path, life or use, and no signature but the hub's."""
    session, token = relay.session("alice", "/user/alice/")
    head, claims, signature = token.split(".")
    _, bobs = relay.session("bob", "/user/bob/")
    thief = OctKey.import_key(b"a thief's key that is long enough, 0123456789")
    content = {
        "use": "agent", "jti": session.id, "sub": "bob", "path": "/user/bob/", "hub": session.hub_api,
        "iat": session.issued, "exp": session.expires,
    }  # fmt: skip
    for forged in (
        f"{head}.{bobs.split('.')[1]}.{signature}",
        f"{head}.{claims}.",
        f"eyJhbGciOiJub25lIn0.{claims}.",
        jwt.encode({"alg": "HS256"}, content, thief),
        jwt.encode({"alg": "HS512"}, content, thief, algorithms=["HS512"]),
        token[:-4],
        f"{token}.x",
        "." * 2000,
        "[" * 5000,
    ):
        assert await refused(relay, forged) == 401
    assert relay.server.relay.hubs[0].sessions.all() == []


@pytest.mark.anyio
async def test_a_session_that_is_over_does_not_come_back(relay: Relayed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token replayed - by the same job or another - takes nothing from the session that came after it."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    session, token = relay.session()
    async with relay.agent(token) as agent:
        assert await refused(relay, token, "18") == 409
        assert await manage(relay, "DELETE", session.id, relay.key.manager_token()) == 204
        with pytest.raises(SessionEndedError):
            await agent
    for job in ("17", "18", ""):
        assert await refused(relay, token, job) == 410
    later, fresh = relay.session()
    async with relay.agent(fresh, "later"):
        for job in ("17", "18", ""):
            assert await refused(relay, token, job) == 410
        place = relay.server.relay.hubs[0].sessions.for_request("/user/alice/")
        assert place is not None
        assert place.session.id == later.id
        assert place.mux is not None


@pytest.mark.anyio
async def test_an_agents_connection_carries_its_own_sessions_traffic_alone(relay: Relayed) -> None:
    """A client with Alice's token that names Bob's path in every header still reaches Alice's server."""
    _, alice = relay.session("alice", "/user/alice/")
    _, bob = relay.session("bob", "/user/bob/")
    async with relay.agent(bob, "b"):
        headers = {"Authorization": f"Bearer {alice}", "Crestline-Job-Id": "", "X-Forwarded-User": "bob"}
        headers |= {"X-Original-URI": "/user/bob/", "Crestline-Path": "/user/bob/"}
        socket = await connect(f"{relay.url}/agents?path=/user/bob/&sub=bob", headers)
        try:
            places = {place.session.path: place.session.user for place in relay.server.relay.hubs[0].sessions.all()}
            assert places == {"/user/alice/": "alice", "/user/bob/": "bob"}
        finally:
            socket.close()


@pytest.mark.anyio
async def test_an_expired_session_gets_no_more_requests(relay: Relayed) -> None:
    """Also one whose agent is still connected."""
    session, token = relay.session()
    agent = Agent(relay.config(token))
    task = asyncio.create_task(agent.run())
    await relay.connected(token)
    place = relay.server.relay.hubs[0].sessions.find(session.id)
    assert place is not None
    place.session = replace(place.session, expires=time.time() - 1)
    assert (await relay.get("/user/alice/")).startswith(b"HTTP/1.1 503")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
