"""The files of a system, as its user sees them."""

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
        """The open backend, with what waits for its jobs."""

    @property
    def backend(self) -> Backend:
        """The interface below, for what this class does not offer."""
        return self.connection.backend

    # names in the file system

    async def ls(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        """The entries of a directory, or a file itself."""
        return await self.backend.files.list(path, hidden=hidden, recursive=recursive)

    async def glob(self, pattern: str) -> list[str]:
        """The absolute paths that a pattern (`*`, `?`, `[...]`) matches, sorted; a plain path if it is there.

        Raises:
            InvalidRequestError: it is not absolute.
        """
        from crestline.client.remote_names import check_remote, expand

        return await expand(self.backend, check_remote(pattern))

    async def wait_for_path(self, pattern: str, *, interval: float = 10.0, timeout: float | None = None) -> list[str]:
        """What matches a path or a pattern, as soon as something does.

        Args:
            interval: seconds between two looks.
            timeout: seconds.

        Raises:
            WaitTimeoutError: nothing has appeared.
        """
        from crestline.client.files.wait_for_path import wait_for_path

        try:
            async with asyncio.timeout(timeout):
                return await wait_for_path(self.backend, pattern, interval)
        except TimeoutError:
            raise WaitTimeoutError(
                f"{pattern} has not appeared within {timeout:g} s.", hint="Look at the job that writes it."
            ) from None

    def watch_directory(self, path: str, *, patience: float = 600.0) -> AsyncGenerator[list[File], None]:
        """The new entries of a directory, once per look (at most 1.2 s apart) and without end.

        Args:
            patience: seconds to retry while the gateway does not answer.

        Raises:
            GatewayUnavailableError: no answer for longer than that.
        """
        return watch_directory(self.backend, path, patience=patience)

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        """The numbers of stat(2), `mode` and `size` among them; with `follow=False` those of a link itself."""
        return await self.backend.files.stat(path, follow=follow)

    async def checksum(self, path: str) -> str:
        """Return the SHA-256 of a remote file, in hexadecimal digits."""
        return await self.backend.files.checksum(path)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory; with `parents` also those above it, and none of them need be new."""
        await self.backend.files.mkdir(path, parents=parents)

    async def remove(self, path: str, *, force: bool = False) -> None:
        """Delete a file, or a directory with all that is in it.

        Args:
            force: where that is refused, make the directory and those in it writable, and try once more. So even
                read-only ones go, such as Go's module cache; it takes two requests for each of them.
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
        """Make `link` point to `target`."""
        await self.backend.files.symlink(target, link)

    async def chmod(self, path: str, mode: str) -> File | None:
        """Set permissions, in octal digits (`"644"`).

        Returns:
            the file or directory as it is afterwards, where the gateway says that.
        """
        return await self.backend.files.chmod(path, mode)

    async def copy(self, source: str, target: str) -> None:
        """Copy within the system; on plain FirecREST a job of the scheduler."""
        from crestline.client.files.copy_and_move import copy

        await copy(self.connection.files, source, target)

    async def move(self, source: str, target: str) -> None:
        """Rename or move within the system; on plain FirecREST a job of the scheduler."""
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
        """Send a file or a directory; see `crestline.client.files.upload`."""
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
        """Fetch a file or a directory; see `crestline.client.files.download`."""
        from crestline.client import files

        return await files.download(self.connection.files, remote, local, progress=progress, wait=wait, key=key)

    @property
    def supports_ranges(self) -> bool:
        """Whether the gateway hands out a part of a file; a plain FirecREST does not."""
        return self.connection.files.supports_ranges

    async def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from byte `offset` on, fewer at the end.

        Raises:
            UnsupportedError: the gateway has no ranges (see `supports_ranges`).
        """
        if not self.supports_ranges:
            raise UnsupportedError(f"{self.backend.gateway_url} reads whole files only.", hint="Download it.")
        return b"".join([chunk async for chunk in self.backend.files.read(path, offset, length)])

    async def upload_bundle(self, remote: str, members: Sequence[BundleFile], *, cleanup: bool = True) -> int:
        """Send files into several directories in one stream; see `crestline.client.files.upload_bundle`."""
        from crestline.client import files

        return await files.upload_bundle(
            self.connection.files, remote, members, patience=self._policy.retry.total_timeout, cleanup=cleanup
        )

    async def download_bundle(
        self, remote: str, selections: Sequence[BundleFilter], *, cleanup: bool = True, map_link: MapLink | None = None
    ) -> dict[str, list[str]]:
        """Fetch from several directories in one stream; see `crestline.client.files.download_bundle`."""
        from crestline.client import files

        return await files.download_bundle(
            self.connection.files,
            remote,
            selections,
            patience=self._policy.retry.total_timeout,
            cleanup=cleanup,
            map_link=map_link or files.map_link,
        )

    @property
    def max_direct_size(self) -> int:
        """Bytes that `read_direct` and `write_direct` certainly carry in one request."""
        return min(self.backend.max_direct_upload, self.backend.max_direct_download)

    async def read_direct(self, path: str) -> bytes:
        """Read a file of at most `max_direct_size` bytes in one request."""
        return await self.backend.files.download_small(path)

    async def write_direct(self, directory: str, name: str, content: bytes) -> None:
        """Write a file of at most `max_direct_size` bytes in one request."""
        await self.backend.files.upload_small(directory, name, content)

    async def read_bytes(self, path: str) -> bytes:
        """A whole file, of any size that memory holds."""
        if (await self.backend.files.stat(path))["size"] <= self.backend.max_direct_download:
            return await self.backend.files.download_small(path)
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await self.download(path, copy)
            return await asyncio.to_thread(copy.read_bytes)

    async def read_text(self, path: str) -> str:
        """A whole text file. Bytes that are not valid UTF-8 are replaced."""
        return (await self.read_bytes(path)).decode(errors="replace")

    async def write_bytes(self, path: str, content: bytes) -> None:
        """Write a whole file; what was there is replaced.

        Raises:
            InvalidRequestError: `path` is a directory.
        """
        with tempfile.TemporaryDirectory(prefix="crestline-") as directory:
            copy = Path(directory, "content")
            await asyncio.to_thread(copy.write_bytes, content)
            await self.upload(copy, path, exact=True)

    async def write_text(self, path: str, text: str) -> None:
        """Write a whole text file in UTF-8; what was there is replaced."""
        await self.write_bytes(path, text.encode())
