"""Requests through a real relay and a real agent, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path

import httpx
import pytest

from crestline.relay.agent import Agent, SessionEndedError
from crestline.relay.tokens import HubKey
from crestline.relay.websocket import RefusedError
from harness.relay import Handler, Relayed, read_request, serving
from harness.waiting import until

pytestmark = pytest.mark.anyio


def answering(body: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nX-Path: {head.target}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return handler


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes an upgrade and sends back what comes."""
    head = await read_request(reader)
    assert head.headers["upgrade"] == "websocket"
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_request_reaches_the_job_and_its_answer_comes_back_whole(relay: Relayed) -> None:
    body = os.urandom(5_000_000)
    _, token = relay.session()
    async with relay.job(answering(body)), relay.agent(token):
        answer = await relay.get("/user/alice/api?x=1")
    head, _, received = answer.partition(b"\r\n\r\n")
    assert b"X-Path: /user/alice/api?x=1" in head
    assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()


async def test_answer_says_that_its_connection_closes(relay: Relayed) -> None:
    """Whatever the server said, and after an interim answer: else a proxy would use the connection once more."""

    async def careless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody"
        )
        writer.close()

    _, token = relay.session()
    async with relay.job(careless), relay.agent(token):
        answer = await relay.get("/user/alice/")
    expected = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    assert answer == expected


