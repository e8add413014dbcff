"""The files of another machine, as one user."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence

from crestline.gateway.hosts.base import Files, OpenFile, TemporaryFiles
from crestline.gateway.hosts.file_modes import check_mode
from crestline.gateway.hosts.ssh.archives import Archives
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.content import open_file
from crestline.gateway.hosts.ssh.errors import refusal, transferring
from crestline.gateway.hosts.ssh.listing import Listing
from crestline.gateway.hosts.ssh.names import Names
from crestline.gateway.hosts.ssh.pools import Pools
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.gateway.hosts.ssh.temporaries import Temporaries
from crestline.gateway.hosts.ssh.uploads import Claims, Uploads, real_path, sha256
from crestline.gateway.hosts.threads import ThreadShares
from crestline.gateway.paths import PathGuard, printable
from crestline.model import PermissionDeniedError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Checksum, Compression, FileEntry, FileStat
from crestline.wire.tar import ArchiveLimits


class SshFiles(Files):
    """Uses SFTP for contents and the machine's own programs otherwise, whose messages are those of FirecREST.

    The user's own rights are the boundary, so links are followed to any target.
    """

    def __init__(
        self,
        name: str,
        guard: PathGuard,
        settings: SshSettings,
        user: str,
        pools: Pools,
        commands: SshCommands,
        names: Names,
        claims: Claims,
        threads: ThreadShares,
        limits: ArchiveLimits,
        temporary_files: TemporaryFiles,
    ) -> None:
        self._name = name
        self._guard = guard
        self._stall = settings.stall
        self._timeout = settings.timeout.command_execution
        self._user = user
        self._pools = pools
        self._commands = commands
        self._listing = Listing(user, commands, names, self._timeout)
        self._temporaries = Temporaries(user, commands, temporary_files)
        self._archives = Archives(user, commands, self._temporaries, threads, limits)
        self.uploads = Uploads(name, user, guard.check, pools, commands, self._temporaries, claims, settings.stall)

    def check(self, path: str) -> str:
        return self._guard.check(path)

    async def list(
        self,
        path: str,
        *,
        hidden: bool = False,
        recursive: bool = False,
        dereference: bool = False,
        numeric: bool = False,
    ) -> Sequence[FileEntry]:
        normal = self.check(path)
        return await self._listing.entries(
            f"{normal.rstrip('/')}/" if path.endswith("/") else normal,
            hidden=hidden,
            recursive=recursive,
            dereference=dereference,
            numeric=numeric,
        )

    async def entry(self, path: str) -> FileEntry:
        return await self._listing.entry(self.check(path))

    async def stat(self, path: str, *, dereference: bool = False) -> FileStat:
        return await self._listing.stat(self.check(path), dereference=dereference)

    async def open(self, path: str) -> OpenFile:
        return await open_file(self._name, self.check(path), self._user, self._pools, self._commands, self._stall)

    async def discard_temporary(self, path: str) -> None:
        await self._temporaries.remove(self._guard.check(path))

    async def make_directory(self, path: str, *, parents: bool = False) -> FileEntry:
        path = self.check(path)
        await self._quick("mkdir", *(["--parents"] if parents else []), "--", path)
        return await self.entry(path)

    async def symlink(self, target: str, link: str) -> FileEntry:
        link = self.check(link)
        await self._quick("ln", "--symbolic", "--no-target-directory", "--", self.check(target), link)
        return await self.entry(link)

    async def chmod(self, path: str, mode: str) -> FileEntry:
        path = self.check(path)
        await self._quick("chmod", "--", check_mode(mode), path)
        return await self.entry(path)

    async def chown(self, path: str, owner: str, group: str) -> FileEntry:
        path = self.check(path)
        if owner or group:
            await self._quick("chown", "--", f"{owner}:{group}" if group else owner, path)
        return await self.entry(path)

    async def remove(self, path: str) -> None:
        path = self.check(path)
        await self._refuse_if_protected(path, "rm: refusing to remove")
        await self._long("rm", "--recursive", "--interactive=never", "--", path)

    async def copy(self, source: str, target: str, *, dereference: bool = False) -> None:
        follow = "--dereference" if dereference else "--no-dereference"
        await self._long("cp", "--recursive", follow, "--", self.check(source), self.check(target))

    async def move(self, source: str, target: str) -> None:
        source = self.check(source)
        await self._refuse_if_protected(source, "mv: refusing to move")
        await self._long("mv", "--force", "--", source, self.check(target))

    async def checksum(self, path: str) -> Checksum:
        return Checksum(checksum=await sha256(self._commands, self._user, self.check(path)))

    async def file_type(self, path: str) -> str:
        out = await self._quick("file", "--brief", "--", self.check(path))
        return printable(os.fsdecode(out)).strip()

    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        await self._archives.compress(
            self.check(source),
            self.check(target),
            compression,
            pattern=pattern,
            dereference=dereference,
        )

    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        await self._archives.extract(self.check(archive), self.check(target), compression)

    def tar(self, path: str, members: Sequence[str] | None = None, *, gzip: bool = False) -> AsyncIterator[bytes]:
        return self._archives.tar(self.check(path), members, gzip=gzip)

    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        return await self._archives.select(self.check(path), selections)

    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        await self._archives.untar(self.check(path), chunks)

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        return await self._archives.changed(self.check(path), checksums)

    async def _quick(self, *argv: str) -> bytes:
        return await self._run(argv, self._timeout)

    async def _long(self, *argv: str) -> bytes:
        return await self._run(argv, None)

    async def _run(self, argv: Sequence[str], timeout: float | None) -> bytes:
        result = await self._commands.run(self._user, argv, env=PLAIN, timeout=timeout)
        if result.exit_status:
            raise refusal(argv[0], result)
        return result.stdout

    async def _refuse_if_protected(self, path: str, complaint: str) -> None:
        """Refuse to change the root of a file system of this gateway, by any path that leads to it."""
        directory, name = os.path.split(path)
        with transferring(self._name, complaint.partition(":")[0], path):
            async with self._pools.of(self._user).sftp() as sftp, asyncio.timeout(self._stall):
                real = os.path.join(os.fsdecode(await real_path(sftp, directory)), name)
        if self._guard.is_protected(os.path.normpath(real)):
            raise PermissionDeniedError(
                f"{complaint} '{printable(path)}': Operation not permitted",
                hint="It is a file system of this gateway.",
            )
