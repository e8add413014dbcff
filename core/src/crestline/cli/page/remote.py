"""The systems of the page's sites: connections, partial reads, and uploads in parts."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import secrets
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from crestline.cli.page.messages import job_info, silent_site, system_entry
from crestline.cli.remote_files import read_part
from crestline.client import Site, System, connect, list_systems
from crestline.client.federation import QUICK
from crestline.concurrency import map_concurrently
from crestline.gateway.hosts import OpenFile
from crestline.model import (
    ConflictError,
    CrestlineError,
    FileMissingError,
    InvalidRequestError,
    JobSpec,
    SystemNotFoundError,
    TransferError,
)
from crestline.single_flight import SingleFlight

_PART = 4 * 1024 * 1024
_MOST_OFFERS = 100
_LIST_TTL = 3.0
"""Seconds that a fetched list of jobs is reused, for all tabs of the page."""


class Remote:
    """The systems of one or more sites. Use it in a single event loop, and close it."""

    def __init__(self, sites: Mapping[str, Site], only: str | None = None) -> None:
        """Prepare the connections.

        Args:
            sites: the sites by name, for systems named `system@site`. Alternatively a single site with an empty name,
                whose systems keep their own names.
            only: the system that the page shows. None shows every system of the sites.
        """
        self._sites = sites
        self._only = only
        self.is_closing = asyncio.Event()
        """Set at shutdown, so that requests stop waiting."""
        self._open = AsyncExitStack()
        self._systems: SingleFlight[str, System] = SingleFlight()
        self._lists: SingleFlight[tuple[str, ...], bytes] = SingleFlight(ttl=_LIST_TTL, max_size=64)
        self._keys: set[str] = set()
        self._offers: dict[str, tuple[str, str]] = {}
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="crestline-page-")))

    async def close(self) -> None:
        """Close all connections and discard incomplete uploads."""
        await self._open.aclose()

    async def entries(self) -> list[dict[str, Any]]:
        """Return the entries of all systems, as in `/status/systems`."""
        parts = await map_concurrently(self._entries_of, list(self._sites), 8)
        return [entry for part in parts for entry in part]

    async def _entries_of(self, name: str) -> list[dict[str, Any]]:
        """Return the entries of a site. One of several sites that is unavailable becomes an entry with its error."""
        site = self._sites[name]
        try:
            found = await list_systems(site, QUICK if name else None)
        except CrestlineError as error:
            if not name:
                raise
            return [silent_site(name, site.api, str(error))]
        if self._only is not None:
            found = [each for each in found if str(each.get("name", "")).casefold() == self._only.casefold()]
        if name:
            found = [{**each, "name": f"{each['name']}@{name}"} for each in found]
        return await map_concurrently(self._entry, [{**each, "api": site.api} for each in found], 8)

    async def _entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry of a system, unchanged if the system does not respond."""
        try:
            return system_entry(entry, await (await self.system(entry["name"])).default_workdir())
        except CrestlineError:
            return entry

    async def system(self, name: str) -> System:
        """Return the connection to a system, opened on first use.

        Raises:
            SystemNotFoundError: the page does not show this system.
        """
        if self._only is not None and name.casefold() != self._only.casefold():
            raise SystemNotFoundError(f"This page shows {self._only} alone.", hint="Start another one for that system.")
        own, _, site_name = (name, "", "") if "" in self._sites else name.rpartition("@")
        site = self._sites.get(site_name)
        if site is None:
            raise SystemNotFoundError(f"This page shows no system {name}.", hint="Choose one of those that it lists.")
        return await self._systems.get(
            name.casefold(), lambda: self._open.enter_async_context(connect(site, system=own or None))
        )

    async def jobs(self, name: str, ids: tuple[str, ...], window: int | None) -> bytes:
        """Return a list of jobs as JSON, at most a few seconds old."""

        async def fetch() -> bytes:
            system = await self.system(name)
            found = await system.jobs(ids=ids or None, window=window)
            return msgspec.json.encode({"jobs": [job_info(job) for job in found]})

        return await self._lists.get((name, str(window), *ids), fetch)

    async def submit(self, name: str, spec: JobSpec, key: str) -> str:
        """Submit a job and return its id. A key that this page has used before returns the existing job."""
        is_new = key not in self._keys
        self._keys.add(key)
        system = await self.system(name)
        [job] = await system.submit_many([spec], [key], keys_are_new=is_new)
        if isinstance(job, CrestlineError):
            raise job
        return job.job_id

    def offer(self, name: str, path: str) -> str:
        """Return a single-use secret for a download. Browsers send downloads without the page's token."""
        while len(self._offers) >= _MOST_OFFERS:
            del self._offers[next(iter(self._offers))]
        ticket = secrets.token_urlsafe(32)
        self._offers[ticket] = (name, path)
        return ticket

    def redeem(self, ticket: str) -> tuple[str, str]:
        """Return the system and the path of a download, and invalidate its secret.

        Raises:
            FileMissingError: the secret is invalid or already used.
        """
        try:
            return self._offers.pop(ticket)
        except KeyError:
            raise FileMissingError("The download was fetched already.", hint="Press Download again.") from None

    async def open(self, system: System, path: str) -> RemoteFile:
        """Open a file, whose content is read on demand."""
        return RemoteFile(system, path, await system.stat(path), self._folder)

    async def tar(self, system: System, path: str) -> AsyncIterator[bytes]:
        """Yield a directory as a tar archive."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            tree, archive = Path(folder, "tree"), Path(folder, "archive.tar")
            await system.download(path, tree)

            def pack() -> None:
                with tarfile.open(archive, "w") as tar:
                    tar.add(tree, ".")

            await asyncio.to_thread(pack)
            async for chunk in _chunks(archive):
                yield chunk

    def upload(self, upload_id: str) -> Path:
        """Return the local file that collects the parts of an upload."""
        return self._folder / hashlib.sha256(upload_id.encode()).hexdigest()

    async def receive(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> Path:
        """Append a part to an upload.

        Raises:
            ConflictError: the part does not begin at the end of the previous one.
        """
        file = self.upload(upload_id)
        size = file.stat().st_size if file.exists() else 0
        if offset != size:
            raise ConflictError(f"The upload is at {size} bytes, not at {offset}.", hint="Go on from there.")
        with file.open("ab") as target:
            async for chunk in chunks:
                await asyncio.to_thread(target.write, chunk)
        return file

    async def send(self, system: System, file: Path, path: str, sha256: str | None) -> None:
        """Upload a received file and delete the local copy.

        Raises:
            TransferError: the SHA-256 of the file differs from the browser's.
        """
        try:
            if sha256 is not None:
                with file.open("rb") as content:
                    found = (await asyncio.to_thread(hashlib.file_digest, content, "sha256")).hexdigest()
                if found != sha256.lower():
                    raise TransferError(f"{path} arrived with another checksum.", hint="Upload it again.")
            await system.upload(file, path)
        finally:
            file.unlink(missing_ok=True)


class RemoteFile(OpenFile):
    """A file of a system, read in parts if the site supports ranges, otherwise with one download."""

    def __init__(self, system: System, path: str, numbers: dict[str, int], folder: Path) -> None:
        if numbers["mode"] & 0o170000 != 0o100000:
            raise InvalidRequestError(f"{path} is not a regular file.", hint="Open a regular file.")
        self._system = system
        self._path = path
        self._folder = folder
        self.size = numbers["size"]
        self.modified = float(numbers["mtime"])
        self.etag = f"{numbers.get('ino', 0)}-{self.size}-{numbers['mtime']}"

    async def chunks(self, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        end = self.size if length is None else min(self.size, offset + length)
        if end - offset > _PART and not self._system.supports_ranges:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                copy = Path(folder, posixpath.basename(self._path))
                await self._system.download(self._path, copy)
                async for chunk in _chunks(copy, offset, end):
                    yield chunk
            return
        while offset < end:
            part = await read_part(self._system, self._path, offset, min(_PART, end - offset), self.size)
            if not part:
                return
            offset += len(part)
            yield part

    async def close(self) -> None: ...


async def _chunks(file: Path, offset: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        source.seek(offset)
        left = (file.stat().st_size if end is None else end) - offset
        while left > 0 and (chunk := await asyncio.to_thread(source.read, min(_PART, left))):
            left -= len(chunk)
            yield chunk
