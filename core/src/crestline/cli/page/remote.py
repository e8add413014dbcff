"""The systems of sites, as the page uses them: connections, parts of files, uploads that come in parts."""

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
"""seconds that a list of jobs serves all tabs"""


class Remote:
    """The systems of sites. Use it in one event loop, and close it."""

    def __init__(self, sites: Mapping[str, Site], only: str | None = None) -> None:
        """Prepare the connections.

        Args:
            sites: by name, for systems named `system@site`; or the only one under an empty name, whose systems have
                their own names.
            only: the system that the page shows; None: every system of the sites.
        """
        self._sites = sites
        self._only = only
        self.is_closing = asyncio.Event()
        """set once no request should wait any longer"""
        self._open = AsyncExitStack()
        self._systems: SingleFlight[str, System] = SingleFlight()
        self._lists: SingleFlight[tuple[str, ...], bytes] = SingleFlight(ttl=_LIST_TTL, max_size=64)
        self._keys: set[str] = set()
        self._offers: dict[str, tuple[str, str]] = {}
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="crestline-page-")))

    async def close(self) -> None:
        """Close all connections and drop what was not uploaded as a whole."""
        await self._open.aclose()

    async def entries(self) -> list[dict[str, Any]]:
        """The systems, as `/status/systems` shows them."""
        parts = await map_concurrently(self._entries_of, list(self._sites), 8)
        return [entry for part in parts for entry in part]

    async def _entries_of(self, name: str) -> list[dict[str, Any]]:
        """The entries of a site; of several, one that does not answer is shown with its error, beside the others."""
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
        """The entry of a system; one that does not answer is shown as it is, beside the others."""
        try:
            return system_entry(entry, await (await self.system(entry["name"])).default_workdir())
        except CrestlineError:
            return entry

    async def system(self, name: str) -> System:
        """A connection to a system, made once.

        Raises:
            SystemNotFoundError: the page does not show it.
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
        """The JSON of a list of jobs, at most some seconds old."""

        async def fetch() -> bytes:
            system = await self.system(name)
            found = await system.jobs(ids=ids or None, window=window)
            return msgspec.json.encode({"jobs": [job_info(job) for job in found]})

        return await self._lists.get((name, str(window), *ids), fetch)

    async def submit(self, name: str, spec: JobSpec, key: str) -> str:
        """Submit a job once and return its id; a key that this page has sent before finds the job of the first time."""
        is_new = key not in self._keys
        self._keys.add(key)
        system = await self.system(name)
        [job] = await system.submit_many([spec], [key], keys_are_new=is_new)
        if isinstance(job, CrestlineError):
            raise job
        return job.job_id

    def offer(self, name: str, path: str) -> str:
        """A secret that fetches a file once, without the page's token: a browser's own download sends none."""
        while len(self._offers) >= _MOST_OFFERS:
            del self._offers[next(iter(self._offers))]
        ticket = secrets.token_urlsafe(32)
        self._offers[ticket] = (name, path)
        return ticket

    def redeem(self, ticket: str) -> tuple[str, str]:
        """The system and the path of an offer, which is gone then.

        Raises:
            FileMissingError: there is none.
        """
        try:
            return self._offers.pop(ticket)
        except KeyError:
            raise FileMissingError("The download was fetched already.", hint="Press Download again.") from None

    async def open(self, system: System, path: str) -> RemoteFile:
        """Open a file, which is read as it is asked for."""
        return RemoteFile(system, path, await system.stat(path), self._folder)

    async def tar(self, system: System, path: str) -> AsyncIterator[bytes]:
        """A directory as a tar archive."""
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
        """The local file of an upload whose parts are not all there."""
        return self._folder / hashlib.sha256(upload_id.encode()).hexdigest()

    async def receive(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> Path:
        """Append a part to an upload.

        Raises:
            ConflictError: it begins elsewhere than the last one has ended.
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
        """Upload a received file and drop the local copy.

        Raises:
            TransferError: it has another SHA-256 than the browser says.
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
    """A file of a system, read by parts where the site can, and else by one download."""

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
