"""Programs on this machine, as the gateway's own OS user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO

from crestline.gateway.hosts.base import MAX_ERRORS, MAX_OUTPUT, Completed
from crestline.gateway.hosts.local.login import login_environment
from crestline.model import GatewayUnavailableError, TooLargeError
from crestline.serving.limits import inherited_descriptor_limit

_CHUNK = 256 * 1024
_LIMITED = ("/bin/sh", "-c", 'ulimit -S -n "$1" && shift && exec "$@"', "sh")


async def run(
    argv: Sequence[str], *, input: bytes | None, env: Mapping[str, str] | None, cwd: str | None, timeout: float
) -> Completed:
    """See `Commands.run`.

    A program that is not installed ends with exit status 127, as in a shell. The input is a file, not a pipe: a program
    may end before it has read any of it, and uvloop raises RuntimeError where a pipe's reader is gone.
    """
    stdin: int | IO[bytes] = asyncio.subprocess.DEVNULL
    if input is not None:
        stdin = await asyncio.to_thread(_file_with, input)
    async with _pipe() as (out, stdout), _pipe() as (err, stderr):
        try:
            process = await asyncio.create_subprocess_exec(
                *_with_usual_limit(argv),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=login_environment() | dict(env or {}),
                cwd=cwd,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            return Completed(exit_status=127, stdout=b"", stderr=str(error).encode(errors="replace"))
        finally:
            stdout.close()
            stderr.close()
            if not isinstance(stdin, int):
                stdin.close()
        return await _completed(process, argv[0], out, err, timeout)


async def _completed(
    process: asyncio.subprocess.Process, name: str, out: asyncio.StreamReader, err: asyncio.StreamReader, timeout: float
) -> Completed:
    """Read what a program writes until it has ended, or end it.

    Raises:
        GatewayUnavailableError: it did not end within `timeout` seconds.
        TooLargeError: it wrote more than a program may.
    """
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(_whole(out), _head(err))
            await process.wait()
    except TimeoutError:
        raise GatewayUnavailableError(
            f"{name} did not answer within {timeout:g} s.", hint="Try again later.", retry_after=5
        ) from None
    finally:
        if process.returncode is None:  # out of time, or the request was given up
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    status = process.returncode or 0
    return Completed(exit_status=status if status >= 0 else 128 - status, stdout=stdout, stderr=stderr)


async def _whole(stream: asyncio.StreamReader) -> bytes:
    """All that a stream brings.

    Raises:
        TooLargeError: more than a program may write.
    """
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_OUTPUT:
            raise TooLargeError("Command output exceeded buffer limit.", hint="Ask for less at once.")
    return b"".join(chunks)


async def _head(stream: asyncio.StreamReader) -> bytes:
    """The first bytes of what a stream brings, which is read to its end."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: MAX_ERRORS - len(kept)]
    return bytes(kept)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, IO[bytes]]]:
    """A pipe that this process reads, and the end that a program writes to.

    asyncio's own pipes keep `Process.wait` waiting while they are full, or while a grandchild holds them.
    """
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(writing, "wb", 0) as other_end:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        try:
            yield reader, other_end
        finally:
            transport.close()


def _file_with(content: bytes) -> IO[bytes]:
    """An open file of no name, to be read from its beginning."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(content)
    file.seek(0)
    return file


def _with_usual_limit(argv: Sequence[str]) -> Sequence[str]:
    """Let the program have the limit of file descriptors that the gateway was started with."""
    limit = inherited_descriptor_limit()
    return argv if limit is None else [*_LIMITED, str(limit), *argv]
