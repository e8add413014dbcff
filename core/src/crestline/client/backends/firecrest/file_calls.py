"""`/filesystem/{system}/ops` of FirecREST: what it does at once."""

from __future__ import annotations

from typing import Any

import msgspec

from crestline.client.backends.firecrest.calls import Calls
from crestline.model import ConflictError, File, FileType, GatewayUnavailableError, InvalidRequestError, MissingFileError
from crestline.wire.filesystem import Checksum, CompressRequest, ExtractRequest, FileContent, FileEntry, FileStat


class FileCalls(Calls):
    """The files of one system."""

    system: str
    features: frozenset[str]

    @property
    def _ops(self) -> str:
        return f"/filesystem/{self.system}/ops"

    def _safe(self, *paths: str) -> None:
        """Plain FirecREST puts paths between single quotes of a shell as they are.

        Raises:
            InvalidRequestError: a path that would break out of them, or is not absolute.
        """
        for path in paths:
            if not path.startswith("/"):
                raise InvalidRequestError(f"{path!r} is not an absolute path.", hint="Begin it with '/'.")
            if not self.features and ("'" in path or "\n" in path or "\0" in path):
                raise InvalidRequestError(
                    f"Plain FirecREST cannot handle the path {path!r}.", hint="Avoid quotes and line breaks in names."
                )

    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        self._safe(path)
        entries = await self._result(
            lambda: self._api.list_files(self.system, path, show_hidden=hidden, recursive=recursive),
            list[FileEntry] | None,
        )
        return [_file(entry) for entry in entries or []]

    async def stat(self, path: str) -> dict[str, int]:
        self._safe(path)
        numbers = await self._result(lambda: self._api.stat(self.system, path, dereference=True), FileStat)
        return msgspec.to_builtins(numbers)  # type: ignore[no-any-return]

    async def checksum(self, path: str) -> str:
        self._safe(path)
        return (await self._result(lambda: self._api.checksum(self.system, path), Checksum)).checksum

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        self._safe(path)
        await self._create(lambda: self._api.mkdir(self.system, path, create_parents=parents))

    async def symlink(self, target: str, link: str) -> None:
        self._safe(link)
        await self._create(lambda: self._api.symlink(self.system, target, link))

    async def chmod(self, path: str, mode: str) -> None:
        self._safe(path)
        await self._result(lambda: self._api.chmod(self.system, path, mode), Any)

    async def remove(self, path: str) -> None:
        self._safe(path)
        tries = 0

        async def send() -> Any:
            nonlocal tries
            tries += 1
            return await self._request("delete", f"{self._ops}/rm", expect=204, how="once", params={"path": path})

        try:
            await send()
        except GatewayUnavailableError as error:
            if error.status == 408 or "status:124" in error.message:
                await self._remove_by_job(path)
                return
            try:
                await send()
            except MissingFileError:
                return  # the first one did it and its answer was lost

    async def _remove_by_job(self, path: str) -> None:
        raise NotImplementedError

    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        self._safe(directory, f"/{name}")
        await self._request(
            "post", f"{self._ops}/upload", expect=204, params={"path": directory}, files={"file": (name, content)}
        )

    async def download_small(self, path: str) -> bytes:
        self._safe(path)
        return (await self._request("get", f"{self._ops}/download", expect=200, params={"path": path})).content

    async def tail_lines(self, path: str, first: int) -> str:
        self._safe(path)
        part = await self._result(
            lambda: self._api.tail(self.system, path, num_lines=first, exclude_beginning=True), FileContent
        )
        return part.content

    async def extract(self, archive: str, target: str) -> None:
        self._safe(archive, target)
        body = ExtractRequest(path=archive, target_path=target)
        await self._request("post", f"{self._ops}/extract", expect=204, how="once", body=body)

    async def compress(self, source: str, archive: str) -> None:
        self._safe(source, archive)
        body = CompressRequest(path=source, target_path=archive)
        await self._request("post", f"{self._ops}/compress", expect=204, how="once", body=body)

    async def _create(self, send: Any) -> None:
        """Make something that must not be there yet, although the answer may be lost after it was made."""
        try:
            await self._result(send, Any, how="once")
        except GatewayUnavailableError:
            try:
                await self._result(send, Any, how="once")
            except ConflictError:
                return


def _file(entry: FileEntry) -> File:
    try:
        kind = FileType(entry.type[:1])
    except ValueError:
        kind = FileType.FILE
    return File(
        name=entry.name,
        type=kind,
        size=int(entry.size) if entry.size.isdigit() else 0,
        permissions=entry.permissions,
        user=entry.user,
        group=entry.group,
        modified=entry.last_modified,
        link_target=entry.link_target,
    )
