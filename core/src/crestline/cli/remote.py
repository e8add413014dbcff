"""Queries of a system that several commands share."""

from __future__ import annotations

import posixpath
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from crestline.model import CrestlineError, FileMissingError, InvalidRequestError, JobNotFoundError
from crestline.model.directories import missing_directory

if TYPE_CHECKING:
    from crestline.client import System

_CHUNK = 1024 * 1024


async def check_known(system: System, job_id: str) -> None:
    """Raise early for an unknown job id, if the gateway can tell for certain.

    A plain FirecREST may not list a job in its first seconds. There the job monitor decides.

    Raises:
        JobNotFoundError: the job does not exist.
    """
    from crestline.client import Capability

    if Capability.JOB_IDS in system.capabilities:
        await system.job(job_id)


async def output_files(system: System, job_id: str, *, stderr: bool = False) -> list[str]:
    """Return the paths of a job's output files, one for each task of an array.

    Raises:
        JobNotFoundError: the job does not exist.
        FileMissingError: the path of the job's output is unknown.
    """
    try:
        jobs = await system.backend.jobs.metadata(job_id)
    except JobNotFoundError:
        [job, *_] = await system.backend.jobs.get(job_id)  # accounting still lists jobs that the scheduler has dropped
        place = f"{job.workdir.rstrip('/')}/" if job.workdir else ""
        raise FileMissingError(
            f"The scheduler has forgotten where job {job_id} wrote its output.",
            hint=f"Name its file, which without --output is {place}slurm-{job_id}.out: crestline cat PATH",
        ) from None
    paths = [(job.stderr if stderr else None) or job.stdout for job in jobs]
    known = list(dict.fromkeys(path for path in paths if path))
    if not known:
        raise FileMissingError(
            f"The gateway does not say where job {job_id} writes to.", hint="Name its file: crestline cat PATH"
        )
    return known


@asynccontextmanager
async def naming_missing_directory(system: System, path: str) -> AsyncIterator[None]:
    """If a file is not found because its directory is missing, raise an error that names the directory.

    This is the user's default directory, or the parent of `path`. A path that ends in a slash is the directory itself.

    Raises:
        FileMissingError: the directory does not exist, or the body raised this error.
    """
    try:
        yield
    except FileMissingError as error:
        default = await system.default_workdir()
        is_below = f"{path.rstrip('/')}/".startswith(f"{default.rstrip('/')}/")
        for directory in [default] * is_below + [posixpath.dirname(path)]:
            if await is_missing(system, directory):
                message, hint = missing_directory(directory)
                raise FileMissingError(message, hint=hint, details=error.details) from error
        raise


async def is_missing(system: System, path: str) -> bool:
    """Whether the system reports that a path does not exist. False if it does not say."""
    try:
        await system.stat(path)
    except FileMissingError:
        return True
    except CrestlineError:
        return False
    return False


async def is_directory(system: System, path: str, *, follow: bool = True) -> bool:
    """Whether a path on the system is a directory, or with `follow` a link to one. False if it does not exist."""
    try:
        return stat.S_ISDIR((await system.stat(path, follow=follow))["mode"])
    except FileMissingError:
        return False


async def read_last_lines(system: System, path: str, count: int) -> tuple[bytes, str]:
    """Return the last lines of a file, and the position from which `System.follow` continues.

    A plain FirecREST does not serve byte ranges, so the whole file is read there.

    Raises:
        FileMissingError: the file does not exist.
    """
    if not system.supports_ranges:
        content = await system.read_bytes(path)
        whole, partial = content.count(b"\n"), content.rpartition(b"\n")[2]
        return last_lines(content, count), f"lines:{whole}:{len(partial.decode(errors='replace'))}"
    end = start = (await system.stat(path))["size"]
    content = b""
    while start > 0 and content.count(b"\n") <= count:
        length = min(_CHUNK, start)
        start -= length
        content = await system.read_range(path, start, length) + content
    return last_lines(content, count), f"bytes:{end}"


def last_lines(content: bytes, count: int) -> bytes:
    """Return the last `count` lines, including an unterminated last line."""
    lines = content.split(b"\n")
    end = [] if lines[-1] else [lines.pop()]  # the text ends with a newline
    return b"\n".join([*lines[-count:], *end]) if count else b""


async def read_file(system: System, path: str) -> AsyncIterator[bytes]:
    """Yield the content of a file on the system.

    Raises:
        FileMissingError: the file does not exist.
        InvalidRequestError: the path is a directory.
    """
    from crestline.client import Capability

    if Capability.CONTENT in system.capabilities:
        async for chunk in system.backend.files.read(path):
            yield chunk
        return
    if await is_directory(system, path):
        raise InvalidRequestError(f"{path} is a directory.", hint=f"List it: crestline ls {path}")
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        local = Path(place, "content")
        await system.download(path, local)
        async with await anyio.open_file(local, "rb") as file:
            while chunk := await file.read(_CHUNK):
                yield chunk
