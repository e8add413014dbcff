"""Connections of a stranger, to the gateway and to a relay of its own: endless heads, silence, and too many of them."""

from __future__ import annotations

import resource
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import anyio
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from crestline.model import ConfigError
from crestline.relay.config import RelayConfig
from crestline.relay.standalone import Server
from crestline.serving import ConnectionLimits
from crestline.serving.connections import Connections
from crestline.serving.limits import inherited_descriptor_limit
from harness.audit import audit_records
from harness.certificates import Authority
from harness.gateway import RunningGateway, in_thread
from harness.ports import free_port
from harness.relay import Relayed
from harness.waiting import until, until_blocking

LIMITS = {"head_timeout": 2.0, "body_timeout": 2.0, "max_connections": 40, "max_connections_per_address": 30}
PATIENCE = 30.0

pytestmark = pytest.mark.timeout(600)


@dataclass
class Served:
    """A server under attack, and a request that it answers."""

    port: int
    get: bytes
    post: bytes
    """the beginning of a request with a body"""
    trust: ssl.SSLContext | None = None

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = self.connect_plainly()
        if self.trust is not None:
            connection = self.trust.wrap_socket(connection, server_hostname="127.0.0.1")
        if data:
            connection.sendall(data)
        return connection

    def connect_plainly(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def is_answering(self) -> bool:
        with self.connect(self.get + b"\r\n") as connection:
            return status_of(connection) in (200, 401)


@contextmanager
def relay_in_thread(*certificate: str) -> Iterator[int]:
    server = Server(RelayConfig(), "127.0.0.1", 0, *certificate, limits=ConnectionLimits(**LIMITS))  # type: ignore[arg-type]
    ready = threading.Event()
    thread = threading.Thread(target=server.run_forever, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield server.address[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture(scope="module", params=["gateway", "relay", "relay with TLS"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    host = b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    path, certificate, trust = b"/relay/sessions/x", [], None
    with ExitStack() as stack:
        if request.param == "gateway":
            gateway = stack.enter_context(in_thread(folder / "home", limits=LIMITS))
            port, path = int(gateway.url.rpartition(":")[2]), b"/status/liveness"
        else:
            if request.param == "relay with TLS":
                authority = Authority(folder)
                authority.issue(folder / "certificate.pem", folder / "key.pem")
                certificate = [str(folder / "certificate.pem"), str(folder / "key.pem")]
                trust = ssl.create_default_context(cafile=str(authority.file))
            port = stack.enter_context(relay_in_thread(*certificate))
        yield Served(port, b"GET " + path + host, b"POST /oauth2/token" + host, trust)


def status_of(connection: socket.socket) -> int:
    """Of the next answer; 0 where the connection ends without one."""
    try:
        first = connection.makefile("rb").readline()
    except (ConnectionError, ssl.SSLError):
        return 0
    return int(first.split()[1]) if first else 0


def is_closed_by_peer(*connections: socket.socket) -> bool:
    """Whether the peer ends one of the connections."""
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(PATIENCE * 1000))


ENDLESS = {
    "URL": (b"GET /", b"a", 414),
    "header value": (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a", 431),
    "header name": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"a", 431),
    "headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n", 431),
    "empty lines": (b"", b"\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 300 + b"\r\n", b"", 431),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_endless_head_is_refused(served: Served, what: str) -> None:
    begin, more, status = ENDLESS[what]
    with served.connect(begin) as connection:
        with suppress(ConnectionError, ssl.SSLError):
            connection.sendall(more * (160 * 1024 // max(len(more), 1)))
        assert status_of(connection) == status
    assert served.is_answering()


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"1\r\na\r\n0\r\nX: ", b"a"), (b"1\r\na\r\n0\r\n", b"a: b\r\n"), (b"1;x=", b"a"), (b"", b"0")],
    ids=["trailer", "trailers", "extension of a chunk", "size of a chunk"],
)
def test_a_body_whose_framing_never_ends_is_refused(served: Served, begin: bytes, piece: bytes) -> None:
    """What is between the bytes of a body counts as a head does, wherever the request is answered."""
    with served.connect(served.post + b"Transfer-Encoding: chunked\r\n\r\n" + begin) as connection:
        with suppress(ConnectionError, ssl.SSLError):
            for _ in range(32):
                connection.sendall(piece * (256 * 1024 // len(piece)))
        assert status_of(connection) in (404, 431)


def test_a_body_that_goes_on_after_its_answer_is_not_read_on(served: Served) -> None:
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with served.connect(served.post + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        sent = 0
        with suppress(OSError):
            while sent < 512:
                connection.sendall(piece)
                sent += 1
    assert sent < 128
    assert served.is_answering()


@pytest.mark.parametrize("length", [b"Content-Length: 68157440", b"Transfer-Encoding: chunked"])
def test_an_answer_before_a_long_body_is_the_last(served: Served, length: bytes) -> None:
    """A client that keeps the connection would wait for what is not read any more."""
    with served.connect(served.post + length + b"\r\n\r\n") as connection:
        head = connection.recv(64 * 1024).lower()
        assert b"\r\nconnection: close\r\n" in head
        with suppress(OSError):
            connection.sendall(b"fffffff\r\n" + bytes(65 << 20))
        assert is_closed_by_peer(connection)


def test_trailers_are_not_headers(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home") as gateway, gateway.http() as http:
        file = gateway.home / "files" / "file"
        head = (
            f"PUT /filesystem/local/ops/content?path={file} HTTP/1.1\r\nHost: x\r\nUpload-Id: 1\r\n"
            f"Authorization: Bearer {http.auth.token}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nUpload-Complete: ?0\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
            connection.sendall(head.encode())
            assert status_of(connection) == 204
        assert file.read_bytes() == b"a"


def test_slow_bodies_make_way(tmp_path: Path) -> None:
    """Bodies that bring enough bytes not to be ended, from the address of a well-behaved client."""
    limits = {**LIMITS, "max_connections_per_address": 4, "body_timeout": 30.0}
    with in_thread(tmp_path / "home", limits=limits) as gateway, ExitStack() as stack:
        address = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        slow = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(4)]
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16000\r\n"
        for connection in slow:
            connection.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + form + b"\r\n")
        assert [status_of(connection) for connection in slow] == [100] * 4  # the gateway waits for the bodies
        answer, poll = 0, select.poll()
        for _ in range(60):  # none of the bodies is complete meanwhile
            for connection in slow:
                with suppress(ConnectionError):
                    connection.sendall(b"a" * 256)
            with socket.create_connection(address, timeout=PATIENCE) as good:
                with suppress(ConnectionError):
                    good.sendall(b"GET /status/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
                if (answer := status_of(good)) == 200:
                    break
            poll.poll(250)
        assert answer == 200


@pytest.mark.parametrize("query", ["/events", "?wait=30"])
def test_answers_that_wait_for_events_make_way(tmp_path: Path, query: str) -> None:
    """Event streams and long polls of one user, from the address of a well-behaved client."""
    with in_thread(tmp_path / "home", limits={**LIMITS, "max_connections_per_address": 6}) as gateway:
        with gateway.http() as http:
            known = http.get("/compute/local/jobs").headers["ETag"]
        address = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        head = f"Host: x\r\nAuthorization: Bearer {gateway.token()}\r\nIf-None-Match: {known}\r\n\r\n"
        with ExitStack() as stack:
            held = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(6)]
            for connection in held:
                connection.sendall(f"GET /compute/local/jobs{query} HTTP/1.1\r\n{head}".encode())
            if query == "/events":
                assert [status_of(connection) for connection in held] == [200] * 6
            answer = 0
            while answer != 200:  # the last requests may still be on their way
                with socket.create_connection(address, timeout=PATIENCE) as good, suppress(ConnectionError):
                    good.sendall(b"GET /status/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer = status_of(good)
                    assert answer in (0, 200, 503)
            assert is_closed_by_peer(*held)  # one of them, in the order in which they began to wait


def test_a_head_below_the_limit_is_read_in_any_pieces(served: Served) -> None:
    head = served.get + b"X: " + b"a" * 60_000 + b"\r\n\r\n"
    with served.connect() as connection:
        answers = connection.makefile("rb")
        for _ in range(3):  # one after the other on the same connection
            for start in range(0, len(head), 7_001):
                connection.sendall(head[start : start + 7_001])
            assert int(answers.readline().split()[1]) in (200, 401)
            fields = [line.lower().partition(b":") for line in iter(answers.readline, b"\r\n")]
            answers.read(next(int(value) for name, _, value in fields if name == b"content-length"))


def test_requests_that_come_at_once_are_limited(served: Served) -> None:
    with served.connect() as connection, suppress(ConnectionError, ssl.SSLError):
        connection.sendall((served.get + b"\r\n") * 2000)
        answered = connection.makefile("rb").read().count(b"HTTP/1.1 ")
        assert answered < 100


@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
def test_silence_ends_a_connection(served: Served, sent: str) -> None:
    begin = {
        "nothing": b"",
        "half a head": served.get[:-1],
        "half a body": served.post + b"Content-Length: 100\r\n\r\ngrant_type",
    }[sent]
    with served.connect(begin) as connection:
        assert is_closed_by_peer(connection)


def test_silence_before_anything_ends_a_connection(served: Served) -> None:
    with served.connect_plainly() as connection:  # with TLS, before the handshake
        assert is_closed_by_peer(connection)


@pytest.mark.parametrize("sent", ["head", "body", "body after its answer", "empty lines"])
def test_a_trickle_ends_a_connection(served: Served, sent: str) -> None:
    begin = {
        "head": b"GET /",
        "body": served.post + b"Content-Length: 100000\r\n\r\n",
        "body after its answer": served.get.replace(b"GET", b"DELETE") + b"Content-Length: 100000\r\n\r\n",
        "empty lines": served.get + b"\r\n",
    }[sent]
    drop = b"\n" if sent == "empty lines" else b"a"
    with served.connect(begin) as connection, suppress(ConnectionError, ssl.SSLError):
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        for _ in range(int(PATIENCE / 0.2)):
            connection.sendall(drop)
            if poll.poll(200):
                return
        pytest.fail("the connection was kept")


def test_connections_without_requests_make_way(served: Served) -> None:
    """More than there may be, from the same address as well-behaved clients."""
    with ExitStack() as stack:
        held = [stack.enter_context(served.connect_plainly()) for _ in range(120)]
        for number, connection in enumerate(held):
            with suppress(ConnectionError):
                if served.trust is None:
                    connection.sendall(served.get if number % 2 else served.post + b"Content-Length: 9\r\n\r\na")
            if number % 10 == 0:
                assert served.is_answering()
        assert served.is_answering()
        poll = select.poll()
        for connection in held:
            poll.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        ended = len(poll.poll(0))
        assert len(held) - ended <= LIMITS["max_connections_per_address"]


def test_an_answer_that_is_not_read_ends_a_connection(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home", limits={**LIMITS, "body_timeout": 2.0}) as gateway:
        large = tmp_path / "home" / "files" / "large"
        with large.open("wb") as file:
            file.truncate(256 * 1024 * 1024)
        request = (
            f"GET /filesystem/local/ops/content?path={large} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {gateway.token()}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as connection:
            connection.sendall(request.encode())
            assert is_closed_by_peer(connection)


@pytest.mark.anyio
async def test_messages_of_agents_have_a_limit(relay: Relayed) -> None:
    _, token = relay.session()
    headers = {"Authorization": f"Bearer {token}", "Crestline-Job-Id": "1"}
    async with connect(f"ws://127.0.0.1:{relay.port}/relay/agents", additional_headers=headers) as agent:
        with suppress(ConnectionClosed):
            await agent.send(b"\0" * (2 * 1024 * 1024))
        await agent.wait_closed()
    assert agent.close_code == 1009  # "message too big"


def test_the_listener_for_metrics_has_limits_too(tmp_path: Path) -> None:
    port = free_port()
    with in_thread(tmp_path / "home", metrics={"port": port}), ExitStack() as stack:
        address = ("127.0.0.1", port)
        held = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(200)]
        for connection in held:
            with suppress(ConnectionError):
                connection.sendall(b"GET /metrics HT")
        with socket.create_connection(address, timeout=PATIENCE) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status_of(connection) == 200
        assert all(is_closed_by_peer(connection) for connection in held)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_requests_under_way_keep_their_places(tmp_path: Path) -> None:
    limits = {**LIMITS, "max_connections": 20, "max_connections_per_address": 4, "body_timeout": PATIENCE}
    with in_thread(tmp_path / "home", limits=limits) as gateway:
        address = ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        large = tmp_path / "home" / "files" / "large"
        with large.open("wb") as file:
            file.truncate(256 * 1024 * 1024)
        download = (
            f"GET /filesystem/local/ops/content?path={large} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {gateway.token()}\r\n\r\n"
        ).encode()
        until_blocking(lambda: is_served(address))  # the connection that fetched the token is closed
        with ExitStack() as stack:
            downloads = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(4)]
            for each in downloads:
                each.sendall(download)
                assert status_of(each) == 200
            with socket.create_connection(address, timeout=PATIENCE) as one_more:
                assert status_of(one_more) == 503
            # From elsewhere there are places left.
            assert is_served(address, source="127.0.0.2")
            poll = select.poll()
            for each in downloads:
                poll.register(each, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
            assert not poll.poll(0)
        until_blocking(lambda: is_served(address))


def is_served(address: tuple[str, int], source: str = "127.0.0.1") -> bool:
    """Whether an address has a place left."""
    with (
        socket.create_connection(address, timeout=PATIENCE, source_address=(source, 0)) as connection,
        suppress(ConnectionError),
    ):
        connection.sendall(b"GET /status/liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return status_of(connection) == 200 and is_closed_by_peer(connection)
    return False


def test_connections_of_one_network_count_together() -> None:
    limits = ConnectionLimits(max_connections=10, max_connections_per_address=2).resolve(1000)
    table = Connections(limits, (ip_network("10.0.0.0/8"),))

    def take(address: str) -> bool:
        slot = table.admit(address)
        if slot is not None:
            slot.set_waiting(False)
        return slot is not None

    assert [take(f"2001:db8::{each:x}") for each in range(1, 4)] == [True, True, False]
    assert take("2001:db8:0:1::1")
    assert [take("::ffff:192.0.2.1"), take("192.0.2.1"), take("192.0.2.1")] == [True, True, False]
    assert [take("10.1.2.3") for _ in range(6)] == [True] * 5 + [False]  # the rest of the ten in all
    assert table.count == 10


def test_descriptors_are_raised_and_a_part_of_them_is_reserved() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))\n"
        "from crestline.serving import ConnectionLimits\n"
        "from crestline.serving.limits import raise_descriptor_limit, inherited_descriptor_limit\n"
        "limits = ConnectionLimits(max_connections=100000).resolve(raise_descriptor_limit())\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE), limits.max_connections,"
        " limits.max_connections_per_address, inherited_descriptor_limit())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1024", "1024", "512", "256", "256"]


@pytest.mark.parametrize(("trusted", "seen"), [([], "127.0.0.1"), (["127.0.0.0/8"], "192.0.2.7")])
def test_forwarded_addresses_are_believed_from_trusted_proxies_alone(
    tmp_path: Path, trusted: list[str], seen: str
) -> None:
    with in_thread(tmp_path / "home", trusted_proxies=trusted) as gateway, gateway.http() as http:
        forged = {"X-Forwarded-For": "203.0.113.1, 192.0.2.7", "X-Forwarded-Proto": "https"}
        answer = http.post("/keys", json={"name": "a key"}, headers=forged)
        assert answer.status_code == 201
        records = [each for each in audit_records(gateway) if each.action == "POST /keys"]
    assert [each.address for each in records] == [seen]


def test_trusted_proxies_are_addresses() -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        Server(RelayConfig(), "127.0.0.1", 0, trusted_proxies=["proxy.example.org"])


def state_of(http: httpx.Client, job_id: str) -> str:
    return str(http.get(f"/compute/local/jobs/{job_id}").json()["jobs"][0]["status"]["state"])


def test_programs_keep_the_usual_limit_of_descriptors(gateway: RunningGateway) -> None:
    script = "#!/bin/sh\nulimit -S -n\n"
    with gateway.http() as http:
        job = {"script": script, "workingDirectory": str(gateway.home / "files"), "standardOutput": "limit.txt"}
        job_id = http.post("/compute/local/jobs", json={"job": job}).json()["jobId"]
        anyio.run(until, lambda: state_of(http, job_id) == "COMPLETED")
    usual = inherited_descriptor_limit() or resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert int((gateway.home / "files" / "limit.txt").read_text()) == usual
