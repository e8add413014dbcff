"""An SSH server that lies on the wire: sizes, handles, packets, exit statuses, keys. Each call ends, within bounds."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

from crestline.gateway.hosts.ssh import SshHost, SshSettings
from crestline.gateway.hosts.ssh.credentials import UserKeys
from crestline.gateway.paths import PathGuard
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline.wire.status import SshTimeouts

pytestmark = pytest.mark.anyio

KIB = 1024
MIB = 1024 * KIB
USER = "mallory"
REGULAR = 0o100644
# Packets of SFTP version 3.
INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT = 1, 2, 3, 4, 5, 6, 7, 8, 9
REALPATH, STAT, EXTENDED, STATUS, HANDLE, DATA, NAME, ATTRS, REPLY = 16, 17, 200, 101, 102, 103, 104, 105, 201
NO_SUCH_FILE = 2

Answer = tuple[int, bytes] | None
"""an SFTP packet without its number; None: silence"""


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def attributes(size: int, mode: int = REGULAR, modified: int = 7) -> bytes:
    return struct.pack(">IQIII", 1 | 4 | 8, size, mode, modified, modified)


class Session(asyncssh.SSHServerProcess[bytes]):
    """One whose SFTP is a program like any other."""

    def __init__(self, serve: Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]) -> None:
        super().__init__(serve, None, 3, False)
        self._tasks: set[asyncio.Future[None]] = set()

    def subsystem_requested(self, subsystem: str) -> bool:
        return True

    def session_started(self) -> None:
        channel = self._chan
        streams = asyncssh.SSHReader(self, channel), asyncssh.SSHWriter(self, channel)
        started = self._start_process(*streams, asyncssh.SSHWriter(self, channel, asyncssh.EXTENDED_DATA_STDERR))
        self._tasks.add(asyncio.ensure_future(started))  # type: ignore[arg-type]


class Liar(asyncssh.SSHServer):
    """A server whose SFTP and programs answer what a test says; the default is one honest file of `size` bytes."""

    def __init__(self) -> None:
        self.size = 10
        self.limits = (256 * KIB, 255 * KIB, 255 * KIB, 0)
        self.lies: dict[int, Callable[[bytes], Answer]] = {}
        self.program: Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]] | None = None
        self.requests: Counter[int] = Counter()
        self.waiting: list[int] = []
        """the kinds of requests that were left without an answer"""
        self.sent = 0
        self.refusals = 0
        """sessions that are still to be refused"""
        """bytes of output of programs"""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Any:
        if self.refusals:
            self.refusals -= 1
            return False
        return self._connection.create_server_channel(encoding=None), Session(self.serve)

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            if process.subsystem == "sftp":
                await self._sftp(process)
            elif self.program is not None:
                await self.program(process)
            else:
                process.stdout.write(b"1 %d 7.0" % self.size)  # stat(1)
                process.exit(0)
        except (asyncssh.Error, OSError, EOFError):
            return

    async def _sftp(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        while True:
            (length,) = struct.unpack(">I", await process.stdin.readexactly(4))
            packet = await process.stdin.readexactly(length)
            kind, number, rest = packet[0], packet[1:5], packet[5:]
            self.requests[kind] += 1
            if kind == INIT:
                extensions = text(b"limits@openssh.com") + text(b"1") + text(b"posix-rename@openssh.com") + text(b"1")
                extensions += text(b"statvfs@openssh.com") + text(b"2")
                answer: Answer = (VERSION, extensions)
                number = struct.pack(">I", 3)
            elif kind in self.lies:
                answer = self.lies[kind](rest)
            else:
                answer = self._honest(kind, rest)
            if answer is None:
                self.waiting.append(kind)
                continue
            body = bytes([answer[0]]) + number + answer[1]
            process.stdout.write(struct.pack(">I", len(body)) + body)
            await process.stdout.drain()

    def _honest(self, kind: int, rest: bytes) -> Answer:
        match kind:
            case _ if kind == EXTENDED and b"limits@openssh.com" in rest:
                return REPLY, struct.pack(">QQQQ", *self.limits)
            case _ if kind == EXTENDED and b"statvfs" in rest:
                return REPLY, struct.pack(">11Q", 4096, 4096, 2**40, 2**40, 2**40, 9, 9, 9, 9, 0, 255)
            case _ if kind in (STAT, FSTAT):
                return ATTRS, attributes(self.size)
            case _ if kind == LSTAT:
                return STATUS, struct.pack(">I", NO_SUCH_FILE) + text(b"") + text(b"")
            case _ if kind == REALPATH:
                (length,) = struct.unpack(">I", rest[:4])
                return NAME, struct.pack(">I", 1) + text(rest[4 : 4 + length]) + text(b"") + struct.pack(">I", 0)
            case _ if kind == OPEN:
                return HANDLE, text(b"h")
            case _ if kind == READ:
                offset, length = struct.unpack(">QI", rest[5:17])
                count = min(length, max(self.size - offset, 0))
                if not count:
                    return STATUS, struct.pack(">I", 1) + text(b"") + text(b"")
                return DATA, text(b"x" * count)
        return STATUS, struct.pack(">I", 0) + text(b"") + text(b"")


@pytest.fixture
async def liar() -> Liar:
    return Liar()


@pytest.fixture
async def host(liar: Liar, tmp_path: Path) -> AsyncIterator[SshHost]:
    keys = tmp_path / "keys"
    keys.mkdir()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(keys / USER)
    (keys / USER).chmod(0o600)
    async with listening(liar) as (port, key):
        known = f"[127.0.0.1]:{port} {key.export_public_key().decode()}"
        timeouts = SshTimeouts(connection=20, login=20, command_execution=30, keep_alive=30)
        settings = SshSettings(host="127.0.0.1", port=port, known_hosts=known, stall=30, timeout=timeouts)
        host = SshHost("s", PathGuard("s", ["/"]), settings, UserKeys(keys))
        await host.start()
        try:
            yield host
        finally:
            await host.stop()


@asynccontextmanager
async def listening(liar: Liar) -> AsyncIterator[tuple[int, asyncssh.SSHKey]]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=lambda: liar, server_host_keys=[key])
    try:
        yield server.get_port(), key
    finally:
        server.close()


def with_limits(host: SshHost, stall: float, command: int = 30) -> None:
    timeout = msgspec.structs.replace(host._settings.timeout, command_execution=command)
    settings = msgspec.structs.replace(host._settings, stall=stall, timeout=timeout)
    host._settings = host._pools._settings = host._connector._settings = settings


async def fetch(host: SshHost) -> int:
    file = await host.files(USER).open("/file")
    try:
        return sum([len(chunk) async for chunk in file.chunks()])
    finally:
        await file.close()


async def store(host: SshHost, size: int = MIB) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * size

    await host.files(USER).write("/file", chunks())


async def reserve(host: SshHost) -> None:
    await host.files(USER).uploads.reserve("/file", "1", 10)


CALLS: dict[str, Callable[[SshHost], Awaitable[Any]]] = {
    "read": fetch,
    "write": store,
    "reserve": reserve,
    "remove": lambda host: host.files(USER).remove("/file"),
    "move": lambda host: host.files(USER).move("/file", "/other"),
}


async def test_what_the_server_says_of_its_limits_bounds_the_work(host: SshHost, liar: Liar) -> None:
    """Requests of one byte would be millions at a time; one of 2^63 bytes takes as much memory as a file has."""
    lengths: list[int] = []
    liar.size = 8 * MIB
    liar.limits = (1, 1, 1, 0)
    liar.lies = {READ: lambda rest: lengths.append(struct.unpack(">I", rest[-4:])[0]), WRITE: lambda rest: None}
    for call, kind in ((fetch, READ), (store, WRITE)):
        await _until_it_waits(call(host), host, liar, kind)
        assert liar.requests[kind] <= 1024
    lengths.clear()
    liar.requests.clear()
    liar.limits = (2**63, 2**63, 2**63, 0)
    liar.size = 1 << 50
    await _until_it_waits(fetch(host), host, liar, READ)
    assert 0 < max(lengths) <= MIB


async def _until_it_waits(call: Coroutine[Any, Any, object], host: SshHost, liar: Liar, kind: int) -> None:
    """Let a call send all that it sends without an answer to requests of one kind, and end it."""
    task = asyncio.ensure_future(call)
    while not liar.requests[kind]:
        assert not task.done()
        await asyncio.sleep(0.01)
    await host.files(USER).uploads.offset("/file", "1")  # by the same session, so it comes after them
    await host.stop()
    with pytest.raises(CrestlineError):
        await task


async def test_no_more_is_read_than_was_asked_for(host: SshHost, liar: Liar) -> None:
    """A longer answer would go beyond the length that the gateway's own answer has announced."""
    liar.lies[READ] = lambda rest: (DATA, text(b"y" * MIB))
    with pytest.raises(CrestlineError):
        await fetch(host)


