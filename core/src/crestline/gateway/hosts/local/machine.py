"""The gateway's own machine as a host."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence

from crestline.gateway.hosts.base import MAX_ANSWER, Completed, Files, Host, HostSetup, TemporaryFiles
from crestline.gateway.hosts.local import commands
from crestline.gateway.hosts.local.beneath import ServedTrees
from crestline.gateway.hosts.local.files import LocalFiles
from crestline.gateway.hosts.local.listing import group_name, user_name
from crestline.gateway.hosts.local.workers import Pools, Workers
from crestline.gateway.paths import PathGuard
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline.wire.status import PosixGroup, PosixId, UserInfo
from crestline.wire.tar import ArchiveLimits


class LocalHost(Host):
    """The machine that the gateway runs on. All files belong to the gateway's own account."""

    acts_as_gateway = True

    @classmethod
    def create(cls, setup: HostSetup) -> LocalHost:
        return cls(setup.name, setup.guard, setup.archives, setup.temporary_files)

    def __init__(
        self,
        name: str,
        guard: PathGuard,
        limits: ArchiveLimits | None = None,
        temporary_files: TemporaryFiles | None = None,
    ) -> None:
        self.name = name
        self._trees = ServedTrees(guard)
        self._limits = limits or ArchiveLimits()
        self._temporary_files = temporary_files or TemporaryFiles()
        self._pools = Pools()

    def files(self, user: str) -> Files:
        return LocalFiles(self._trees, user, Workers(self._pools, user), self._limits, self._temporary_files)

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
        """Run a program as the gateway's own account, for every `user`."""
        return await commands.run(argv, input=input, env=env, cwd=cwd, timeout=timeout, max_output=max_output)

    async def user_info(self, user: str) -> UserInfo:
        return await Workers(self._pools, user).quick("id", _user_info, user)

    async def ping(self) -> None:
        """Return at once, because the machine runs this process."""

    async def ping_path(self, path: str) -> None:
        try:
            await Workers(self._pools, "").quick("ls", _inspect, path)
        except CrestlineError as error:
            raise GatewayUnavailableError(error.message, hint="Is it mounted?") from error


def _inspect(path: str) -> None:
    with os.scandir(path) as entries:
        next(entries, None)


def _user_info(user: str) -> UserInfo:
    """Return the user's own entry, or that of the gateway's account if the machine does not have the user."""
    try:
        entry = pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
        gids = os.getgrouplist(user, gid)
        name = user
    except (KeyError, ValueError):
        uid, gid = os.getuid(), os.getgid()
        gids = os.getgroups()
        name = user_name(uid)
    others = sorted(set(gids) - {gid})
    return UserInfo(
        user=PosixId(id=str(uid), name=name),
        group=PosixId(id=str(gid), name=group_name(gid)),
        groups=[PosixGroup(id=str(each), name=group_name(each), default=each == gid) for each in [gid, *others]],
    )
