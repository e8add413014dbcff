"""How supervisors reach the scheduler: lines in a FIFO, read as they come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec


class SupervisorEvent(msgspec.Struct, frozen=True):
    """One line: something has happened to a job; `request` is the name of one that was done, or failed with `error`."""

    job_id: int
    request: str = ""
    error: str = ""


class Wake:
    """Reads the FIFO within the running event loop."""

    def __init__(self, path: Path, on_news: Callable[[SupervisorEvent], None]) -> None:
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # both ways, so that it never reads as closed
        self._on_news = on_news
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            job_id, _, rest = line.decode(errors="replace").partition(" ")
            request, _, error = rest.partition(" ")
            if job_id.isascii() and job_id.isdigit():
                self._on_news(SupervisorEvent(int(job_id), request, error))
