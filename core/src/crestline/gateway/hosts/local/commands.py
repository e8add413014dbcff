"""Runs programs on this machine, as the gateway's own account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO

from crestline.gateway.hosts.base import MAX_ANSWER, MAX_ERRORS, Completed
from crestline.gateway.hosts.local.login import login_environment
from crestline.model import GatewayUnavailableError, TooLargeError
from crestline.serving.limits import inherited_descriptor_limit

_CHUNK = 256 * 1024
_LIMITED = ("/bin/sh", "-c", 'ulimit -S -n "$1" && shift && exec "$@"', "sh")


async def run(
    argv: Sequence[str],
    *,
    input: bytes | None,
    env: Mapping[str, str] | None,
    cwd: str | None,
    timeout: float,
    max_output: int = MAX_ANSWER,
) -> Completed:
    """See `Commands.run`.

    A program that is not installed ends with exit status 127, as in a shell. The input is a file and not a pipe,
    because a program may end before it has read any of it, and uvloop raises RuntimeError if a pipe has no reader.
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
        return await _completed(process, argv[0], out, err, timeout, max_output)


async def _completed(
    process: asyncio.subprocess.Process,
    name: str,
    out: asyncio.StreamReader,
    err: asyncio.StreamReader,
    timeout: float,
    max_output: int,
) -> Completed:
    """Read the output of a program until it has ended, or end it.

    Raises:
        GatewayUnavailableError: the program did not end within `timeout` seconds.
        TooLargeError: the program wrote more than `max_output` bytes.
    """
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(_whole(out, max_output), _head(err))
            await process.wait()
    except TimeoutError:
        raise GatewayUnavailableError(
            f"{name} did not answer within {timeout:g} s.", hint="Try again later.", retry_after=5
        ) from None
    finally:
        if process.returncode is None:  # out of time, or the request was cancelled
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    status = process.returncode or 0
    return Completed(exit_status=status if status >= 0 else 128 - status, stdout=stdout, stderr=stderr)


async def _whole(stream: asyncio.StreamReader, max_output: int) -> bytes:
    """Read a whole stream.

    Raises:
        TooLargeError: the stream is larger than `max_output` bytes.
    """
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_output:
            raise TooLargeError("Command output exceeded buffer limit.", hint="Ask for less at once.")
    return b"".join(chunks)


async def _head(stream: asyncio.StreamReader) -> bytes:
    """Return the first bytes of a stream, and read it to its end."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: MAX_ERRORS - len(kept)]
    return bytes(kept)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, IO[bytes]]]:
    """Create a pipe: a reader for this process, and the end to which a program writes.

    With asyncio's own pipes, `Process.wait` does not return while they are full or a grandchild holds them open.
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
    """Return an open file without a name, positioned at its start."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(content)
    file.seek(0)
    return file


def _with_usual_limit(argv: Sequence[str]) -> Sequence[str]:
    """Give the program the limit of file descriptors with which the gateway was started."""
    limit = inherited_descriptor_limit()
    return argv if limit is None else [*_LIMITED, str(limit), *argv]
