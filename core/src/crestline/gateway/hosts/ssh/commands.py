"""Runs programs on the other machine. Arguments are quoted only here, and no program keeps running after its
request."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import asyncssh

from crestline.gateway.hosts.base import MAX_ANSWER, MAX_ERRORS, MAX_OUTPUT, Commands, Completed
from crestline.gateway.hosts.ssh.errors import connected, refusal
from crestline.gateway.hosts.ssh.pools import Pools
from crestline.model import CrestlineError, GatewayUnavailableError, TooLargeError

_CHUNK = 256 * 1024
_COMPLAINTS = 64 * 1024
_MOST_OF_ALL = 4 * MAX_OUTPUT
"""The same for all users of a system."""
_FAREWELL = 5.0

PLAIN = {"LC_ALL": "C"}
"""Messages in English, patterns by bytes."""

_log = logging.getLogger(__name__)

# A program that ends before it has read its whole input reports the reason itself.
_ENDED = suppress(BrokenPipeError, ConnectionResetError)

Process = asyncssh.SSHClientProcess[bytes]


class SshCommands(Commands):
    """Runs each program in its own channel."""

    def __init__(self, name: str, pools: Pools) -> None:
        self._name = name
        self._pools = pools
        self._held: Counter[str] = Counter()
        """Bytes in memory by user, of programs that have not ended."""

    async def run(
        self,
        user: str,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None,
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        """As `Commands.run`. Output of more than `max_output` bytes is refused, because the event loop may parse it."""
        with connected(self._name, argv[0]):
            async with self._process(user, command_line(argv, env, cwd)) as process, asyncio.timeout(timeout):
                with _ENDED:
                    process.stdin.write(input or b"")
                    process.stdin.write_eof()
                stdout, stderr = await asyncio.gather(
                    self._whole(user, process.stdout, max_output), _head(process.stderr, MAX_ERRORS)
                )
                await process.wait_closed()
                return self._completed(argv, process, stdout, stderr)

    async def stream(
        self,
        user: str,
        argv: Sequence[str],
        *,
        input: bytes | AsyncIterator[bytes] = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        statuses: Sequence[int] = (0,),
        forgive: Callable[[bytes], bool] | None = None,
        progress: Callable[[bytes], bool] | None = None,
    ) -> AsyncGenerator[bytes]:
        """Yield the standard output of a program as it arrives, while `input` is sent.

        Args:
            user: the POSIX user that it runs as.
            argv: program and arguments.
            input: its standard input.
            statuses: exit statuses that count as success.
            forgive: returns whether a line on standard error is harmless, if all lines are.
            progress: called with each line on standard error; returns False if the line reports an error. It may raise.

        Raises:
            CrestlineError: the program failed, raised at the end; or the connection was lost.
        """
        with connected(self._name, argv[0]):
            async with self._process(user, command_line(argv, env, cwd)) as process:
                complaints = asyncio.ensure_future(_complaints(process, progress))
                feeding = asyncio.ensure_future(_feed(process, input))
                try:
                    while chunk := await process.stdout.read(_CHUNK):
                        yield chunk
                    await process.wait_closed()
                    if feeding.done():
                        feeding.result()  # an error of the input is the reason why the program had to end
                    result = self._completed(argv, process, b"", await complaints)
                    complained = result.stderr.splitlines()
                    if len(result.stderr) == _COMPLAINTS:
                        complained = complained[:-1]  # the last line is incomplete
                    forgiven = forgive and complained and all(map(forgive, complained))
                    if result.exit_status not in statuses and not forgiven:
                        raise refusal(argv[0], result)
                finally:
                    complaints.cancel()
                    feeding.cancel()

    async def _whole(self, user: str, stream: asyncssh.SSHReader[bytes], max_output: int) -> bytes:
        """Read a whole stream.

        Raises:
            GatewayUnavailableError: together with other users' output it exceeds the gateway's memory limit.
            TooLargeError: it exceeds `max_output` bytes, alone or with the output of the same user's other programs.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := await stream.read(_CHUNK):
                chunks.append(chunk)
                size += len(chunk)
                self._held[user] += len(chunk)
                if size > max_output or self._held[user] > MAX_OUTPUT:
                    raise TooLargeError("Command output exceeded buffer limit.", hint="Ask for less at once.")
                if self._held.total() > _MOST_OF_ALL:
                    raise GatewayUnavailableError(f"{self._name}: too much output at once.", retry_after=1)
            return b"".join(chunks)
        finally:
            self._held[user] -= size
            if not self._held[user]:
                del self._held[user]

    async def cleanup(self, user: str, argv: Sequence[str]) -> bool:
        """Run a program that cleans up and return whether it succeeded. A failure is only logged."""
        try:
            result = await self.run(user, argv, timeout=None)
        except CrestlineError as error:
            _log.warning("%s: could not clean up with %s: %s", self._name, argv[0], error.message)
            return False
        if result.exit_status:
            _log.warning("%s: could not clean up: %s", self._name, refusal(argv[0], result).message)
        return result.exit_status == 0

    @asynccontextmanager
    async def _process(self, user: str, line: bytes) -> AsyncIterator[Process]:
        def opener(ssh: asyncssh.SSHClientConnection) -> Awaitable[Process]:
            # As bytes, because text cannot represent every file name.
            return ssh.create_process(line, encoding=None)

        async with self._pools.of(user).channel(opener) as process:
            try:
                yield process
            finally:
                await _end(process)

    def _completed(self, argv: Sequence[str], process: Process, stdout: bytes, stderr: bytes) -> Completed:
        status = process.returncode
        if status is None:
            raise GatewayUnavailableError(f"{self._name}: the connection was lost during {argv[0]}.", retry_after=1)
        return Completed(status if status >= 0 else 128 - status, stdout, stderr)


