"""The driver's side of the agent: writes orders into its inbox, and reads output and exit codes from its outbox."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from crestline import clock
from crestline.concurrency import map_concurrently
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline_gitlab_runner.agent import order

if TYPE_CHECKING:
    from crestline.client import System

_ENDED = re.compile(r"rc-(\d{1,3})-(\d{1,7})-(own|stopped|terminated)")
_LARGEST_PIECE = 1024 * 1024
_AT_ONCE = 4
_RETRY_DELAY = 5.0

Output = Callable[[bytes], None]


class Ended(msgspec.Struct, frozen=True):
    """The agent's report on the end of a command."""

    code: int
    why: str
    """`own`, `stopped` (by the driver) or `terminated` (the scheduler ended the job)."""


class CommandChannel:
    """The inbox and the outbox of the agent in one workspace.

    Args:
        system: an open system.
        workspace: absolute path of the workspace.
        patience: seconds for which the gateway may not respond before `follow`, `send` and `stop` fail.
    """

    def __init__(self, system: System, workspace: str, *, patience: float) -> None:
        self._system = system
        self._workspace = workspace
        self._patience = patience
        self._beats = 0
        self._read = ""
        self.received = 0
        """Number of received pieces of output."""
        self.is_receiving = False
        """Whether a piece is being received."""

    @property
    def part_size(self) -> int:
        """Bytes that one request can carry in either direction."""
        return min(self._system.max_direct_size, 8 * 1024 * 1024)

    async def heartbeat(self) -> None:
        """Report to the agent that the runner is alive, and which output it can delete."""
        self._beats += 1
        await self._write("beat", f"{self._beats} {self._read}\n".encode())

    async def send(self, name: str, lines: list[str], attached: Mapping[str, bytes], *, last: bool = False) -> None:
        """Send an order to run `lines` by sh.

        Args:
            name: name of the command.
            lines: the command.
            attached: files for the inbox, for which the lines wait.
            last: the agent ends after this command.
        """
        files = [*attached.items(), (f"{name}.go", order(lines, last=last))]
        await map_concurrently(lambda file: self._put(*file), files, _AT_ONCE)

    async def stop(self, name: str) -> None:
        """Order the agent to stop a command by SIGTERM, then by SIGKILL after the agent's grace period."""
        await self._put(f"{name}.stop", b"stop\n")

    async def follow(self, name: str, write: Output) -> Ended:
        """Pass the output of a command on until it has ended."""
        read = 0
        known: dict[str, int] = {}
        async for entries in self._system.watch_directory(f"{self._workspace}/out", retry_timeout=self._patience):
            known |= {entry.name: entry.size for entry in entries}
            while (piece := f"{name}.{read + 1:06d}") in known:
                write(await self._get(piece, known[piece]))
                read += 1
                self._read = piece
            ended = next((found for each in known if (found := _ended(name, each))), None)
            if ended is not None and read >= ended[1]:
                return ended[0]
        raise AssertionError("a directory is watched without end")

    async def parts(self, name: str) -> dict[str, int]:
        """Return paths and sizes of the parts that a command wrote."""
        entries = await self._system.ls(f"{self._workspace}/out")
        found = [entry for entry in entries if entry.name.startswith(f"{name}.part.")]
        return {f"{self._workspace}/out/{entry.name}": entry.size for entry in found}

    async def _get(self, piece: str, size: int) -> bytes:
        if size > _LARGEST_PIECE:
            raise CrestlineError(f"The job has written {piece} itself.", hint="Leave the agent's files alone.")
        self.is_receiving = True
        try:
            return await self._system.read_direct(f"{self._workspace}/out/{piece}")
        finally:
            self.received += 1
            self.is_receiving = False

    async def _put(self, name: str, content: bytes) -> None:
        """Write a file into the inbox, again if the gateway does not answer, as long as `patience` lasts."""
        began = clock.monotonic()
        while True:
            try:
                return await self._write(name, content)
            except GatewayUnavailableError:
                if clock.monotonic() - began > self._patience:
                    raise
            await asyncio.sleep(_RETRY_DELAY)

    async def _write(self, name: str, content: bytes) -> None:
        await self._system.write_direct(f"{self._workspace}/in", name, content)


def _ended(name: str, entry: str) -> tuple[Ended, int] | None:
    if not entry.startswith(f"{name}.rc-"):
        return None
    match = _ENDED.fullmatch(entry[len(name) + 1 :])
    return (Ended(int(match[1]), match[3]), int(match[2])) if match else None
