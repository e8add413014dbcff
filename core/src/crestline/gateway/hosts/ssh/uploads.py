"""Files being uploaded by SFTP: at once, in order over several requests, or as parts in any order.

An unfinished upload is beside its target under a temporary name with the upload's id.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import asyncssh

from crestline.gateway.hosts import base
from crestline.gateway.hosts.refusals import (
    check_sum,
    disk_full,
    insufficient_space,
    offset_mismatch,
    upload_is_busy,
    wrong_length,
)
from crestline.gateway.hosts.ssh.checksums import RunningChecksums
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.content import check_regular
from crestline.gateway.hosts.ssh.errors import reading, refusal, transferring
from crestline.gateway.hosts.ssh.pipelining import Writer, read
from crestline.gateway.hosts.ssh.pools import Pools
from crestline.gateway.hosts.ssh.temporaries import Temporaries
from crestline.gateway.hosts.streams import Digest, blocks, digest_of, is_crc32, temporary_of
from crestline.model import TooLargeError
from crestline.model.crc32 import Crc32

_MODE = 0o7777


class Claims:
    """The unfinished uploads in use by this gateway. SFTP has no locks, so other replicas do not see them."""

    def __init__(self) -> None:
        self.sums = RunningChecksums()
        self._held: dict[tuple[str, bytes], int] = {}

    @contextmanager
    def claim(self, user: str, temporary: bytes, *, shared: bool = False) -> Iterator[None]:
        """Hold an upload, exclusively or `shared` with other parts of it.

        Raises:
            ConflictError: another request holds it.
        """
        key = (user, temporary)
        held = self._held.get(key, 0)
        if held < 0 or (held and not shared):
            raise upload_is_busy()
        self._held[key] = held + 1 if shared else -1
        try:
            yield
        finally:
            left = self._held[key] - 1 if shared else 0
            if left:
                self._held[key] = left
            else:
                del self._held[key]


class Uploads(base.Uploads):
    """The unfinished uploads of one user. Callers have checked the paths."""

    def __init__(
        self,
        system: str,
        user: str,
        check: Callable[[str], str],
        pools: Pools,
        commands: SshCommands,
        temporaries: Temporaries,
        claims: Claims,
        stall: float,
    ) -> None:
        self._system = system
        self._user = user
        self._check = check
        self._pools = pools
        self._commands = commands
        self._temporaries = temporaries
        self._claims = claims
        self._stall = stall

    async def write(self, path: str, chunks: AsyncIterator[bytes], checksum: str | None) -> None:
        async with (
            self._target(path, uuid.uuid4().hex) as upload,
            self._temporaries.use(os.fsdecode(upload.temporary), is_renamed=True),
        ):
            digest = digest_of(checksum) if checksum is not None else None
            async with upload.opened(asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL) as file:
                await upload.store(file, 0, chunks, digest)
            if digest is not None and checksum is not None:
                check_sum(digest.hexdigest(), checksum)
            await upload.publish()

    async def offset(self, path: str, upload_id: str) -> int:
        async with self._target(path, self._identifier(upload_id)) as upload:
            return await upload.size()

    async def append(self, path: str, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Append in order. Bytes that have arrived are kept if the rest does not arrive."""
        async with self._target(path, self._identifier(upload_id)) as upload:
            with self._claims.claim(self._user, upload.temporary):
                stored = await upload.size()
                if offset != stored:
                    raise offset_mismatch(stored, offset)
                digest = self._claims.sums.pop((self._user, upload.temporary), offset)
                async with upload.opened(asyncssh.FXF_WRITE | asyncssh.FXF_CREAT) as file:
                    end = offset + await upload.store(file, offset, chunks, digest)
                if digest is not None:
                    self._claims.sums.store((self._user, upload.temporary), end, digest)
                return end

    async def reserve(self, path: str, upload_id: str, size: int) -> None:
        async with self._target(path, self._identifier(upload_id)) as upload:
            with self._claims.claim(self._user, upload.temporary):
                await upload.reserve(size)

    async def piece(self, path: str, upload_id: str, offset: int, length: int, chunks: AsyncIterator[bytes]) -> str:
        async with self._target(path, self._identifier(upload_id)) as upload:
            with self._claims.claim(self._user, upload.temporary, shared=True):
                digest = hashlib.md5(usedforsecurity=False)
                async with upload.opened(asyncssh.FXF_WRITE) as file:
                    written = await upload.store(file, offset, chunks, digest, limit=length)
                if written != length:
                    raise wrong_length(written, length)
                return digest.hexdigest()

    async def finish(self, path: str, upload_id: str, checksum: str | None = None) -> None:
        async with self._target(path, self._identifier(upload_id)) as upload:
            with self._claims.claim(self._user, upload.temporary):
                size = await upload.size()
                digest = self._claims.sums.pop((self._user, upload.temporary), size)
                if checksum is not None:
                    if not is_crc32(checksum):
                        actual = await sha256(self._commands, self._user, os.fsdecode(upload.temporary))
                    else:
                        actual = (digest or await upload.read_again(size)).hexdigest()
                    try:
                        check_sum(actual, checksum)
                    except Exception:
                        await upload.remove()
                        raise
                await upload.publish()

    async def discard(self, path: str, upload_id: str) -> None:
        """Discard an upload, even if its target has been replaced meanwhile."""
        async with self._target(path, self._identifier(upload_id), check=False) as upload:
            await upload.remove()

    def _identifier(self, upload_id: str) -> str:
        return f"{self._user}\0{upload_id}"

    @asynccontextmanager
    async def _target(self, path: str, identifier: str, *, check: bool = True) -> AsyncIterator[_Upload]:
        path = self._check(path)
        with transferring(self._system, "write", path):
            async with self._pools.of(self._user).sftp() as sftp:
                async with asyncio.timeout(self._stall):
                    target = await real_path(sftp, path)
                    replaced = await _writable(sftp, target, path) if check else None
                temporary = os.fsencode(temporary_of(os.fsdecode(target), identifier))
                explain = partial(self._explain, os.fsdecode(target))
                upload = _Upload(sftp, target, temporary, replaced, self._stall, explain)
                try:
                    yield upload
                except asyncssh.SFTPFailure as error:
                    await explain(error)
                    raise

    async def _explain(self, target: str, error: asyncssh.SFTPFailure) -> None:
        """Find out why no more can be stored, because SFTP only reports "Failure".

        Raises:
            TooLargeError: the disk is full, or the user's quota is exceeded.
        """
        probe = temporary_of(target, uuid.uuid4().hex)
        argv = ["dd", "if=/dev/zero", f"of={probe}", "bs=1M", "count=1", "conv=excl,fsync", "status=none"]
        async with self._temporaries.use(probe, is_renamed=False):
            result = await self._commands.run(self._user, argv, env=PLAIN, timeout=self._stall)
        if result.exit_status:
            found = refusal("write", result)
            if isinstance(found, TooLargeError):
                raise disk_full("write", target, found.message.rpartition(": ")[2]) from error


