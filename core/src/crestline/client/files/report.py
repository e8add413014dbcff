"""What a transfer tells: while it runs to a callable, afterwards as a `TransferReport`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio.from_thread
import msgspec

Progress = Callable[[int, int, str], None]
"""called in the event loop with the bytes done, the bytes in all and the name of the file at hand; must not block"""

_GATHERED = 1024 * 1024
"""bytes of small files that are reported together"""


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload or a download did.

    >>> TransferReport(files=2, bytes=2048) + TransferReport(files=1, unchanged=5, bytes=100)
    TransferReport(files=3, unchanged=5, bytes=2148, excluded=(), pending=(), temporary=())
    """

    files: int = 0
    """number of files sent or fetched"""
    unchanged: int = 0
    """files that were the same on both sides"""
    bytes: int = 0
    """of the files sent or fetched"""
    excluded: tuple[str, ...] = ()
    """not taken along: sockets, pipes, devices, links out of the directory (on download or if refused), and what
    `ignore` excludes"""
    pending: tuple[str, ...] = ()
    """ids of the transfer jobs that were not waited for"""
    temporary: tuple[str, ...] = ()
    """paths on the system for the call that resumes; to give up, cancel the jobs and remove these"""

    def __add__(self, other: TransferReport) -> TransferReport:
        return TransferReport(
            files=self.files + other.files,
            unchanged=self.unchanged + other.unchanged,
            bytes=self.bytes + other.bytes,
            excluded=self.excluded + other.excluded,
            pending=self.pending + other.pending,
            temporary=self.temporary + other.temporary,
        )


class Meter:
    """Counts bytes and tells `progress`; what is sent again is taken back first."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.total = 0
        self.done = 0

    def add(self, count: int, name: str) -> None:
        """`count` more bytes of `name`, negative for those that did not arrive."""
        self.done += count
        if self._progress is not None:
            self._progress(self.done, self.total, name)

    @contextmanager
    def gathered(self) -> Iterator[Callable[[int, str], None]]:
        """As `add_from_thread`, for many small files: reports to the event loop once per MiB, and at the end."""
        waiting = 0
        last = ""

        def counted(count: int, name: str) -> None:
            nonlocal waiting, last
            anyio.from_thread.check_cancelled()
            waiting, last = waiting + count, name
            if waiting >= _GATHERED:
                self.add_from_thread(waiting, last)
                waiting = 0

        yield counted
        if waiting:
            self.add_from_thread(waiting, last)

    def add_from_thread(self, count: int, name: str) -> None:
        """As `add`, from a worker thread of anyio's; ends the thread's work if it was cancelled."""
        anyio.from_thread.check_cancelled()
        anyio.from_thread.run_sync(self.add, count, name)
