"""How files move to and from a system: the interface of the strategies, one of which is chosen when it is opened."""

from __future__ import annotations

import abc
import posixpath
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

from crestline.client.backends.base import Backend
from crestline.client.backends.lost_answers import exists
from crestline.client.backends.messages import BundleFilter, TransferMethod
from crestline.client.files.archive import StreamReader
from crestline.client.files.failures import Failures
from crestline.client.files.local import PartFile
from crestline.client.files.report import Meter, TransferReport
from crestline.client.files.tree import Listing, TreeEntry
from crestline.client.logs.sources import Source
from crestline.client.monitor import JobMonitor
from crestline.model import FileMissingError, Job, JobState, TransferError

ALONE = 64 * 1024 * 1024
"""a file of more bytes travels by itself to or from a Crestline gateway, so that a cut does not begin it again"""

Unpack = Callable[[StreamReader | IO[bytes], bool], None]
"""unpacks a tar archive, compressed or not"""


class Sent(NamedTuple):
    """What of a directory has been sent."""

    entries: list[TreeEntry]
    refused: Sequence[str] = ()
    """links that the gateway did not take"""
    pending: Sequence[str] = ()
    """ids of jobs that were not waited for"""
    temporary: Sequence[str] = ()
    """on the system, until they have ended"""


class Later(NamedTuple):
    """What of a directory another call has to fetch, when jobs have ended."""

    names: Set[str] = frozenset()
    pending: Sequence[str] = ()
    """ids of the transfer jobs to wait for"""
    temporary: Sequence[str] = ()
    """on the system, until they have ended"""


@dataclass(frozen=True)
class TreeDownload:
    """A directory that is fetched."""

    remote: str
    root: Path
    """the directory on this machine"""
    listing: Listing
    needed: Set[str]
    """the files that differ"""
    absent: Set[str]
    """of the `doubtful`, those that are not here"""
    meter: Meter
    wait: bool
    """see `download`"""
    key: str
    """see `download`"""
    failures: Failures = field(default_factory=Failures)
    """collects what does not come"""

    def path(self, name: str) -> str:
        """The path of a file on the system."""
        return posixpath.join(self.remote, name)


class FileStrategy(abc.ABC):
    """How files move to and from one system."""

    supports_ranges: ClassVar[bool]
    """whether a part of a file can be fetched"""
    streams_trees: ClassVar[bool]
    """whether the files of a directory travel as one stream, in which large ones are better left out"""
    packs_links: ClassVar[bool]
    """whether what is selected by patterns comes with its symbolic links"""

    def __init__(self, backend: Backend, monitor: JobMonitor) -> None:
        self.backend = backend
        self._monitor = monitor

    async def finish(self, transfer: TransferMethod | None) -> None:
        """Wait until a transfer's job has done its work; None: the work is done already.

        Raises:
            JobNotFoundError: the scheduler does not know the job.
            TransferError: the job failed.
        """
        if transfer is not None:
            job = Job(job_id=transfer.job_id, state=JobState.SUBMITTED)
            await self.backend.transfers.end(transfer, await self._monitor.wait(job))

    async def remove(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it."""
        transfer = await self.backend.files.remove(path)
        try:
            await self.finish(transfer)
        except TransferError:  # also where a first request did it, beyond its time
            if await exists(self.backend.files, path):
                raise

    async def remove_if_exists(self, path: str) -> None:
        """As `remove`; nothing to delete is not an error."""
        try:
            await self.remove(path)
        except FileMissingError:
            return

    @abc.abstractmethod
    def log_source(self, path: str) -> Source:
        """How a growing text file is read."""

    @abc.abstractmethod
    def is_askable(self, path: str) -> bool:
        """Whether requests can name this path."""

    @abc.abstractmethod
    async def checksum(self, path: str, size: int) -> str | None:
        """Hexadecimal SHA-256 of a remote file of about `size` bytes, None if the system does not compute it in time.

        Raises:
            FileMissingError: it is not there.
        """

    # to the system

    @abc.abstractmethod
    async def send(self, source: Path, path: str, meter: Meter, checksum: str | None) -> None:
        """Send the content of a file, and make sure that it arrived; its mode is set by the caller."""

    @abc.abstractmethod
    async def send_one(
        self, source: Path, path: str, meter: Meter, *, status: dict[str, int] | None, checksum: str | None, wait: bool
    ) -> TransferReport:
        """Send a file that differs, under any name.

        Args:
            status: what stat(2) says of `path`; None: nothing is known of it.
            wait: see `upload`.
        """

    @abc.abstractmethod
    async def send_tree(
        self, root: Path, remote: str, entries: list[TreeEntry], meter: Meter, *, wait: bool, key: str
    ) -> Sent:
        """Send what differs of the entries below `root`. `wait`, `key`: see `upload`."""

    @abc.abstractmethod
    async def unpack_remote(self, remote: str, pieces: Iterator[bytes], *, cleanup: bool) -> None:
        """Write the members of a tar archive below `remote`; `cleanup`: see `upload_bundle`."""

    # from the system

    @abc.abstractmethod
    async def fetch(self, path: str, size: int, part: PartFile, meter: Meter) -> bool:
        """Fetch what `part` lacks of a file; whether it is then as it is there."""

    @abc.abstractmethod
    async def begin_fetch(self, path: str, status: dict[str, int], target: Path) -> TransferMethod | None:
        """Let a job prepare a file for `download_file`, where one has to; returns that job if it has not ended."""

    @abc.abstractmethod
    async def path_to_fetch(self, path: str, size: int) -> str:
        """The path by which a file is fetched."""

    @abc.abstractmethod
    async def unchanged_files(self, remote: str, root: Path, listing: Listing) -> set[str]:
        """The files of a listing that are the same below `root`, byte for byte; leaves out of it what is our own."""

    @abc.abstractmethod
    def doubtful(self, listing: Listing) -> set[str]:
        """Directories and links that may be listed under another name than their own."""

    @abc.abstractmethod
    async def fetch_tree(self, tree: TreeDownload) -> Later:
        """Fetch files of a directory."""

    @abc.abstractmethod
    async def fetch_selected(
        self, remote: str, selections: Sequence[BundleFilter], unpack: Unpack, *, cleanup: bool
    ) -> None:
        """Fetch what is selected as one tar archive; `cleanup`: see `upload_bundle`."""
