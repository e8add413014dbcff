"""Removes abandoned files on a system after some time.

These are unfinished uploads in parts (`PUT ops/content`), and temporary files of a killed gateway.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable

from sqlalchemy import Column, Float, String, Table, Text, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from crestline.gateway.hosts import Files, TemporaryFiles
from crestline.gateway.store import DatabaseEngine, metadata
from crestline.model import CrestlineError, GatewayUnavailableError

ABANDONED = 3 * 86400
"""Seconds after its last part until an upload is discarded, and after its gateway's death until a temporary file is."""

_OPERATION = "\n"
"""Prefix of the ids of operations. A header, the source of uploads' ids, cannot contain it."""

_uploads = Table(
    "unfinished_uploads",
    metadata,
    Column("digest", String, primary_key=True),
    Column("system", String, nullable=False, index=True),
    Column("username", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("upload_id", Text, nullable=False),
    Column("touched", Float, nullable=False, index=True),
)

_log = logging.getLogger("crestline.transfers")


class UnfinishedUploads(TemporaryFiles):
    """The abandoned files of one system.

    A temporary file is a row without an upload's id. An operation with temporary files is a row with the prefix in its
    id.
    """

    def __init__(self, engine: DatabaseEngine, system: str) -> None:
        self._engine = engine
        self._system = system
        self._held: dict[str, tuple[str, str, str]] = {}
        """Digest -> user, path and id of the files in use by this gateway."""

    async def begin(self, username: str, path: str) -> None:
        await self._begin(username, path, "")

    async def end(self, username: str, path: str, *, is_gone: bool) -> None:
        self._held.pop(self._digest(username, path, ""), None)
        if is_gone:
            await self.forget(username, path, "")

    async def begin_operation(self, username: str, path: str, identifier: str) -> None:
        await self._begin(username, path, f"{_OPERATION}{identifier}")

    async def end_operation(self, username: str, path: str, identifier: str) -> None:
        self._held.pop(self._digest(username, path, f"{_OPERATION}{identifier}"), None)
        await self.forget(username, path, f"{_OPERATION}{identifier}")

    async def _begin(self, username: str, path: str, identifier: str) -> None:
        self._held[self._digest(username, path, identifier)] = username, path, identifier
        await self.touch(username, path, identifier)

    async def touch(self, username: str, path: str, upload_id: str) -> None:
        """Record that a part arrives. If that fails, the upload continues and is never removed."""
        row = _uploads.c.digest == self._digest(username, path, upload_id)
        values = {"system": self._system, "username": username, "path": path, "upload_id": upload_id}
        try:
            async with self._engine.begin() as connection:
                known = await connection.execute(update(_uploads).where(row).values(touched=time.time()))
                if not known.rowcount:
                    digest = self._digest(username, path, upload_id)
                    await connection.execute(insert(_uploads).values(digest=digest, touched=time.time(), **values))
        except IntegrityError:
            return  # another request of the same upload was faster
        except GatewayUnavailableError as error:
            _log.warning("an unfinished upload is not written down: %s", error)

    async def forget(self, username: str, path: str, upload_id: str) -> None:
        """Delete the record of an upload that has ended."""
        try:
            await self._delete(self._digest(username, path, upload_id))
        except GatewayUnavailableError as error:
            _log.warning("the end of an upload is not written down: %s", error)  # the sweep will find no file to remove

    async def sweep(self, files: Callable[[str], Files]) -> None:
        """Remove files that have not changed for long.

        Args:
            files: returns the files of the system's machine as a user sees them.

        Raises:
            GatewayUnavailableError: the database does not respond.
        """
        for username, path, identifier in list(self._held.values()):
            await self.touch(username, path, identifier)
        old = (_uploads.c.system == self._system) & (_uploads.c.touched < time.time() - ABANDONED)
        for row in await self._engine.rows(select(_uploads).where(old)):
            try:
                if row.digest in self._held:
                    continue
                if row.upload_id.startswith(_OPERATION):
                    identifier = row.upload_id.removeprefix(_OPERATION)
                    await files(row.username).discard_temporaries(row.path, identifier)
                elif row.upload_id:
                    await files(row.username).uploads.discard(row.path, row.upload_id)
                else:
                    await files(row.username).discard_temporary(row.path)
            except GatewayUnavailableError as error:
                _log.warning("an abandoned upload of %s stays for now: %s", row.username, error)
                continue
            except CrestlineError as error:  # its directory was removed, or is closed to the user
                _log.info("an abandoned upload of %s is out of reach: %s", row.username, error)
            await self._delete(row.digest)

    async def _delete(self, digest: str) -> None:
        await self._engine.change(delete(_uploads).where(_uploads.c.digest == digest))

    def _digest(self, *names: str) -> str:
        return hashlib.sha256("\0".join((self._system, *names)).encode("utf-8", "surrogateescape")).hexdigest()
