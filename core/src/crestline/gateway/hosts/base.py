"""The interface behind which every machine stands."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from crestline.gateway.paths import PathGuard
from crestline.model.checks import Check
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Checksum, Compression, FileEntry, FileStat
from crestline.wire.status import UserInfo
from crestline.wire.tar import ArchiveLimits

MAX_OUTPUT = 256 * 1024 * 1024
"""bytes that all programs of a user may write at a time that are read as a whole"""
MAX_ERRORS = 4 * 1024 * 1024
"""bytes of a program's standard error that are kept"""


class OpenFile(abc.ABC):
    """A regular file that is open for reading: it stays the same file, whatever takes its name meanwhile."""

    size: int
    """bytes when it was opened"""
    etag: str
    """changes with the content (inode, size and time of modification), without quotes"""
    modified: float
    """seconds since the epoch"""

    @abc.abstractmethod
    def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `offset` on; fewer than `length` where the file ends."""

    @abc.abstractmethod
    async def close(self) -> None: ...


class TemporaryFiles:
    """Where a host writes down its temporary files: what a killed gateway leaves of them is removed later.

    This one forgets them.
    """

    async def begin(self, username: str, path: str) -> None:
        """A temporary file or directory of `username` is about to be made."""

    async def end(self, username: str, path: str, *, is_gone: bool) -> None:
        """The gateway is done with it; `is_gone` says that nothing has its name any more."""

    async def begin_operation(self, username: str, path: str, identifier: str) -> None:
        """Temporary files that `identifier` names are about to be made, beside `path` or below it."""

    async def end_operation(self, username: str, path: str, identifier: str) -> None:
        """None of them is there any more."""


class Uploads(abc.ABC):
    """Files that arrive, at once or over several requests, under a temporary name until they are whole."""

    @abc.abstractmethod
    async def write(self, path: str, chunks: AsyncIterator[bytes], checksum: str | None) -> None:
        """Write a whole file; see `Files.write`."""

    @abc.abstractmethod
    async def offset(self, path: str, upload_id: str) -> int:
        """Bytes that the unfinished upload `upload_id` of `path` has stored, 0 if there is none."""

    @abc.abstractmethod
    async def append(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append to an unfinished upload; returns the bytes stored.

        Raises:
            ConflictError: `offset` is not where it stands.
        """

    @abc.abstractmethod
    async def reserve(self, path: str, upload_id: str, size: int) -> None:
        """Begin an upload whose pieces come in any order: its file has `size` bytes from the start.

        Raises:
            TooLargeError: the file system has no room for it.
        """

    @abc.abstractmethod
    async def piece(self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        """Write `length` bytes at `offset` of a reserved upload; returns their MD5 in hexadecimal.

        Raises:
            FileMissingError: nothing was reserved.
            InvalidRequestError: more or fewer bytes came.
        """

    @abc.abstractmethod
    async def finish(self, path: str, upload_id: str, checksum: str | None = None) -> None:
        """Check an upload and rename it to `path`.

        Raises:
            TransferError: it has another one than `checksum`; it was dropped.
        """

    @abc.abstractmethod
    async def discard(self, path: str, upload_id: str) -> None:
        """Drop an upload; nothing happens where there is none."""


class Files(abc.ABC):
    """The files of one machine as one user sees them.

    Paths are checked here and nowhere else: each method refuses one that is not inside the system's file systems. No
    path ever reaches a shell. Methods raise the errors of `crestline.model`, with the texts that FirecREST's clients
    match: `FileMissingError` ("... No such file or directory"), `PermissionDeniedError` ("... Permission denied"),
    `InvalidRequestError` ("... File exists", "... Not a directory").
    """

    uploads: Uploads
    """what the user sends"""

    @abc.abstractmethod
    def check(self, path: str) -> str:
        """Return `path` normalised, to be stored or compared; asks no file system.

        Raises:
            InvalidRequestError: it is outside the system's file systems.
        """

    @abc.abstractmethod
    async def list(
        self,
        path: str,
        *,
        hidden: bool = False,
        recursive: bool = False,
        dereference: bool = False,
        numeric: bool = False,
    ) -> Sequence[FileEntry]:
        """A directory's entries sorted by name, or the one entry of a file."""

    @abc.abstractmethod
    async def entry(self, path: str) -> FileEntry:
        """`path` itself as a listing shows it; `name` is the whole path."""

    @abc.abstractmethod
    async def stat(self, path: str, *, dereference: bool = False) -> FileStat:
        """stat(2) or, without `dereference`, lstat(2)."""

    @abc.abstractmethod
    async def open(self, path: str) -> OpenFile:
        """Open a regular file for reading."""

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `offset` on, in chunks; errors come with the first."""
        file = await self.open(path)
        try:
            async for chunk in file.chunks(offset, length):
                yield chunk
        finally:
            await file.close()

    async def write(self, path: str, chunks: AsyncIterator[bytes], *, checksum: str | None = None) -> None:
        """Write a whole file atomically: under a temporary name beside it, then renamed.

        Args:
            checksum: hexadecimal SHA-256, or CRC-32, that the content must have.

        Raises:
            TransferError: it has another one; nothing was changed.
        """
        await self.uploads.write(path, chunks, checksum)

    @abc.abstractmethod
    async def discard_temporary(self, path: str) -> None:
        """Remove a temporary file or directory that a killed gateway has left, if it is there."""

    async def discard_temporaries(self, path: str, identifier: str) -> None:
        """Remove what a killed gateway has left of an operation (see `TemporaryFiles.begin_operation`).

        This removes nothing, for hosts whose operations make no such files.
        """

    @abc.abstractmethod
    async def make_directory(self, path: str, *, parents: bool = False) -> FileEntry: ...

    @abc.abstractmethod
    async def symlink(self, target: str, link: str) -> FileEntry: ...

    @abc.abstractmethod
    async def chmod(self, path: str, mode: str) -> FileEntry:
        """`mode` octal, as in `755`."""

    @abc.abstractmethod
    async def chown(self, path: str, owner: str, group: str) -> FileEntry:
        """Empty strings leave the owner or the group as it is."""

    @abc.abstractmethod
    async def remove(self, path: str) -> None:
        """A file, or a directory with all below it."""

    @abc.abstractmethod
    async def copy(self, source: str, target: str, *, dereference: bool = False) -> None:
        """As `cp -r`: into `target` if that is a directory."""

    @abc.abstractmethod
    async def move(self, source: str, target: str) -> None:
        """As `mv`: into `target` if that is a directory."""

    @abc.abstractmethod
    async def checksum(self, path: str) -> Checksum: ...

    @abc.abstractmethod
    async def file_type(self, path: str) -> str:
        """What file(1) says of it (`ASCII text`)."""

    @abc.abstractmethod
    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        """Pack a file or directory as a tar archive; with `pattern` the files whose path it matches as a whole."""

    @abc.abstractmethod
    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        """Unpack a tar archive into a directory; members that would leave it are refused."""

    @abc.abstractmethod
    def tar(self, path: str, members: Sequence[str] | None = None, *, gzip: bool = False) -> AsyncIterator[bytes]:
        """A directory, or the named members below it, as one tar stream with names below the directory."""

    @abc.abstractmethod
    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        """The paths below `path` of what is selected; directories and files that are not there are left out."""

    @abc.abstractmethod
    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the members of a tar stream (plain or gzip) below a directory, each file atomically."""

    @abc.abstractmethod
    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Which of these files below `path` are absent or have another SHA-256."""


@dataclass(frozen=True)
class Completed:
    """Exit status and output of a command that has ended."""

    exit_status: int
    """128 + n for one that signal n ended"""
    stdout: bytes
    stderr: bytes


class Commands(abc.ABC):
    """Runs programs on one machine on behalf of many users."""

    @abc.abstractmethod
    async def run(
        self,
        user: str,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float,
    ) -> Completed:
        """Run one program to its end; whatever its exit status, that is not an error here.

        Args:
            user: the POSIX user that it runs as.
            argv: program and arguments; they reach the program as they are.
            input: its standard input; None: nothing to read.
            env: variables beside those of a login of `user`; others on the machine can read them.
            timeout: seconds after which it is ended.

        Raises:
            GatewayUnavailableError: no answer in time or no connection; whether it did its work is open.
            PermissionDeniedError: the machine does not let `user` in.
        """


@dataclass(frozen=True)
class HostSetup:
    """What a host is made from."""

    name: str
    """of the system"""
    guard: PathGuard
    options: Mapping[str, Any]
    """the system's `host` table"""
    directory: Path
    """of the gateway, private to this system"""
    archives: ArchiveLimits = field(default_factory=ArchiveLimits)
    temporary_files: TemporaryFiles = field(default_factory=TemporaryFiles)


class Host(Commands):
    """A machine of a system: runs commands and serves files as each user."""

    acts_as_gateway: ClassVar[bool] = False
    """whether all users' files and commands are those of the gateway's own account, on its own machine"""
    name: str
    secret_files: Sequence[Path] = ()
    """secrets that the host made in its directory; gateways on one database share them"""

    @classmethod
    @abc.abstractmethod
    def create(cls, setup: HostSetup) -> Host:
        """Make the host, not yet started.

        Raises:
            ConfigError: an option is missing, unknown or cannot be used.
        """

    async def start(self) -> None:
        """Take up work; called once in the event loop that all other calls come from."""

    async def stop(self) -> None:
        """Close all connections and stop all tasks; jobs continue."""

    async def diagnose(self, name: str) -> AsyncIterator[Check]:
        """What `crestline doctor` says of the machine without a login.

        Args:
            name: of the check.
        """
        return
        yield

    @abc.abstractmethod
    def files(self, user: str) -> Files:
        """The machine's files as `user` sees them."""

    @abc.abstractmethod
    async def user_info(self, user: str) -> UserInfo:
        """Ids and groups of `user`; `accounts` is the scheduler's to say."""

    async def uid(self, user: str) -> int | None:
        """The uid that `user` has there; None where that is unknown, or all users act as the gateway's own account.

        Raises:
            GatewayUnavailableError: the machine does not answer.
            PermissionDeniedError: it does not let `user` in.
        """
        return None

    @abc.abstractmethod
    async def ping(self) -> None:
        """Ask for a sign of life.

        Raises:
            GatewayUnavailableError: none came.
        """

    @abc.abstractmethod
    async def ping_path(self, path: str) -> None:
        """Ask whether a file system answers.

        Raises:
            GatewayUnavailableError: it does not, or is not there.
        """
