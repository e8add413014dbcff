"""A hostile job at the relay: what it sends to the hub, and what it answers to the hub's proxy, is parsed and written
anew, one request and one answer per connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crestline.relay.http_exchange import MAX_HEAD
from crestline.relay.hub_proxy import MAX_BODY, leads_below
from harness.relay import Relayed, Request, read_request, relay

__all__ = ["relay"]
pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nthe hub"


class Listener:
    """Stands for the hub (or a server in a job): takes down every byte that comes, and answers each connection once."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.rest = b""
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await read_request(reader))
        writer.write(ANSWER)
        self.rest += await reader.read()
        self.over.set()
        writer.close()


@asynccontextmanager
async def job_and_hub(relay: Relayed) -> AsyncIterator[tuple[Listener, Callable[[bytes], object]]]:
    """A hub, and how a job sends it bytes."""
    hub = Listener()
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, token = relay.session(hub_api=f"http://127.0.0.1:{port}/hub/api")

    async def send(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(relay.folder / "job.hub"))
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    async with relay.agent(token):
        yield hub, send
    server.close()


def request(*headers: str, method: str = "GET", target: str = "/hub/api/users", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode() + body


SECOND = b"POST /hub/api/users/mallory HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"

HIDING = {
    "an upgrade": request("Upgrade: x", body=SECOND),
    "an upgrade of the connection": request("Upgrade: x", "Connection: Upgrade", body=SECOND),
    "a websocket": request("Upgrade: websocket", "Connection: Upgrade", body=SECOND),
    "nothing": request(body=SECOND),
    "keep-alive": request("Connection: keep-alive", body=SECOND),
    "a body that ends": request("Content-Length: 3", method="POST", body=b"abc" + SECOND),
    "chunks that end": request("Transfer-Encoding: chunked", method="POST", body=b"3\r\nabc\r\n0\r\n\r\n" + SECOND),
    "both lengths": request(
        "Content-Length: 500", "Transfer-Encoding: chunked", method="POST", body=b"0\r\n\r\n" + SECOND
    ),
    "a bare LF": request("X: 1\nUpgrade: x\nContent-Length: 0", body=SECOND),
    "a folded line": request("X: 1\r\n Upgrade: x", body=SECOND),
    "a folded coding": request(
        "Transfer-Encoding:\r\n chunked", "Content-Length: 200", method="POST", body=b"0\r\n\r\n" + SECOND
    ),
    "chunk extensions": request(
        "Transfer-Encoding: chunked", method="POST", body=b'3;a="\r\nabc\r\n0;b\r\n\r\n' + SECOND
    ),
    "trailers": request(
        "Transfer-Encoding: chunked",
        "Trailer: Upgrade",
        method="POST",
        body=b"3\r\nabc\r\n0\r\nUpgrade: x\r\nHost: h\r\nContent-Length: 99\r\n\r\n" + SECOND,
    ),
    "the coding first": request(
        "Transfer-Encoding: chunked", "Content-Length: 0", method="POST", body=b"0\r\n\r\n" + SECOND
    ),
    "a length named by the connection": request(
        "Connection: content-length, host", "Content-Length: 3", method="POST", body=b"abc" + SECOND
    ),
    "one length twice": request("Content-Length: 3, 3", "Content-Length: 3", method="POST", body=b"abc" + SECOND),
    "HTTP/1.0 that stays": b"GET /hub/api/users HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + SECOND,
    "an expectation": request("Expect: 100-continue", "Content-Length: 3", method="POST", body=b"abc" + SECOND),
    "HTTP/2": request(
        "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings", body=SECOND
    ),
}

PROXIES = ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "X-Scheme", "X-Original-URL"]
PROXIES += ["X-Rewrite-URL", "X-HTTP-Method-Override", "x_forwarded_for", "Content_Length", "X-Client-IP"]


async def test_job_does_not_speak_as_a_proxy_to_the_hub(relay: Relayed) -> None:
    async with job_and_hub(relay) as (hub, send):
        await send(request(*(f"{name}: 127.0.0.1" for name in PROXIES), "Authorization: token x"))  # type: ignore[misc]
        (seen,) = hub.requests
    assert seen.headers.keys() == {"host", "authorization", "connection"}


@pytest.mark.parametrize("how", HIDING)
async def test_second_request_of_a_stream_never_reaches_the_hub(how: str, relay: Relayed) -> None:
    async with job_and_hub(relay) as (hub, send):
        assert b"the hub" in await send(HIDING[how])  # type: ignore[misc]
        await hub.over.wait()
        (seen,) = hub.requests
        assert seen.headers["connection"] == "close"
        assert "upgrade" not in seen.headers
        assert seen.headers["host"] != "h"
        assert seen.raw.count(b"\n") == seen.raw.count(b"\r\n")
        assert b"mallory" not in seen.raw + hub.rest


