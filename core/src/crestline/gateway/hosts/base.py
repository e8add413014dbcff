"""The interface of hosts."""

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
"""Total size in bytes of the output of a user's programs that is read as a whole at the same time."""
MAX_ANSWER = 1024 * 1024
"""Size in bytes that a program's output may have unless its caller expects more."""
MAX_ERRORS = 4 * 1024 * 1024
"""Maximum size in bytes of a program's standard error that is kept."""


class OpenFile(abc.ABC):
    """A regular file, open for reading. It remains the same file if another file takes its name meanwhile."""

    size: int
    """Size in bytes when it was opened."""
    etag: str
    """Changes with the content (inode, size and time of modification); without quotes."""
    modified: float
    """Seconds since the epoch."""

    @abc.abstractmethod
    def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes from `offset` on, fewer than `length` at the end of the file."""

    @abc.abstractmethod
    async def close(self) -> None: ...


class TemporaryFiles:
    """Records a host's temporary files, so that those left by a killed gateway are removed later.

    This implementation records nothing.
    """

    async def begin(self, username: str, path: str) -> None:
        """Record a temporary file or directory of `username` before its creation."""

    async def end(self, username: str, path: str, *, is_gone: bool) -> None:
        """Record that the gateway no longer uses it; `is_gone` says that it was removed or renamed."""

    async def begin_operation(self, username: str, path: str, identifier: str) -> None:
        """Record temporary files named after `identifier`, beside `path` or below it, before their creation."""

    async def end_operation(self, username: str, path: str, identifier: str) -> None:
        """Record that none of them exists any more."""


class Uploads(abc.ABC):
    """Files being uploaded, in one or several requests, under a temporary name until they are complete."""

    @abc.abstractmethod
    async def write(self, path: str, chunks: AsyncIterator[bytes], checksum: str | None) -> None:
        """Write a whole file; see `Files.write`."""

    @abc.abstractmethod
    async def offset(self, path: str, upload_id: str) -> int:
        """Return the number of bytes that the unfinished upload `upload_id` of `path` has stored, or 0."""

    @abc.abstractmethod
    async def append(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append to an unfinished upload and return the number of bytes stored.

        Raises:
            ConflictError: `offset` is not the end of the upload.
        """

    @abc.abstractmethod
    async def reserve(self, path: str, upload_id: str, size: int) -> None:
        """Start an upload whose parts arrive in any order. Its file has `size` bytes from the start.

        Raises:
            TooLargeError: the file system has too little free space.
        """

    @abc.abstractmethod
    async def piece(self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        """Write `length` bytes at `offset` of a reserved upload and return their MD5 in hexadecimal.

        Raises:
            FileMissingError: the upload was not reserved.
            InvalidRequestError: the number of bytes differs from `length`.
        """

    @abc.abstractmethod
    async def finish(self, path: str, upload_id: str, checksum: str | None = None) -> None:
        """Check an upload and rename it to `path`.

        Raises:
            TransferError: the content does not match `checksum`. The upload was discarded.
        """

    @abc.abstractmethod
    async def discard(self, path: str, upload_id: str) -> None:
        """Discard an upload, if it exists."""


class Files(abc.ABC):
    """The files of one machine as one user sees them.

    Hosts check paths, and no other layer does: each method refuses a path outside the system's file systems. Paths
    never reach a shell. Methods raise the errors of `crestline.model`, with the texts that FirecREST's clients match:
    `FileMissingError` ("... No such file or directory"), `PermissionDeniedError` ("... Permission denied"),
    `InvalidRequestError` ("... File exists", "... Not a directory").
    """

    uploads: Uploads
    """The user's uploads."""

    @abc.abstractmethod
    def check(self, path: str) -> str:
        """Return `path` normalised, to be stored or compared, without access to the file system.

        Raises:
            InvalidRequestError: the path is outside the system's file systems.
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
        """Return a directory's entries sorted by name, or the one entry of a file."""

    @abc.abstractmethod
    async def entry(self, path: str) -> FileEntry:
        """Return `path` itself as an entry. Its `name` is the whole path."""

    @abc.abstractmethod
    async def stat(self, path: str, *, dereference: bool = False) -> FileStat:
        """Return stat(2) or, without `dereference`, lstat(2)."""

    @abc.abstractmethod
    async def open(self, path: str) -> OpenFile:
        """Open a regular file for reading."""

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes from `offset` on, in chunks. Errors are raised before the first chunk."""
        file = await self.open(path)
        try:
            async for chunk in file.chunks(offset, length):
                yield chunk
        finally:
            await file.close()

    async def write(self, path: str, chunks: AsyncIterator[bytes], *, checksum: str | None = None) -> None:
        """Write a whole file atomically: under a temporary name beside it, then renamed.

        Args:
            path: absolute path of the file.
            chunks: the content.
            checksum: hexadecimal SHA-256, or CRC-32, of the content.

        Raises:
            TransferError: the content does not match `checksum`. The file is unchanged.
        """
        await self.uploads.write(path, chunks, checksum)

    @abc.abstractmethod
    async def discard_temporary(self, path: str) -> None:
        """Remove a temporary file or directory that a killed gateway has left, if it exists."""

    async def discard_temporaries(self, path: str, identifier: str) -> None:
        """Remove the temporary files that a killed gateway has left of an operation (see
        `TemporaryFiles.begin_operation`).

        This implementation does nothing, for hosts whose operations create no such files.
        """

    @abc.abstractmethod
    async def make_directory(self, path: str, *, parents: bool = False) -> FileEntry: ...

    @abc.abstractmethod
    async def symlink(self, target: str, link: str) -> FileEntry: ...

    @abc.abstractmethod
    async def chmod(self, path: str, mode: str) -> FileEntry:
        """Change the mode, octal as in `755`."""

    @abc.abstractmethod
    async def chown(self, path: str, owner: str, group: str) -> FileEntry:
        """Change owner and group. Empty strings leave them unchanged."""

    @abc.abstractmethod
    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with its content."""

    @abc.abstractmethod
    async def copy(self, source: str, target: str, *, dereference: bool = False) -> None:
        """Copy as `cp -r`: into `target` if that is a directory."""

    @abc.abstractmethod
    async def move(self, source: str, target: str) -> None:
        """Move as `mv`: into `target` if that is a directory."""

    @abc.abstractmethod
    async def checksum(self, path: str) -> Checksum: ...

    @abc.abstractmethod
    async def file_type(self, path: str) -> str:
        """Return the description of file(1), for example `ASCII text`."""

    @abc.abstractmethod
    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        """Pack a file or directory as a tar archive; with `pattern`, only files whose whole path matches."""

    @abc.abstractmethod
    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        """Unpack a tar archive into a directory. Members that would leave the directory are refused."""

    @abc.abstractmethod
    def tar(self, path: str, members: Sequence[str] | None = None, *, gzip: bool = False) -> AsyncIterator[bytes]:
        """Stream a directory, or the named members below it, as tar, with names relative to the directory."""

    @abc.abstractmethod
    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        """Return the selected paths below `path`. Directories and files that do not exist are left out."""

    @abc.abstractmethod
    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the members of a tar stream (plain or gzip) below a directory, each file atomically."""

    @abc.abstractmethod
    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Return which of these files below `path` are missing or have another SHA-256."""


@dataclass(frozen=True)
class Completed:
    """Exit status and output of a command that has ended."""

    exit_status: int
    """Exit status; 128 + n if signal n ended the command."""
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
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        """Run a program to its end. A non-zero exit status is not an error.

        Args:
            user: the POSIX user that it runs as.
            argv: program and arguments, passed on unchanged.
            input: its standard input; None: empty.
            env: variables in addition to those of a login of `user`. Other users of the machine can read them.
            timeout: seconds after which it is ended.
            max_output: bytes of standard output after which it is ended; `MAX_OUTPUT` at most.

        Raises:
            TooLargeError: it wrote more than `max_output` bytes.
            GatewayUnavailableError: the program did not end in time, or the connection failed. It may have had an
                effect.
            PermissionDeniedError: the machine refuses the login of `user`.
        """


@dataclass(frozen=True)
class HostSetup:
    """The parts from which a host is created."""

    name: str
    """Name of the system."""
    guard: PathGuard
    options: Mapping[str, Any]
    """The system's `host` table."""
    directory: Path
    """A directory of the gateway, private to this system."""
    archives: ArchiveLimits = field(default_factory=ArchiveLimits)
    temporary_files: TemporaryFiles = field(default_factory=TemporaryFiles)


class Host(Commands):
    """A machine of a system: runs commands and serves files as each user."""

    acts_as_gateway: ClassVar[bool] = False
    """Whether all users' files and commands belong to the gateway's own account, on its own machine."""
    name: str
    secret_files: Sequence[Path] = ()
    """Secrets that the host created in its directory. Gateways on one database share them."""

    @classmethod
    @abc.abstractmethod
    def create(cls, setup: HostSetup) -> Host:
        """Create a host, which `start` starts.

        Raises:
            ConfigError: an option is missing, unknown or invalid.
        """

    async def start(self) -> None:
        """Start background tasks. Called once, in the event loop of all later calls."""

    async def stop(self) -> None:
        """Close all connections and stop all tasks. Jobs continue."""

    async def diagnose(self, name: str) -> AsyncIterator[Check]:
        """Yield the checks of `crestline doctor` that need no login.

        Args:
            name: name of the check.
        """
        return
        yield

    @abc.abstractmethod
    def files(self, user: str) -> Files:
        """Return the machine's files as `user` sees them."""

    @abc.abstractmethod
    async def user_info(self, user: str) -> UserInfo:
        """Return ids and groups of `user`. The scheduler adds `accounts`."""

    async def uid(self, user: str) -> int | None:
        """Return the uid of `user` on the machine, or None if it is unknown or all users act as the gateway's account.

        Raises:
            GatewayUnavailableError: the machine does not respond.
            PermissionDeniedError: the machine refuses the login of `user`.
        """
        return None

    @abc.abstractmethod
    async def ping(self) -> None:
        """Probe the machine.

        Raises:
            GatewayUnavailableError: the machine does not respond.
        """

    @abc.abstractmethod
    async def ping_path(self, path: str) -> None:
        """Probe a file system.

        Raises:
            GatewayUnavailableError: the file system does not respond or does not exist.
        """