async def test_a_file_that_is_never_the_one_that_was_opened(host: SshHost, liar: Liar) -> None:
    sizes = itertools.count()
    liar.lies[FSTAT] = lambda rest: (ATTRS, attributes(100 + next(sizes)))
    with pytest.raises(CrestlineError):
        await fetch(host)
    assert liar.requests[OPEN] == liar.requests[CLOSE] <= 10


async def test_silence_to_any_request_ends_a_call(host: SshHost, liar: Liar) -> None:
    """The session is given up, so the next call does not wait for it."""
    with_limits(host, stall=0.3, command=1)
    for name, kinds in {
        "read": (STAT, OPEN, FSTAT, READ, CLOSE),
        "write": (REALPATH, STAT, OPEN, WRITE, CLOSE, EXTENDED),
        "reserve": (EXTENDED, SETSTAT),
        "remove": (REALPATH,),
        "move": (REALPATH,),
    }.items():
        for kind in kinds:
            liar.lies = {kind: lambda rest: None}
            liar.waiting.clear()
            try:
                async with asyncio.timeout(30):
                    await CALLS[name](host)
            except CrestlineError:
                pass
            except TimeoutError:
                pytest.fail(f"{name}: packet {kind}")
            liar.lies = {}
    liar.lies = {EXTENDED: lambda rest: None}
    await host.stop()
    for _ in range(20):  # on a busy machine one may not come so far
        with pytest.raises(CrestlineError):
            await store(host)
        if liar.waiting.count(EXTENDED) >= 2:
            break
    assert liar.waiting.count(EXTENDED) >= 2, "the second one waited for the first one's session"
    liar.lies = {}
    await host.stop()
    with_limits(host, stall=30)
    await store(host)