REFUSED = {
    "length twice": (400, request("Content-Length: 0", "Content-Length: 9", method="POST", body=SECOND)),
    "a control character": (400, request("X: a\x00b")),
    "a lone CR": (400, request("X: a\rb")),
    "a space before the colon": (400, request("Content-Length : 5", method="POST")),
    "another coding": (501, request("Transfer-Encoding: gzip, chunked", method="POST")),
    "another host": (400, request(target="http://elsewhere/hub/api")),
    "a tunnel": (400, request(method="CONNECT", target="elsewhere:80")),
    "no HTTP": (400, b"hello\r\n\r\n"),
    "the hub's own URL": (400, request(target="http://h/hub/api/users")),
    "no path": (400, request(target="*", method="OPTIONS")),
    "another scheme": (400, request(target="file:///hub/api")),
    "two hosts": (400, request("Host: elsewhere")),
    "a NUL in the path": (400, request(target="/hub/api/users\0/x")),
    "a tab for a space": (400, b"GET\t/hub/api/users\tHTTP/1.1\r\nHost: h\r\n\r\n"),
    "a head of CR alone": (400, b"GET /hub/api/users HTTP/1.1\rHost: h\r\r\n\r\n"),
    "a folded first line": (400, b"GET /hub/api/users HTTP/1.1\r\n Host: h\r\n\r\n"),
    "a sign in a length": (400, request("Content-Length: +3", method="POST", body=b"abc")),
    "a list of lengths": (400, request("Content-Length: 3, 4", method="POST", body=b"abc")),
    "codings twice": (501, request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", method="POST")),
    "a coding that looks like it": (400, request("Transfer-Encoding: \x0bchunked", method="POST")),
    "a coding behind it": (501, request("Transfer-Encoding: chunked, identity", method="POST")),
    "many headers": (431, request(*("a: b" for _ in range(20_000)))),
    "a head without end": (431, request("X: " + "a" * 2 * MAX_HEAD)),
    "a long body": (413, request(f"Content-Length: {2 * MAX_BODY}", method="POST", body=bytes(2 * MAX_BODY))),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_not_one_plain_request_is_refused(what: str, relay: Relayed) -> None:
    status, data = REFUSED[what]
    async with job_and_hub(relay) as (hub, send):
        assert (await send(data)).startswith(f"HTTP/1.1 {status} ".encode())  # type: ignore[misc]
        assert not hub.requests


ESCAPES = [
    "/hub/api/../home",
    "/hub/api/%2e%2e/home",
    "/hub/api/%2E./home",
    "/hub/api/.%2e/home",
    "/hub/api/%252e%252e/home",
    "/hub/api/%25252e%25252e/home",
    "/hub/api/..%2fhome",
    "/hub/api/%2e%2e%2fhome",
    "/hub/api/..;/home",
    "/hub/api/..%5chome",
    "/hub/api/users/%2e%2e/%2e%2e/home?next=/",
    "/hub/api" + "/%25" * 9 + "252525252525",
    "/hub/apis",
    "/hub",
    "//hub/api/users",
    "/hub%2fapi/users",
    "/hub/api/..%00/home",
    "/hub/api/%c0%ae%c0%ae/home",
    "/hub/api/%c0%ae%c0%ae%c0%afhome",
    "/hub/api/..%3f/home",
    "/hub/api/..%23/home",
    "/hub/api/..#/home",
    "/hub/api/..%20/home",
    "/hub/api/..%09/home",
    "/hub/api/users%00",
    "/hub/api/users%0d%0aX:%20y",
    "/hub/api/./../home",
    "/hub/api/;/../home",
    "/hub/api/a/..%2f..%2fhome",
    "/hub\\api\\..\\home",
    "/hub/api\\..\\home",
]


@pytest.mark.parametrize("target", ESCAPES)
async def test_path_that_leaves_the_hubs_api_is_refused(target: str, relay: Relayed) -> None:
    async with job_and_hub(relay) as (hub, send):
        assert (await send(request(target=target))).startswith(b"HTTP/1.1 403 ")  # type: ignore[misc]
        assert not hub.requests


def test_paths_of_the_hubs_api_are_let_through() -> None:
    for path in ("", "/", "/users", "/users/a%20b", "/users/d%C3%BCsentrieb/servers/g.p", "/users/50%25", "/users/..a"):
        assert leads_below("/hub/api" + path, "/hub/api")
        assert leads_below("/@/space%20word/hub/api" + path, "/@/space%20word/hub/api/")


async def test_answers_of_a_job_are_one_for_each_request(relay: Relayed) -> None:
    """The hub's proxy may use a connection once more: an answer that waits there would be read by another user."""

    async def poisoning(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nok")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await reader.read()
        writer.close()

    _, token = relay.session()
    async with relay.job(poisoning), relay.agent(token):
        answer = await relay.get("/user/alice/")
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.mark.parametrize(
    "headers", [["Upgrade: x"], ["Upgrade: x", "Connection: Upgrade"], ["Upgrade: websocket", "Connection: Upgrade"]]
)
async def test_upgrade_that_is_not_granted_binds_no_connection(headers: list[str], relay: Relayed) -> None:
    alice = Listener()
    _, token = relay.session()
    async with relay.job(alice.serve), relay.agent(token):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress)
        secret = b"GET /user/bob/ HTTP/1.1\r\nHost: h\r\nCookie: bobs-secret\r\n\r\n"
        writer.write(request(*headers, target="/user/alice/") + secret)
        answer = await reader.read()
        writer.close()
        await alice.over.wait()
    assert b"Connection: close" in answer
    assert answer.endswith(b"the hub")
    assert len(alice.requests) == 1
    assert b"bobs-secret" not in alice.requests[0].raw + alice.rest


async def test_server_that_switches_unasked_is_not_believed(relay: Relayed) -> None:
    async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nevil")
        await reader.read()
        writer.close()

    _, token = relay.session()
    async with relay.job(switching), relay.agent(token):
        answer = await relay.get("/user/alice/")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"evil" not in answer


async def test_answer_that_is_cut_off_is_not_passed_as_whole(relay: Relayed, tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhere\r\n")
        writer.close()

    _, token = relay.session()
    async with relay.job(cut), relay.agent(token):
        answer = await relay.get("/user/alice/")
    assert b"here" in answer
    assert not answer.endswith(b"0\r\n\r\n")
