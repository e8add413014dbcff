"""What programs of a user's on another machine, or the files that a login shell reads, may write into the gateway's
memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from crestline.gateway.hosts.ssh import commands
from crestline.gateway.hosts.ssh.commands import SshCommands
from crestline.model import GatewayUnavailableError, TooLargeError

pytestmark = pytest.mark.anyio

KIB = 1024


class Stream:
    """Brings `size` bytes, and then waits if `gate` is given."""

    def __init__(self, size: int, gate: asyncio.Event | None = None) -> None:
        self.left = size
        self.is_read = asyncio.Event()
        self._gate = gate

    async def read(self, most: int) -> bytes:
        count = min(most, KIB, self.left)
        self.left -= count
        if not count:
            self.is_read.set()
            if self._gate is not None:
                await self._gate.wait()
        await asyncio.sleep(0)
        return bytes(count)


class Programs(SshCommands):
    """Each program writes what its name says: bytes on standard output and on standard error."""

    def __init__(self) -> None:
        super().__init__("s", None)  # type: ignore[arg-type]
        self.gate: asyncio.Event | None = None
        self.streams: list[Stream] = []
        self.begun = asyncio.Semaphore(0)

    @asynccontextmanager
    async def _process(self, user: str, line: bytes) -> AsyncIterator[Any]:
        out, err = (int(word) for word in line.split())
        streams = Stream(out, self.gate), Stream(err)
        self.streams += streams
        self.begun.release()
        stdin = SimpleNamespace(write=lambda data: None, write_eof=lambda: None)

        async def wait_closed() -> None:
            """It has ended."""

        yield SimpleNamespace(stdin=stdin, stdout=streams[0], stderr=streams[1], returncode=0, wait_closed=wait_closed)


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_OUTPUT", 100 * KIB)
    monkeypatch.setattr(commands, "_MOST_OF_ALL", 250 * KIB)
    monkeypatch.setattr(commands, "MAX_ERRORS", 10 * KIB)


async def test_output_of_one_program_has_a_limit() -> None:
    programs = Programs()
    done = await programs.run("alice", [str(100 * KIB), str(1000 * KIB)], timeout=60)
    assert (len(done.stdout), len(done.stderr)) == (100 * KIB, 10 * KIB)
    assert not programs.streams[1].left, "read to its end, so that the program can end"
    with pytest.raises(TooLargeError):
        await programs.run("alice", [str(1000 * KIB), "0"], timeout=60)
    assert programs.streams[2].left > 800 * KIB


async def test_output_of_all_programs_of_a_user_and_of_all_users_has_a_limit() -> None:
    programs = Programs()
    programs.gate = asyncio.Event()
    held = []

    async def hold(user: str, size: int) -> None:
        held.append(asyncio.ensure_future(programs.run(user, [str(size), "0"], timeout=60)))
        await programs.begun.acquire()
        await programs.streams[-2].is_read.wait()

    await hold("alice", 60 * KIB)
    with pytest.raises(TooLargeError):
        await programs.run("alice", [str(60 * KIB), "0"], timeout=60)
    await programs.begun.acquire()
    for user in ("bob", "carol"):
        await hold(user, 90 * KIB)
    with pytest.raises(GatewayUnavailableError):
        await programs.run("dave", [str(60 * KIB), "0"], timeout=60)
    programs.gate.set()
    assert [len((await each).stdout) for each in held] == [60 * KIB, 90 * KIB, 90 * KIB]
    assert len((await programs.run("alice", [str(100 * KIB), "0"], timeout=60)).stdout) == 100 * KIB
    assert not programs._held
