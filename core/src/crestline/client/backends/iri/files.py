"""`/filesystem` of the IRI API: the files of one resource, each operation a task."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import posixpath
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from crestline.client.backends.base import FileEndpoints
from crestline.client.backends.iri.calls import Calls
from crestline.client.backends.iri.errors import error_from_task
from crestline.client.backends.iri.tasks import TaskMonitor, failure_of, output_of
from crestline.client.backends.lost_answers import exists, is_link, is_missing, settle
from crestline.client.backends.transport import RetryMode
from crestline.model import (
    ConflictError,
    File,
    FileType,
    GatewayUnavailableError,
    NotFoundError,
    TooLargeError,
    UnsupportedError,
)
from crestline.wire import iri

logger = logging.getLogger(__name__)

T = TypeVar("T")

_METHODS = {
    "ls": "GET",
    "stat": "GET",
    "tail": "GET",
    "view": "GET",
    "checksum": "GET",
    "download": "GET",
    "rm": "DELETE",
    "chmod": "PUT",
}
"""v1's methods for operations whose fields travel in the query, and of `chmod`; all others, and all of v2, are POST"""
_IN_QUERY = ("GET", "DELETE")
_SAFE = frozenset({"ls", "stat", "tail", "view", "checksum", "download", "chmod", "upload", "compress", "extract"})
"""operations that may run twice"""
_SLOW = frozenset({"cp", "mv", "rm", "compress", "extract", "checksum"})
"""operations that take as long as there are files"""
_SLOW_LIMIT = 3600.0
_TYPES = {
    "file": FileType.FILE,
    "f": FileType.FILE,
    "regular": FileType.FILE,
    "directory": FileType.DIRECTORY,
    "dir": FileType.DIRECTORY,
    "link": FileType.LINK,
    "symlink": FileType.LINK,
}


