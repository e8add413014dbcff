"""Operations of `System` on files and directories."""

from __future__ import annotations

import abc
import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.client.backends.base import Backend
from crestline.client.connection import Connection
from crestline.client.directory_watch import watch_directory
from crestline.client.policy import Policy
from crestline.model import (
    CrestlineError,
    File,
    FileMissingError,
    GatewayUnavailableError,
    UnsupportedError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from crestline.client.files import BundleFile, BundleFilter, IgnoreRules, MapLink, Progress, TransferReport


class SystemFiles(abc.ABC):
    """The operations of `System` on files and directories."""

    _policy: Policy

    @property
    @abc.abstractmethod
    def connection(self) -> Connection:
        """The open connection."""

    @property
    def backend(self) -> Backend:
        """The facility API below, for operations that this class does not offer."""
        return self.connection.backend

    # names in the file system

    async def ls(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        """List the entries of a directory, or a file itself.

        Args:
            path: directory or file.
            hidden: True to include names that begin with a dot.
            recursive: True to include all levels below; names are then relative to `path`.

        Raises:
            FileMissingError: the path does not exist.
        """
        return await self.backend.files.list(path, hidden=hidden, recursive=recursive)

    async def glob(self, pattern: str) -> list[str]:
        """Return the absolute paths that a pattern (`*`, `?`, `[...]`) matches, sorted. A path without wildcards
        matches itself if it exists.

        Raises:
            InvalidRequestError: the pattern is not absolute.
        """
        from crestline.client.remote_names import check_remote, expand

        return await expand(self.backend, check_remote(pattern))

    async def wait_for_path(self, pattern: str, *, interval: float = 10.0, timeout: float | None = None) -> list[str]:
        """Wait until a path, or a path that matches a pattern, exists.

        Args:
            pattern: absolute path or pattern.
            interval: seconds between two listings.
            timeout: seconds to wait at most. None: without limit.

        Returns:
            the absolute paths that match.

        Raises:
            WaitTimeoutError: no path matches within `timeout`.
        """
        from crestline.client.files.wait_for_path import wait_for_path

        try:
            async with asyncio.timeout(timeout):
                return await wait_for_path(self.backend, pattern, interval)
        except TimeoutError:
            raise WaitTimeoutError(
                f"{pattern} has not appeared within {timeout:g} s.", hint="Look at the job that writes it."
            ) from None

    def watch_directory(self, path: str, *, retry_timeout: float = 600.0) -> AsyncGenerator[list[File], None]:
        """Iterate without end over the new entries of a directory, once per listing (at most 1.2 s apart).

        Args:
            path: directory.
            retry_timeout: seconds to retry while the gateway does not answer.

        Raises:
            GatewayUnavailableError: the gateway has not answered for `retry_timeout` seconds.
        """
        return watch_directory(self.backend, path, retry_timeout=retry_timeout)

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        """Fetch the numbers of stat(2), among them `mode` and `size` in bytes.

        Args:
            path: file or directory.
            follow: False for the numbers of a link itself.

        Raises:
            FileMissingError: the path does not exist.
        """
        return await self.backend.files.stat(path, follow=follow)

    async def checksum(self, path: str) -> str:
        """Fetch the SHA-256 of a remote file, in hexadecimal digits."""
        return await self.backend.files.checksum(path)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Create a directory.

        Args:
            path: directory.
            parents: True to create the directories above it too, and to accept directories that exist.
        """
        await self.backend.files.mkdir(path, parents=parents)

    async def remove(self, path: str, *, force: bool = False) -> None:
        """Delete a file, or a directory with its content.

        Args:
            path: file or directory.
            force: True to retry after a refusal with all directories made writable. This also deletes read-only
                directories, such as Go's module cache, at two requests for each.

        Raises:
            FileMissingError: the path does not exist.
        """
        try:
            await self.connection.files.remove(path)
        except (FileMissingError, GatewayUnavailableError):
            raise
        except CrestlineError:
            if not force:
                raise
            await self.chmod(path, "700")
            await self._make_removable(path)
            await self.connection.files.remove(path)

    async def _make_removable(self, path: str) -> None:
        for entry in await self.ls(path, hidden=True):
            if entry.is_directory:
                if entry.permissions[:3] != "rwx":
                    await self.chmod(f"{path}/{entry.name}", "700")
                await self._make_removable(f"{path}/{entry.name}")

    async def symlink(self, target: str, link: str) -> None:
        """Create the symbolic link `link`, which points to `target`."""
        await self.backend.files.symlink(target, link)

    async def chmod(self, path: str, mode: str) -> File | None:
        """Set the permissions of a file or directory.

        Args:
            path: file or directory.
            mode: octal digits (`"644"`).

        Returns:
            the entry after the change, or None if the gateway does not return it.
        """
        return await self.backend.files.chmod(path, mode)

    async def copy(self, source: str, target: str) -> None:
        """Copy a file or directory within the system. On plain FirecREST this runs as a job of the scheduler."""
        from crestline.client.files.copy_and_move import copy

        await copy(self.connection.files, source, target)

    async def move(self, source: str, target: str) -> None:
        """Move or rename a file or directory within the system. On plain FirecREST this runs as a scheduler job."""
        from crestline.client.files.copy_and_move import move

        await move(self.connection.files, source, target)

    # content

    async def upload(
        self,
        local: str | os.PathLike[str],
        remote: str,
        *,
        progress: Progress | None = None,
        wait: bool = True,
        key: str | None = None,
        ignore: IgnoreRules | None = None,
        exact: bool = False,
    ) -> TransferReport:
        """Upload a file or a directory; see `crestline.client.files.upload`."""
        from crestline.client import files

        return await files.upload(
            self.connection.files, local, remote, progress=progress, wait=wait, key=key, ignore=ignore, exact=exact
        )

    async def download(
        self,
        remote: str,
        local: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        wait: bool = True,
        key: str | None = None,
    ) -> TransferReport:
        """Download a file or a directory; see `crestline.client.files.download`."""
        from crestline.client import files

        return await files.download(self.connection.files, remote, local, progress=progress, wait=wait, key=key)

    @property
    def supports_ranges(self) -> bool:
        """True if the gateway serves byte ranges of files (`read_range`). Plain FirecREST does not."""
        return self.connection.files.supports_ranges

    async def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Read `length` bytes from byte `offset` on, or fewer at the end of the file.

        Raises:
            UnsupportedError: the gateway does not serve byte ranges (see `supports_ranges`).
        """
        if not self.supports_ranges:
            raise UnsupportedError(f"{self.backend.gateway_url} reads whole files only.", hint="Download it.")
        return b"".join([chunk async for chunk in self.backend.files.read(path, offset, length)])

    async def upload_bundle(self, remote: str, members: Sequence[BundleFile], *, cleanup: bool = True) -> int:
        """Upload files into several directories in one stream; see `crestline.client.files.upload_bundle`."""
        from crestline.client import files

        return await files.upload_bundle(
            self.connection.files, remote, members, retry_timeout=self._policy.retry.total_timeout, cleanup=cleanup
        )

    async def download_bundle(
        self, remote: str, selections: Sequence[BundleFilter], *, cleanup: bool = True, map_link: MapLink | None = None
    ) -> dict[str, list[str]]:
        """Download files of several directories in one stream; see `crestline.client.files.download_bundle`."""
        from crestline.client import files

        return await files.download_bundle(
            self.connection.files,
            remote,
            selections,
            retry_timeout=self._policy.retry.total_timeout,
            cleanup=cleanup,
            map_link=map_link or files.map_link,
        )

    @property
    def max_direct_size(self) -> int:
        """Largest size in bytes that `read_direct` and `write_direct` transfer in one request."""
        return min(self.backend.max_direct_upload, self.backend.max_direct_download)

    async def read_direct(self, path: str) -> bytes:
        """Read a file of at most `max_direct_size` bytes in one request."""
        return await self.backend.files.download_small(path)

    async def write_direct(self, directory: str, name: str, content: bytes) -> None:
        """Write a file of at most `max_direct_size` bytes in one request."""
        await self.backend.files.upload_small(directory, name, content)

    async def read_bytes(self, path: str) -> bytes:
        """Read a whole file, of any size that fits into memory."""
        if (await self.backend.files.stat(path))["size"] <= self.backend.max_direct_download:
            return await self.backend.files.download_small(path)
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await self.download(path, copy)
            return await asyncio.to_thread(copy.read_bytes)

    async def read_text(self, path: str) -> str:
        """Read a whole text file. Bytes that are not valid UTF-8 are replaced."""
        return (await self.read_bytes(path)).decode(errors="replace")

    async def write_bytes(self, path: str, content: bytes) -> None:
        """Write a whole file, and replace an existing one.

        Raises:
            InvalidRequestError: `path` is a directory.
        """
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await asyncio.to_thread(copy.write_bytes, content)
            await self.upload(copy, path, exact=True)

    async def write_text(self, path: str, text: str) -> None:
        """Write a whole text file in UTF-8, and replace an existing one."""
        await self.write_bytes(path, text.encode())
