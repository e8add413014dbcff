"""The pools of all users of one machine, and the limit of their connections."""

from __future__ import annotations

import asyncio
import re
from functools import partial

from crestline.gateway import metrics
from crestline.gateway.hosts.ssh.connection import Connection
from crestline.gateway.hosts.ssh.connector import Connector
from crestline.gateway.hosts.ssh.pool import Pool
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.gateway.paths import printable
from crestline.model import GatewayUnavailableError, PermissionDeniedError

_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
_SWEEP = 5.0


class Pools:
    """One pool per user, closed after it has been idle."""

    def __init__(self, name: str, settings: SshSettings, connector: Connector) -> None:
        self._name = name
        self._settings = settings
        self._connector = connector
        self._pools: dict[str, Pool] = {}
        self._opening = 0
        self._sweeper: asyncio.Task[None] | None = None

    def of(self, user: str) -> Pool:
        """Return the pool of `user`.

        Raises:
            PermissionDeniedError: invalid user name.
        """
        if not _USER_NAME.fullmatch(user):
            raise PermissionDeniedError(f"'{printable(user)}' is not a user name of {self._name}.")
        if user not in self._pools:
            self._pools[user] = Pool(self._name, self._settings, partial(self._connect, user))
        return self._pools[user]

    def start(self) -> None:
        """Start to close idle pools."""
        self._sweeper = asyncio.ensure_future(self._sweep())
        metrics.SSH_CONNECTIONS.labels(self._name).set_function(self._count)

    async def stop(self) -> None:
        """Close all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.close() for pool in pools.values()))

    def _count(self) -> int:
        return sum(pool.size for pool in list(self._pools.values()))

    async def _connect(self, user: str) -> Connection:
        connections = [each for pool in self._pools.values() for each in pool.connections]
        if len(connections) + self._opening >= self._settings.max_clients:
            idle = [each for each in connections if not each.is_busy]
            if not idle:
                raise GatewayUnavailableError(
                    f"All {self._settings.max_clients} connections to {self._name} are in use.",
                    hint="Try again.",
                    retry_after=1,
                )
            max(idle, key=lambda each: each.idle_for).drop()
        self._opening += 1
        try:
            connection = await self._connector.connect(user)
        except BaseException:
            metrics.SSH_LOGINS.labels(self._name, "failed").inc()
            raise
        finally:
            self._opening -= 1
        metrics.SSH_LOGINS.labels(self._name, "ok").inc()
        return connection

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            for user, pool in list(self._pools.items()):
                for connection in pool.connections:
                    if connection.is_idle:
                        connection.drop()
                if pool.is_empty:
                    del self._pools[user]