async def test_upgraded_connection_carries_bytes_both_ways(relay: Relayed) -> None:
    _, token = relay.session()
    async with relay.job(echo), relay.agent(token):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress)
        writer.write(b"GET /user/alice/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for size in (1, 70_000, 3_000_000):
            data = os.urandom(size)
            sending = asyncio.create_task(_send(writer, data))
            assert await reader.readexactly(size) == data
            await sending
        writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_a_stalled_reader_delays_no_other_stream(relay: Relayed) -> None:
    _, token = relay.session()

    async def endless_or_short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if head.target.endswith("/short"):
            writer.write(b"here")
            writer.close()
            return
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except OSError:
            writer.close()

    async with relay.job(endless_or_short), relay.agent(token):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress, limit=1024)
        writer.write(b"GET /user/alice/endless HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # and nothing more is read of it
        for _ in range(20):
            assert b"here" in await relay.get("/user/alice/short")
        writer.transport.abort()


async def test_hundreds_of_requests_at_once_reach_a_server_that_takes_few(relay: Relayed) -> None:
    _, token = relay.session()
    async with relay.job(answering(b"x" * 10_000), backlog=4), relay.agent(token):
        answers = await asyncio.gather(*(relay.get(f"/user/alice/{number}") for number in range(300)))
    assert all(f"X-Path: /user/alice/{number}\r\n".encode() in answer for number, answer in enumerate(answers))
    assert all(answer.endswith(b"x" * 10_000) for answer in answers)


async def test_streams_that_are_over_leave_nothing_behind(relay: Relayed) -> None:
    session, token = relay.session()
    async with relay.job(answering(b"x")), relay.agent(token):
        for number in range(50):
            await relay.get(f"/user/alice/{number}")
        place = relay.server.relay.hubs[0].sessions.find(session.id)
        assert place is not None
        assert place.mux is not None
        await until(lambda: place.mux is not None and not place.mux._streams)


async def test_connection_that_broke_comes_back_and_requests_wait_for_it(
    relay: Relayed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="crestline.relay")
    session, token = relay.session()
    async with relay.job(answering(b"here")), relay.agent(token):
        place = relay.server.relay.hubs[0].sessions.find(session.id)
        assert place is not None
        assert place.mux is not None
        relay.server.relay.hubs[0].sessions.detach(place, place.mux)
        assert (await relay.get("/user/alice/")).endswith(b"here")
    logged = [" ".join(record.getMessage().split()[:7]) for record in caplog.records]
    assert logged.count("relay: agent of alice at /user/alice/ connected") == 2
    assert "relay: agent of alice at /user/alice/ gone" in logged


async def test_relay_that_is_restarted_gets_its_jobs_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as first:
        _, token = first.session()
        task = asyncio.create_task(Agent(first.config(token)).run())
        await first.connected(token)
    async with serving(tmp_path, first.port) as second, second.job(answering(b"here")):
        await second.connected(token)
        assert (await second.get("/user/alice/")).endswith(b"here")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_users_reach_their_own_job_alone(relay: Relayed) -> None:
    _, alice = relay.session("alice", "/user/alice/")
    _, bob = relay.session("bob", "/user/bob/")
    _, gpu = relay.session("alice", "/user/alice/gpu/")
    async with (
        relay.job(answering(b"alice"), "a"),
        relay.job(answering(b"bob"), "b"),
        relay.job(answering(b"gpu"), "g"),
        relay.agent(alice, "a"),
        relay.agent(bob, "b"),
        relay.agent(gpu, "g"),
    ):
        assert (await relay.get("/user/alice/lab")).endswith(b"alice")
        assert (await relay.get("/user/alice/gpu/lab")).endswith(b"gpu")
        assert (await relay.get("/user/alice/gpus")).endswith(b"alice")
        assert (await relay.get("/user/b%6Fb/lab")).endswith(b"bob")
        for path in ("/user/carol/", "/user/", "/", "/user/bobby/", "/user%2Fbob/lab"):
            assert (await relay.get(path)).startswith(b"HTTP/1.1 503")


async def test_second_request_on_a_connection_goes_nowhere_else(relay: Relayed) -> None:
    """A connection belongs to the session of its first request; the server is told to close after it."""
    _, alice = relay.session("alice", "/user/alice/")
    _, bob = relay.session("bob", "/user/bob/")
    async with (
        relay.job(answering(b"alice"), "a"),
        relay.job(answering(b"bob"), "b"),
        relay.agent(alice, "a"),
        relay.agent(bob, "b"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress)
        request = "GET /user/{}/ HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
        writer.write((request.format("alice") + request.format("bob")).encode())
        assert b"bob" not in (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()


@pytest.mark.parametrize(
    "request_", [b"hello\r\n\r\n", b"GET http://x/ HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
async def test_what_is_not_http_is_refused(relay: Relayed, request_: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.ingress)
    writer.write(request_)
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()


async def _refused(relay: Relayed, token: str, job: str = "") -> int:
    from crestline.relay.websocket import connect

    with pytest.raises(RefusedError) as refusal:
        await connect(f"{relay.url}/agents", {"Authorization": f"Bearer {token}", "Crestline-Job-Id": job})
    return refusal.value.status


async def test_agents_without_a_good_token_are_refused(relay: Relayed) -> None:
    _, foreign = HubKey(b"another key that is long enough, 0123456789").new_session(
        user="alice", path="/user/alice/", hub_api="http://127.0.0.1:9/hub/api", lifetime=60
    )
    _, expired = relay.key.new_session(user="alice", path="/user/alice/", hub_api="http://x/hub/api", lifetime=-1)
    for token in ("", "nonsense", foreign, expired, relay.key.manager_token()):
        assert await _refused(relay, token) == 401


async def test_session_belongs_to_the_job_that_came_first(relay: Relayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    session, token = relay.session()
    async with relay.agent(token):
        assert await _refused(relay, token, "18") == 409
        answer = await _manage(relay, "GET", session.id)
    assert answer.json()["job"] == "17"


async def test_later_session_takes_the_path_and_the_earlier_agent_gives_up(relay: Relayed) -> None:
    _, earlier = relay.session()
    _, later = relay.session()
    async with relay.agent(earlier, "a") as agent, relay.job(answering(b"later"), "b"), relay.agent(later, "b"):
        with pytest.raises(SessionEndedError):
            await agent
        assert (await relay.get("/user/alice/")).endswith(b"later")


async def _manage(relay: Relayed, method: str, identifier: str, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or relay.key.manager_token()}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
        return await http.request(method, f"{relay.url}/sessions/{identifier}")


async def test_hub_asks_about_a_session_and_ends_it(relay: Relayed) -> None:
    session, token = relay.session()
    assert (await _manage(relay, "GET", session.id)).status_code == 404
    async with relay.agent(token) as agent:
        assert (await _manage(relay, "GET", session.id)).json() == {"connected": True, "job": "", "streams": 0}
        assert (await _manage(relay, "DELETE", session.id)).status_code == 204
        with pytest.raises(SessionEndedError):
            await agent
    assert await _refused(relay, token) == 410


async def test_sessions_tell_nothing_to_strangers(relay: Relayed) -> None:
    session, token = relay.session()
    assert (await _manage(relay, "GET", session.id, token)).status_code == 401
    assert (await _manage(relay, "DELETE", session.id, "x")).status_code == 401


async def test_job_reaches_the_hubs_api_and_nothing_else(relay: Relayed, tmp_path: Path) -> None:
    hub = await asyncio.start_server(answering(b"the hub"), "127.0.0.1", 0)
    port = hub.sockets[0].getsockname()[1]
    _, token = relay.session(hub_api=f"http://127.0.0.1:{port}/hub/api")
    async with relay.agent(token):
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "job.hub"))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as http:
            for path in ("", "/", "/users"):
                answer = await http.get("/hub/api" + path)
                assert (answer.status_code, answer.text) == (200, "the hub")
            for path in ("/hub/home", "/", "/hub/api/../home", "/hub/apis"):
                assert (await http.get(path)).status_code == 403
    hub.close()


async def test_hub_that_does_not_answer_is_a_502(relay: Relayed, tmp_path: Path) -> None:
    _, token = relay.session()
    async with relay.agent(token):
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "job.hub"))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as http:
            assert (await http.get("/hub/api/")).status_code == 502


async def test_server_that_does_not_listen_yet_is_a_503(relay: Relayed) -> None:
    _, token = relay.session()
    async with relay.agent(token):
        assert (await relay.get("/user/alice/")).startswith(b"HTTP/1.1 503")