@pytest.mark.parametrize(
    "answer", ["longer than any", "cut", "another kind", "no name", "two names", "a closed stream"]
)
async def test_answers_that_are_none(host: SshHost, liar: Liar, answer: str) -> None:
    lie: Answer = {
        "longer than any": (DATA, b"x" * (5 * MIB)),
        "cut": (ATTRS, b"\0"),
        "another kind": (250, b"\xff" * 9),
        "no name": (NAME, struct.pack(">I", 0)),
        "two names": (NAME, struct.pack(">I", 2) + (text(b"/\0\n\xff") + text(b"") + struct.pack(">I", 0)) * 2),
        "a closed stream": (STATUS, struct.pack(">I", 1) + text(b"") + text(b"")),
    }[answer]
    for name, kinds in {
        "read": (STAT, OPEN, FSTAT, READ),
        "write": (REALPATH, STAT, OPEN),
        "remove": (REALPATH,),
    }.items():
        for kind in kinds:
            liar.lies = {kind: lambda rest: lie}
            try:
                async with asyncio.timeout(30):
                    await CALLS[name](host)
            except CrestlineError:
                pass
            except Exception as error:
                pytest.fail(f"{name}: packet {kind}: {error!r}")


async def test_programs_that_flood_or_do_not_end(host: SshHost, liar: Liar) -> None:
    """What answers in some bytes is not read for megabytes, and no status is waited for without end."""

    async def flood(process: asyncssh.SSHServerProcess[bytes]) -> None:
        for _ in range(64 * MIB // (64 * KIB)):
            process.stdout.write(b"uid=1(x) " * (7 * KIB))
            liar.sent += 64 * KIB
            await process.stdout.drain()
        process.exit(0)

    async def complain(process: asyncssh.SSHServerProcess[bytes]) -> None:
        while True:
            process.stderr.write(b"no\n" * (20 * KIB))
            await process.stderr.drain()

    async def silent(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write_eof()
        await asyncio.Event().wait()

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "userinfo": lambda: host.user_info(USER),
        "uid": lambda: host.uid(USER),
        "stat": lambda: host.files(USER).stat("/file"),
        "file": lambda: host.files(USER).file_type("/file"),
        "chmod": lambda: host.files(USER).chmod("/file", "600"),
    }
    with_limits(host, stall=30, command=1)
    for program, names in ((flood, tuple(calls)), (complain, ("chmod",)), (silent, ("userinfo",))):
        liar.program = program
        for name in names:
            call = calls[name]
            liar.sent = 0
            try:
                async with asyncio.timeout(30):
                    await call()
            except CrestlineError:
                pass
            except TimeoutError:
                pytest.fail(f"{name}: {program.__name__}")
            else:
                pytest.fail(f"{name}: {program.__name__} was believed")
            assert liar.sent < 16 * MIB, name


async def test_another_host_key_for_the_next_connection(host: SshHost, liar: Liar) -> None:
    assert await fetch(host) == liar.size
    await host.stop()
    known, key = asyncssh.generate_private_key("ssh-ed25519"), host._settings.known_hosts
    host._connector._settings = msgspec.structs.replace(
        host._settings, known_hosts=f"{key.split()[0]} {known.export_public_key().decode()}"
    )
    with pytest.raises(CrestlineError, match="host key"):
        await fetch(host)


async def test_a_changed_host_key_refuses_new_logins_alone(host: SshHost, liar: Liar, tmp_path: Path) -> None:
    """Connections that are open were verified; the next login names the key and what to do, again and again."""
    assert await fetch(host) == liar.size
    open_connection = liar._connection
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "keys" / "bob")
    (tmp_path / "keys" / "bob").chmod(0o600)
    known, key = asyncssh.generate_private_key("ssh-ed25519"), host._settings.known_hosts
    assert isinstance(key, str)
    host._connector._settings = msgspec.structs.replace(
        host._settings, known_hosts=f"{key.split()[0]} {known.export_public_key().decode()}"
    )
    for _ in range(3):
        with pytest.raises(GatewayUnavailableError, match="host key") as caught:
            await host.run("bob", ["true"], timeout=60)
        assert "known_hosts" in caught.value.hint
        liar._connection = open_connection  # this server knows the newest alone
        assert await fetch(host) == liar.size


async def test_a_server_that_still_counts_sessions_that_have_ended(host: SshHost, liar: Liar) -> None:
    """A command waits for a moment; a server that gives no session at all is told."""
    assert (await host.run(USER, ["stat"], timeout=30)).exit_status == 0
    liar.refusals = 3
    assert (await host.run(USER, ["stat"], timeout=30)).exit_status == 0
    liar.refusals = 1000
    with pytest.raises(CrestlineError):
        await host.run(USER, ["stat"], timeout=30)
