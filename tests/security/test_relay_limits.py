"""What one user opens at the relay and holds leaves room for the others."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from crestline.relay import ingress as ingress_module
from crestline.relay.frames import OPEN, RESET, frame, parse
from crestline.relay.http_exchange import SocketPeer
from crestline.relay.hub_proxy import MAX_PER_SESSION, MAX_PER_USER
from crestline.relay.ingress import Ingress
from crestline.relay.mux import MAX_UNREAD
from crestline.relay.sessions import Sessions
from crestline.relay.stream_limits import FEW, LimitReachedError, StreamLimits, descriptor_share
from crestline.relay.tokens import Session
from crestline.relay.websocket import WebSocket, connect
from harness.certificates import Authority
from harness.relay import Relayed, read_request, relay, serving
from harness.waiting import until

__all__ = ["relay"]
pytestmark = pytest.mark.anyio


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await writer.drain()
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@asynccontextmanager
async def hostile_agent(relay: Relayed, token: str) -> AsyncIterator[WebSocket]:
    socket = await connect(f"{relay.url}/agents", {"Authorization": f"Bearer {token}"})
    try:
        yield socket
    finally:
        socket.close()


async def test_agent_that_opens_many_streams_holds_few(relay: Relayed) -> None:
    """1,024 streams, of which none ever sends a request; another user's calls go on meanwhile."""
    hub = await asyncio.start_server(answering, "127.0.0.1", 0)
    hub_api = f"http://127.0.0.1:{hub.sockets[0].getsockname()[1]}/hub/api"
    _, mallory = relay.session("mallory", "/user/mallory/", hub_api)
    _, alice = relay.session("alice", "/user/alice/", hub_api)
    limits = relay.server.relay.hubs[0].hub_calls
    async with hostile_agent(relay, mallory) as socket, relay.agent(alice):
        for number in range(1, 2049, 2):
            await socket.send(frame(OPEN, number, b"hub"))
        refused: set[int] = set()
        while len(refused) < 1024 - MAX_PER_SESSION:
            kind, number, _ = parse(await socket.receive() or b"")
            assert kind == RESET
            refused.add(number)
        assert limits.open == MAX_PER_SESSION
        for _ in range(20):
            reader, writer = await asyncio.open_unix_connection(str(relay.folder / "job.hub"))
            writer.write(b"GET /hub/api/ HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
    await until(lambda: limits.open == 0)  # the agent has gone, and what it held
    hub.close()


async def test_session_that_has_too_many_requests_open_leaves_room_for_others(tmp_path: Path) -> None:
    async with serving(tmp_path, max_streams_per_session=8) as relay:
        _, alice = relay.session("alice", "/user/alice/")
        _, bob = relay.session("bob", "/user/bob/")
        async with (
            relay.job(silent, "a"),
            relay.job(answering, "b"),
            relay.agent(alice, "a"),
            relay.agent(bob, "b"),
        ):
            held = [asyncio.ensure_future(relay.get(f"/user/alice/{number}")) for number in range(40)]
            await until(lambda: sum(each.done() for each in held) == 32)
            assert all(each.result().startswith(b"HTTP/1.1 503") for each in held if each.done())
            for _ in range(20):
                assert (await relay.get("/user/bob/")).endswith(b"ok")
            for each in held:
                each.cancel()
            await asyncio.gather(*held, return_exceptions=True)


async def test_what_neither_side_continues_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, idle_timeout=0.3) as relay:
        _, token = relay.session()
        async with relay.job(silent), relay.agent(token):
            answers = await asyncio.gather(*(relay.get("/user/alice/") for _ in range(10)))
            assert all(answer.startswith(b"HTTP/1.1 504") for answer in answers)
            place = relay.server.relay.hubs[0].sessions.all()[0]
            await until(lambda: place.mux is not None and not place.mux._streams)


async def test_websocket_that_stays_silent_is_closed(tmp_path: Path) -> None:
    async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await reader.read()
        writer.close()

    async with serving(tmp_path, idle_timeout=0.3) as relay:
        _, token = relay.session()
        async with relay.job(switching), relay.agent(token):
            answer = await relay.get("/user/alice/", "Connection: Upgrade", "Upgrade: websocket")
            assert answer.startswith(b"HTTP/1.1 101 ")


