"""What a hostile gateway or issuer answers takes neither memory nor time without end from a client."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline import bounded
from crestline.client import Policy, RetryPolicy, Site, System, connect
from crestline.client.auth import token_endpoint
from crestline.client.backends.answers import MAX_RETRY_AFTER, retry_after
from crestline.client.backends.firecrest.errors import error_from_response
from crestline.fsspec import FirecRESTFileSystem, filesystem
from crestline.model import CrestlineError, MaintenanceError

pytestmark = pytest.mark.anyio

MIB = 1 << 20
LIMIT = 4 * MIB
SYSTEM = {"systems": [{"name": "s", "scheduler": {"type": "slurm", "version": "1"}, "fileSystems": []}]}
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_ANSWER", LIMIT)
    monkeypatch.setattr(bounded, "MAX_VALUES", 50_000)


class Long(httpx.AsyncByteStream, httpx.SyncByteStream):
    """The body of an answer, much longer than any limit; counts what is taken of it."""

    def __init__(self, pieces: Iterator[bytes] | None = None) -> None:
        self._pieces = pieces or itertools.repeat(bytes(MIB), 64)
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def answer(stream: httpx.AsyncByteStream | bytes, status: int = 200, **headers: str) -> Answer:
    stream = httpx.ByteStream(stream) if isinstance(stream, bytes) else stream
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, headers=named, stream=stream)


def system_of(reply: Answer, features: str = "") -> System:
    """A system whose gateway introduces itself well, and then gives the same answer to everything."""
    introduction = answer(json.dumps(SYSTEM).encode(), Crestline_Features=features)

    def choose(request: httpx.Request) -> httpx.Response:
        return (introduction if request.url.path.endswith("/status/systems") else reply)(request)

    site = Site(url="https://gateway.example", token="t", system="s", verify=False)
    policy = Policy(retry=RetryPolicy(attempts=0))
    return connect(site, policy=policy, transport=httpx.MockTransport(choose))


CALLS: dict[str, Callable[[System], Awaitable[Any]]] = {
    "jobs": lambda system: system.jobs(),
    "job": lambda system: system.job("1"),
    "ls": lambda system: system.ls("/a"),
    "stat": lambda system: system.stat("/a"),
    "read": lambda system: system.read_bytes("/a"),
    "cancel": lambda system: system.cancel("1"),
}


@pytest.mark.parametrize("features", ["", "content tar job-ids"], ids=["plain", "crestline"])
@pytest.mark.parametrize("call", CALLS)
async def test_an_answer_without_end_is_left(call: str, features: str) -> None:
    for status in (200, 404, 500):
        if (status, call) == (200, "read") and features:
            continue  # is as long as the file
        body = Long()
        async with system_of(answer(body, status), features) as system:
            with pytest.raises(CrestlineError):
                await CALLS[call](system)
        assert body.taken <= LIMIT + MIB


PACKED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip.compress(bytes(16 * LIMIT))),
    "gzip in gzip": ("gzip, gzip", lambda: gzip.compress(gzip.compress(bytes(64 * LIMIT)))),
    "deflate": ("deflate", lambda: zlib.compress(bytes(16 * LIMIT))),
    "br": ("br", lambda: bytes(MIB)),
    "zstd": ("zstd", lambda: bytes(MIB)),
    "not packed": ("gzip", lambda: bytes(MIB)),
    "gzip, and more behind": ("gzip", lambda: gzip.compress(b"{}") + bytes(16 * LIMIT)),
}


@pytest.mark.parametrize("how", PACKED)
async def test_an_answer_unpacks_to_its_limit_at_most(how: str) -> None:
    coding, pack = PACKED[how]
    content = pack()  # here, as all workers import this file
    for status in (200, 404):
        async with system_of(answer(content, status, Content_Encoding=coding)) as system:
            tracemalloc.start()
            try:
                with pytest.raises(CrestlineError):
                    await system.jobs()
                assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
            finally:
                tracemalloc.stop()


async def test_a_packed_answer_within_the_limits_is_read() -> None:
    async with system_of(answer(gzip.compress(b'{"jobs": []}'), Content_Encoding="gzip")) as system:
        assert await system.jobs() == []


DEEP = {"[": b"[" * 200_000, "{": b'{"a":' * 200_000, "jobs": b'{"jobs": [' + b"[" * 200_000}
WIDE = {"many": b'{"jobs": [' + b"{}," * 100_000 + b"{}]}", "lists": b"[" + b"[]," * 100_000 + b"[]]"}
NUMBERS = {"huge": b'{"jobs": [{"jobId": 1e999}], "output": 1e999}', "long": b'{"output": ' + b"9" * 10_000 + b"}"}


@pytest.mark.parametrize("what", DEEP | WIDE | NUMBERS)
async def test_json_of_any_depth_and_width_ends_in_an_error(what: str) -> None:
    content = (DEEP | WIDE | NUMBERS)[what]
    for status, call in itertools.product((200, 400, 500), ("jobs", "job", "ls", "stat")):
        if (status, call, what) == (200, "jobs", "huge"):
            continue  # one row that cannot be read is left out
        async with system_of(answer(content, status)) as system:
            with pytest.raises(CrestlineError):
                await CALLS[call](system)


@pytest.mark.parametrize("line", [b"data: ", b"x"])
async def test_an_event_without_end_is_left(line: bytes) -> None:
    body = Long(itertools.chain([line], itertools.repeat(b"a" * 65536, 1024)))
    async with system_of(answer(body), "job-events") as system:
        with pytest.raises(CrestlineError):
            async for _ in system.backend.jobs.events(["1"]):
                pass
    assert body.taken <= 2 * MIB


async def test_a_redirect_takes_no_credential_elsewhere() -> None:
    asked: list[httpx.Request] = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/"}, stream=httpx.ByteStream(b""))

    for features in ("", "content tar"):
        async with system_of(elsewhere, features) as system:
            for call in CALLS.values():
                with pytest.raises(CrestlineError):
                    await call(system)
    assert {request.url.host for request in asked} == {"gateway.example"}


async def test_cookies_are_not_kept() -> None:
    asked: list[httpx.Request] = []

    def setting(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        headers = [("Set-Cookie", f"c{len(asked)}-{number}={'v' * 4000}") for number in range(20)]
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b'{"jobs": []}'))

    async with system_of(setting) as system:
        for _ in range(3):
            await system.jobs()
    assert all("Cookie" not in request.headers for request in asked)


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..", "a/../../evil", ""])
def test_names_that_leave_a_directory_reach_no_file_system(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {"atime": 1, "ctime": 1, "mtime": 1, "birthtime": 1}
    numbers = {"mode": 0o40755, "ino": 1, "dev": 1, "nlink": 1, "uid": 1, "gid": 1, "size": 4, **times}
    entry = {"name": name, "type": "-", "user": "u", "group": "g", "permissions": "rwx------", "size": "4"}

    def reply(request: httpx.Request) -> httpx.Response:
        of_the_file = "evil" in request.url.params.get("path", "")
        output: object = [entry | {"lastModified": "2026-01-01T00:00:00", "linkTarget": None}]
        if request.url.path.endswith("/stat"):
            output = numbers | ({"mode": 0o100644} if of_the_file else {})
        if request.url.path.endswith("/download"):
            return answer(b"evil")(request)
        return answer(json.dumps({"output": output}).encode())(request)

    monkeypatch.setattr(filesystem, "connect", lambda *_, **__: system_of(reply))
    fs = FirecRESTFileSystem(skip_instance_cache=True)
    (tmp_path / "a/b").mkdir(parents=True)
    for get in (
        lambda: fs.get("s/a/*", f"{tmp_path}/a/b/"),
        lambda: fs.get("s/a", f"{tmp_path}/a/b/", recursive=True),
        lambda: fs.get("s/a", f"{tmp_path}/a/b/", recursive=True, maxdepth=2),
    ):
        with pytest.raises((CrestlineError, OSError)):
            get()
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_no_server_asks_for_a_pause_without_end() -> None:
    year = format_datetime(datetime.now(UTC) + timedelta(days=365), usegmt=True)
    for value in ("31536000", "9" * 400, year, "Fri, 31 Dec 9999 23:59:59 GMT"):
        response = httpx.Response(429, headers={"Retry-After": value})
        assert retry_after(response) == MAX_RETRY_AFTER
        assert error_from_response(response).retry_after == MAX_RETRY_AFTER
    assert retry_after(httpx.Response(429, headers={"Retry-After": "7"})) == 7
    until = (datetime.now(UTC) + timedelta(days=365)).isoformat()
    body = {"message": "s is in maintenance", "data": {"reason": "maintenance", "message": "m", "end": until}}
    maintenance = error_from_response(httpx.Response(503, json=body))
    assert isinstance(maintenance, MaintenanceError)
    assert maintenance.retry_after == MAX_RETRY_AFTER


BOMB = gzip.compress(bytes(64 * MIB))
TOKENS: dict[str, Callable[[], httpx.Response]] = {
    "long": lambda: httpx.Response(200, stream=Long()),
    "long refusal": lambda: httpx.Response(400, stream=Long()),
    "bomb": lambda: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(BOMB)),
    "deep": lambda: httpx.Response(200, stream=httpx.ByteStream(b"[" * 200_000)),
    "deep refusal": lambda: httpx.Response(400, stream=httpx.ByteStream(b"[" * 200_000)),
    "elsewhere": lambda: httpx.Response(307, headers={"Location": "https://elsewhere.example/"}, stream=Long(iter(()))),
    "trickle": lambda: httpx.Response(200, stream=Long(itertools.repeat(b" ", 10_000))),
}


@pytest.mark.parametrize("what", TOKENS)
def test_a_token_endpoint_of_any_kind(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return TOKENS[what]()

    monkeypatch.setattr(token_endpoint.httpx, "HTTPTransport", lambda verify: httpx.MockTransport(reply))
    if what == "trickle":
        monkeypatch.setattr(token_endpoint, "_BODY_TIMEOUT", 0)
    tracemalloc.start()
    try:
        with pytest.raises(CrestlineError):
            token_endpoint.request_token("https://issuer.example/token", {"client_secret": "x"})
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()
    assert set(asked) == {"issuer.example"}