class _Upload:
    """A temporary file that will be renamed to its target."""

    def __init__(
        self,
        sftp: asyncssh.SFTPClient,
        target: bytes,
        temporary: bytes,
        replaced: int | None,
        stall: float,
        explain: Callable[[asyncssh.SFTPFailure], Awaitable[None]],
    ) -> None:
        self.temporary = temporary
        self._sftp = sftp
        self._target = target
        self._replaced = replaced
        """Permissions of the existing file."""
        self._stall = stall
        self._explain = explain

    @asynccontextmanager
    async def opened(self, flags: int) -> AsyncIterator[asyncssh.SFTPClientFile]:
        # The user's umask determines the permissions of a new file. A file that replaces a private file is never less
        # private.
        attrs = asyncssh.SFTPAttrs() if self._replaced is None else asyncssh.SFTPAttrs(permissions=0o600)
        async with asyncio.timeout(self._stall):
            file = await self._sftp.open(self.temporary, flags, attrs, encoding=None, block_size=0)
        try:
            yield file
        finally:
            async with asyncio.timeout(self._stall):
                await file.close()

    async def store(
        self,
        file: asyncssh.SFTPClientFile,
        offset: int,
        chunks: AsyncIterator[bytes],
        digest: Digest | None = None,
        *,
        limit: int | None = None,
    ) -> int:
        """Write all chunks from `offset` on and return the number of bytes written.

        Raises:
            InvalidRequestError: more than `limit` bytes arrived.
        """
        written = 0
        writer = Writer(file, self._sftp.limits, offset, self._stall)
        try:
            try:
                async for block in blocks(chunks):
                    written += len(block)
                    if limit is not None and written > limit:
                        raise wrong_length(written, limit)
                    if digest is None:
                        await writer.write(block)
                    else:
                        await asyncio.gather(asyncio.to_thread(digest.update, block), writer.write(block))
            finally:
                await writer.flush()  # keep what has arrived, also if the stream ended early
        except asyncssh.SFTPError as error:
            try:
                if isinstance(error, asyncssh.SFTPFailure):
                    await self._explain(error)  # now, because the next step frees space
            finally:
                if limit is None:
                    async with asyncio.timeout(self._stall):
                        await file.truncate(writer.stored)  # no hole after a failed write that a later one followed
            raise
        finally:
            writer.drop()
        return written

    async def size(self) -> int:
        """Return the size of the temporary file in bytes, 0 if it does not exist."""
        try:
            async with asyncio.timeout(self._stall):
                return (await self._sftp.lstat(self.temporary)).size or 0
        except asyncssh.SFTPNoSuchFile:
            return 0

    async def read_again(self, size: int) -> Crc32:
        """Compute the CRC-32 of bytes that another process received."""
        digest = Crc32()
        async with self.opened(asyncssh.FXF_READ) as file:
            async for block in read(file, self._sftp.limits, 0, size, self._stall):
                digest.update(block)
        return digest

    async def reserve(self, size: int) -> None:
        """Set its size to `size` bytes, if the file system has the space."""
        directory = os.path.dirname(self._target)
        async with asyncio.timeout(self._stall):
            room = await self._sftp.statvfs(directory)
        if size > room.bavail * room.frsize:
            raise insufficient_space(os.fsdecode(directory), size)
        async with self.opened(asyncssh.FXF_WRITE | asyncssh.FXF_CREAT) as file:
            async with asyncio.timeout(self._stall):
                await file.truncate(size)

    async def publish(self) -> None:
        """Rename it to its target, with the permissions of the replaced file."""
        async with asyncio.timeout(self._stall):
            if self._replaced is not None:
                await self._sftp.chmod(self.temporary, self._replaced)
            await self._sftp.posix_rename(self.temporary, self._target)

    async def remove(self) -> None:
        """Remove it, if it exists."""
        try:
            async with asyncio.timeout(self._stall):
                await self._sftp.remove(self.temporary)
        except asyncssh.SFTPNoSuchFile:
            return