async def test_client_that_leaves_frees_its_stream(relay: Relayed) -> None:
    _, token = relay.session()
    async with relay.job(silent), relay.agent(token):
        place = relay.server.relay.hubs[0].sessions.all()[0]
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", relay.ingress)
            writer.write(b"GET /user/alice/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await writer.drain()
            writer.close()
        await until(lambda: place.streams == 20 and place.mux is not None and not place.mux._streams)


async def test_unread_bytes_are_bounded(relay: Relayed) -> None:
    """A hundred downloads that stand still would hold 1 MiB each."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        writer.close()

    _, token = relay.session()
    most = 0
    async with relay.job(endless), relay.agent(token):
        place = relay.server.relay.hubs[0].sessions.all()[0]
        writers = []
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress, limit=1024)
            writers.append(writer)
            writer.write(b"GET /user/alice/endless HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert place.mux is not None
            most = max(most, place.mux.unread)
        await until(lambda: place.mux is not None and len(place.mux._streams) <= MAX_UNREAD >> 19)
        assert most <= MAX_UNREAD + (1 << 20)
        for writer in writers:
            writer.transport.abort()
        await until(lambda: place.mux is not None and not place.mux._streams)
        assert place.mux is not None
        assert place.mux.unread == 0


def session(user: str, identifier: str = "") -> Session:
    return Session(identifier or user, user, f"/user/{user}/", "http://hub/hub/api", 0, 1)


def test_users_with_few_streams_have_a_reserve() -> None:
    limits = StreamLimits(per_session=1000, per_user=1000, total=400)
    held = []

    def take(user: str) -> bool:
        stream = limits.stream(session(user))
        try:
            stream.__enter__()
        except LimitReachedError:
            return False
        held.append(stream)
        return True

    assert sum(take("mallory") for _ in range(500)) == 300
    assert all(take(f"user-{number}") for number in range(100 // FEW) for _ in range(FEW))
    for stream in held:
        stream.__exit__(None, None, None)
    assert limits.open == 0


def test_user_with_many_sessions_has_one_share() -> None:
    limits = StreamLimits(per_session=MAX_PER_SESSION, per_user=MAX_PER_USER, total=10_000)
    held = [limits.stream(session("mallory", str(number))) for number in range(100)]
    taken = 0
    for stream in held:
        with suppress(LimitReachedError):
            stream.__enter__()
            taken += 1
    assert taken == limits.open == MAX_PER_USER


def test_hubs_share_half_of_the_descriptors() -> None:
    assert descriptor_share(1) >= 2 * descriptor_share(2) > 0


@pytest.mark.parametrize("tls", [False, True])
async def test_connections_that_send_nothing_are_limited_from_before_tls(tmp_path: Path, tls: bool) -> None:
    """A stranger at the hub's way in, who never begins TLS; places come free as soon as the connections end."""
    authority, trust, context = Authority(tmp_path), None, None
    if tls:
        authority.issue(tmp_path / "certificate", tmp_path / "key")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
        trust = ssl.create_default_context(cafile=authority.file)
    ingress = Ingress(
        Sessions(), "127.0.0.1:0", limits=StreamLimits(1, 1, 10), max_heads=8, idle_timeout=30, tls=context
    )

    async def ask() -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port, ssl=trust)
            writer.write(b"GET /user/nobody/ HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
            writer.close()
        except OSError:
            return b""
        return answer[9:12]

    await ingress.start()
    try:
        assert await ask() == b"503"
        idle = [await asyncio.open_connection("127.0.0.1", ingress.port) for _ in range(40)]
        for reader, _ in idle[8:]:
            assert await reader.read() == b""  # closed at once
        assert await ask() == b""
        for _, writer in idle:
            writer.close()
        for _ in range(1000):
            if await ask() == b"503":
                break
        assert [await ask() for _ in range(5)] == [b"503"] * 5
    finally:
        await ingress.stop()


async def test_answers_of_several_parts_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TCP_NODELAY, the second part waits 40 ms for the acknowledgement of the first."""
    found: list[int] = []

    async def look(client: SocketPeer) -> None:
        connection = client._writer.get_extra_info("socket")
        found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(ingress_module, "_head", look)
    ingress = Ingress(Sessions(), "127.0.0.1:0", limits=StreamLimits(1, 1, 10), max_heads=8, idle_timeout=30)
    await ingress.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        assert await reader.read() == b""
        writer.close()
    finally:
        await ingress.stop()
    assert found == [1]
