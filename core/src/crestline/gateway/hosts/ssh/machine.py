"""Another machine as a host."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncssh

from crestline.gateway.hosts.base import MAX_ANSWER, Completed, Files, Host, HostSetup, TemporaryFiles
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.connector import Connector
from crestline.gateway.hosts.ssh.credentials import Credentials
from crestline.gateway.hosts.ssh.errors import reading, refusal
from crestline.gateway.hosts.ssh.files import SshFiles
from crestline.gateway.hosts.ssh.names import Names
from crestline.gateway.hosts.ssh.pools import Pools
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.gateway.hosts.ssh.setup import read_options
from crestline.gateway.hosts.ssh.uploads import Claims
from crestline.gateway.hosts.threads import ThreadShares
from crestline.gateway.paths import PathGuard, printable
from crestline.model import CrestlineError, GatewayUnavailableError
from crestline.model.checks import Check, Verdict, failed
from crestline.wire.status import PosixGroup, PosixId, UserInfo
from crestline.wire.tar import ArchiveLimits

# `1000(alice)`, or `1000` if the group has no name. Names can contain spaces and parentheses.
_ID = re.compile(r"(\d+)(?:\((.*?)\))?(?=,| gid=| groups=| context=|$)")


class SshHost(Host):
    """A machine that is reached over SSH. All users log in as themselves."""

    @classmethod
    def create(cls, setup: HostSetup) -> SshHost:
        settings, credentials, secret_files = read_options(setup)
        host = cls(setup.name, setup.guard, settings, credentials, setup.archives, setup.temporary_files)
        host.secret_files = secret_files
        return host

    def __init__(
        self,
        name: str,
        guard: PathGuard,
        settings: SshSettings,
        credentials: Credentials,
        limits: ArchiveLimits | None = None,
        temporary_files: TemporaryFiles | None = None,
    ) -> None:
        self.name = name
        self._guard = guard
        self._settings = settings
        self._credentials = credentials
        self._connector = Connector(name, settings, credentials)
        self._pools = Pools(name, settings, self._connector)
        self._commands = SshCommands(name, self._pools)
        self._names = Names(self._commands, settings.timeout.command_execution)
        self._claims = Claims()
        self._threads = ThreadShares(8, 2)
        self._limits = limits or ArchiveLimits()
        self._temporary_files = temporary_files or TemporaryFiles()

    async def start(self) -> None:
        asyncssh.set_log_level(logging.WARNING)  # at lower levels it logs whole command lines
        self._pools.start()

    async def stop(self) -> None:
        await self._pools.stop()
        await self._credentials.close()

    async def diagnose(self, name: str) -> AsyncIterator[Check]:
        try:
            await self._connector.probe_banner()
        except CrestlineError as error:
            yield failed(name, error)
        else:
            where = f"{self._settings.host} port {self._settings.port}"
            yield Check(name, Verdict.OK, f"An SSH server answers on {where}.")

    def files(self, user: str) -> Files:
        return SshFiles(
            self.name,
            self._guard,
            self._settings,
            user,
            self._pools,
            self._commands,
            self._names,
            self._claims,
            self._threads,
            self._limits,
            self._temporary_files,
        )

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
        return await self._commands.run(
            user, argv, input=input, env=env, cwd=cwd, timeout=timeout, max_output=max_output
        )

    async def user_info(self, user: str) -> UserInfo:
        result = await self._run(user, "id")
        text = result.stdout.decode(errors="replace").strip()
        with reading("id"):
            (uid, name), (gid, group), *others = ((found[1], found[2] or found[1]) for found in _ID.finditer(text))
        return UserInfo(
            user=PosixId(id=uid, name=name),
            group=PosixId(id=gid, name=group),
            groups=[PosixGroup(id=each, name=called, default=each == gid) for each, called in others],
        )

    async def uid(self, user: str) -> int | None:
        """Ask the observer for the uid, without a login as `user`; without an observer, log in as `user`."""
        observer = self._settings.observer
        argv = ["id", "-u"] if observer is None else ["id", "-u", "--", user]
        timeout = self._settings.timeout.command_execution
        result = await self._commands.run(observer or user, argv, env=PLAIN, timeout=timeout)
        found = result.stdout.split()
        if result.exit_status == 0 and found and found[-1][:20].isdigit():
            return int(found[-1][:20])
        if observer is not None:
            return None  # the machine does not have the user, which the login will report
        raise GatewayUnavailableError(f"{self.name} does not say which uid '{printable(user)}' has.", retry_after=1)

    async def ping(self) -> None:
        if self._settings.observer is None:
            await self._connector.probe_banner()
        else:
            await self._observe("true")

    async def ping_path(self, path: str) -> None:
        """Without an observer, check only that sshd responds: a probe never uses a user's rights."""
        if self._settings.observer is None:
            await self._connector.probe_banner()
        else:
            await self._observe("stat", "--file-system", "--", path)

    async def _observe(self, *argv: str) -> None:
        try:
            await self._run(str(self._settings.observer), *argv)
        except GatewayUnavailableError:
            raise
        except CrestlineError as error:
            raise GatewayUnavailableError(error.message, hint=error.hint) from error

    async def _run(self, user: str, *argv: str) -> Completed:
        result = await self._commands.run(user, argv, env=PLAIN, timeout=self._settings.timeout.command_execution)
        if result.exit_status:
            raise refusal(argv[0], result)
        return result