def command_line(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> bytes:
    """Return the text for the user's login shell, whichever it is: only quoted words, without syntax of a shell."""
    if env or cwd:
        where = [f"--chdir={cwd}"] if cwd else []
        argv = ["env", *where, *(f"{name}={value}" for name, value in (env or {}).items()), *argv]
    return os.fsencode(shlex.join(argv))


async def _feed(process: Process, source: bytes | AsyncIterator[bytes]) -> None:
    """Write all of `source`."""
    pipe = process.stdin
    try:
        if isinstance(source, bytes):
            with _ENDED:
                pipe.write(source)
        else:
            async for chunk in source:
                with _ENDED:
                    pipe.write(chunk)
                    await pipe.drain()
        with _ENDED:
            pipe.write_eof()
    except BaseException:
        process.close()  # the program must not take half of its input for the whole
        raise


async def _complaints(process: Process, progress: Callable[[bytes], bool] | None) -> bytes:
    """Return the first lines on standard error that `progress` does not accept. An error of `progress` ends the
    program."""
    if progress is None:
        return await _head(process.stderr, _COMPLAINTS)
    kept = rest = b""
    try:
        while chunk := await process.stderr.read(_COMPLAINTS):
            *lines, rest = (rest + chunk)[-_COMPLAINTS:].split(b"\n")
            kept = (kept + b"".join(line + b"\n" for line in lines if not progress(line)))[:_COMPLAINTS]
    except CrestlineError:
        await _end(process)
        raise
    return (kept + rest)[:_COMPLAINTS]


async def _head(stream: asyncssh.SSHReader[bytes], most: int) -> bytes:
    """Return the first bytes of a stream, and read it to its end."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: most - len(kept)]
    return bytes(kept)


async def _end(process: Process) -> None:
    """End a program. A program that keeps running would hold one of the server's few sessions."""
    if process.returncode is None:
        with suppress(OSError):  # it has ended meanwhile
            process.kill()
    process.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL):
            await process.wait_closed()