async def real_path(sftp: asyncssh.SFTPClient, path: str) -> bytes:
    """Resolve `path` on the server."""
    with reading("sftp-server"):
        return await sftp.realpath(os.fsencode(path))


async def _writable(sftp: asyncssh.SFTPClient, target: bytes, path: str) -> int | None:
    """Return the permissions of the existing regular file, or None. A file that is not writable is not replaced."""
    try:
        status = await sftp.stat(target)
    except asyncssh.SFTPNoSuchFile:
        return None
    check_regular(status, path)
    async with sftp.open(target, asyncssh.FXF_WRITE, encoding=None):
        return (status.permissions or 0) & _MODE


async def sha256(commands: SshCommands, user: str, path: str) -> str:
    """Compute the SHA-256 of a file in hexadecimal on the machine. This may take long."""
    # OpenSSL uses the processor's SHA instructions and takes a fifth of the time of coreutils.
    result = await commands.run(user, ["openssl", "dgst", "-sha256", "-binary", path], env=PLAIN, timeout=None)
    if result.exit_status == 0:
        return result.stdout.hex()
    # openssl is not installed, or the file has a problem that sha256sum reports in plainer words.
    result = await commands.run(user, ["sha256sum", "--zero", "--", path], env=PLAIN, timeout=None)
    if result.exit_status:
        raise refusal("sha256sum", result)
    with reading("sha256sum"):
        return result.stdout[:64].decode("ascii")