class Files(FileEndpoints):
    """The files of one storage resource.

    Args:
        resource: its id; None: the facility serves no files here.
    """

    def __init__(self, calls: Calls, tasks: TaskMonitor, system: str, resource: str | None) -> None:
        self._calls = calls
        self._tasks = tasks
        self._system = system
        self._resource = quote(resource, safe="") if resource is not None else None

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        found = await self._run("stat", path, dereference=follow)
        if not isinstance(found, dict):
            raise _unreadable("stat", path)
        numbers = {name: value for name, value in found.items() if isinstance(value, int | float | str)}
        return {name: int(float(value)) for name, value in numbers.items() if _is_number(value)}

    async def checksum(self, path: str) -> str:
        found = await self._run("checksum", path)
        return str(found.get("checksum") if isinstance(found, dict) else found).lower()

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        await settle(lambda: self._run("mkdir", path, parent=parents), lambda: exists(self, path))

    async def remove(self, path: str) -> None:
        await settle(lambda: self._run("rm", path), lambda: is_missing(self, path))

    async def symlink(self, target: str, link: str) -> None:
        await settle(lambda: self._run("symlink", target, link_path=link), lambda: is_link(self, link, target))

    async def chmod(self, path: str, mode: str) -> File | None:
        found = await self._run("chmod", path, mode=mode)
        return _file(_convert(found, iri.File, "chmod", path)) if isinstance(found, dict) and "name" in found else None

    async def copy(self, source: str, target: str) -> None:
        await self._run("cp", source, target_path=target)

    async def move(self, source: str, target: str) -> None:
        await self._run("mv", source, target_path=target)

    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        await self._run("upload", posixpath.join(directory, name), upload=(name, content))

    async def download_small(self, path: str) -> bytes:
        try:
            found = await self._run("download", path)
        except UnsupportedError as error:
            text = await self._view_whole(path, error)
            if "\ufffd" in text:  # bytes that are not UTF-8 are lost
                raise
            return text.encode()
        try:
            return base64.b64decode(found if isinstance(found, str) else "!", validate=False)
        except (binascii.Error, ValueError):
            raise _unreadable("download", path) from None

    async def tail_lines(self, path: str, first: int) -> str:
        if first <= 1:
            try:
                return (await self.download_small(path)).decode(errors="replace")
            except UnsupportedError as error:
                return await self._view_whole(path, error)
        try:
            return _content(await self._run("tail", path, lines=first - 1, skipHeading=True))
        except UnsupportedError as error:
            return "\n".join((await self._view_whole(path, error)).split("\n")[first - 1 :])

    async def _view_whole(self, path: str, refusal: UnsupportedError) -> str:
        """A text file of a facility that offers `view` alone.

        Raises:
            TooLargeError: it has more bytes than one view carries.
            UnsupportedError: the facility serves no files, or no `view` either.
        """
        if self._resource is None:
            raise refusal
        text = _content(await self._run("view", path, size=iri.SIZE_LIMIT, offset=0))
        if len(text.encode()) >= iri.SIZE_LIMIT:
            raise TooLargeError(
                f"{path} has more than {iri.SIZE_LIMIT} bytes: {self._system} shows no more of a file.",
                hint="Move files with Globus Transfer or scp.",
            )
        return text

    async def view(self, path: str, offset: int, size: int) -> str:
        # The interface counts characters, the API bytes.
        length = min(2 * size, iri.SIZE_LIMIT)
        return _content(await self._run("view", path, size=length, offset=offset))[:size]

    async def extract(self, archive: str, target: str) -> None:
        await self._run("extract", archive, target_path=target)

    async def compress(self, source: str, archive: str, *, pattern: str | None = None) -> None:
        await self._run("compress", source, target_path=archive, match_pattern=pattern)

    async def _walk(self, path: str, hidden: bool) -> Sequence[File]:
        """A recursive listing of a facility that lists one directory at a time."""
        found = [*await self.list(path, hidden=hidden)]
        for directory in [each for each in found if each.is_directory]:
            for each in await self._walk(posixpath.join(path, directory.name), hidden):
                found.append(msgspec.structs.replace(each, name=f"{directory.name}/{each.name}"))
        return found

    async def _run(self, operation: str, path: str, *, upload: tuple[str, bytes] | None = None, **fields: Any) -> Any:
        """What the task of an operation has brought, once it has ended.

        Raises:
            UnsupportedError: the facility serves no files, or does not offer the operation.
            GatewayUnavailableError: the task did not end in time.
        """
        if self._resource is None:
            raise UnsupportedError(
                f"{self._system} offers no operations on files through its API.",
                hint="Move files with Globus Transfer or scp, and let scripts use what is there.",
            )
        values = {"path": path} | {name: value for name, value in fields.items() if value is not None}
        method = "POST" if self._calls.version >= 2 else _METHODS.get(operation, "POST")
        in_query = method in _IN_QUERY or upload is not None
        how: RetryMode = RetryMode.IDEMPOTENT if operation in _SAFE else RetryMode.NON_IDEMPOTENT
        try:
            response = await self._calls.request(
                method,
                f"/filesystem/{operation}/{self._resource}",
                how=how,
                params=values if in_query else None,
                body=None if in_query else values,
                upload=upload,
            )
        except NotFoundError as error:  # of the operation or the resource: a missing file fails the task
            raise UnsupportedError(
                f"{self._system} does not offer {operation} of files: {error.message}",
                hint="Move files with Globus Transfer or scp.",
            ) from None
        task_id = self._calls.read(response, iri.TaskSubmitted).task_id
        limit = 4 * self._calls.policy.retry.total_timeout
        try:
            task = await self._tasks.wait(task_id, max(limit, _SLOW_LIMIT) if operation in _SLOW else limit)
        except asyncio.CancelledError:
            try:
                await asyncio.shield(self._tasks.cancel(task_id))
            except Exception:  # the caller has left: the facility ends the task by itself
                logger.debug("Task %s of %s could not be cancelled", task_id, self._system, exc_info=True)
            raise
        if task.status == iri.TaskState.COMPLETED:
            return output_of(task)
        if task.status == iri.TaskState.FAILED:
            raise error_from_task(failure_of(task), operation, path)
        raise ConflictError(f"The facility cancelled {operation} of {path}.", hint="Try again.")

    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        try:
            found = await self._run("ls", path, showHidden=hidden, recursive=recursive)
        except UnsupportedError:
            if not recursive or self._resource is None:
                raise
            return [*await self._walk(path, hidden)]
        return [_file(each) for each in _convert(found, list[iri.File], "ls", path)]


def _convert(value: Any, kind: type[T], operation: str, path: str) -> T:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        raise _unreadable(operation, path) from None


def _unreadable(operation: str, path: str) -> GatewayUnavailableError:
    return GatewayUnavailableError(
        f"The facility's answer to {operation} of {path} cannot be read.", hint="Report it to the facility."
    )


def _content(found: Any) -> str:
    return str(found.get("content") or "") if isinstance(found, dict) else str(found or "")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"-?\d+(\.\d+)?", str(value)) is not None


def _file(found: iri.File) -> File:
    permissions = found.permissions or ""
    kind = _TYPES.get(found.type.lower()) or next((each for each in FileType if each.value == found.type), None)
    if len(permissions) == 10:
        kind = kind or next((each for each in FileType if each.value == permissions[0]), None)
        permissions = permissions[1:]
    return File(
        name=found.name,
        type=kind or FileType.FILE,
        size=found.size,
        permissions=permissions,
        user=found.user or "",
        group=found.group or "",
        modified=_modified(found.last_modified or ""),
        link_target=found.link_target or None,
    )


def _modified(text: str) -> str:
    """A time as `YYYY-MM-DDTHH:MM:SS`; facilities write it in different ways."""
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(float(text)))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (found.astimezone(UTC) if found.tzinfo else found).strftime("%Y-%m-%dT%H:%M:%S")
