"""The connections of one user: as few as needed, with a limit of channels on each, in the order of requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncssh

from crestline.gateway.hosts.ssh.connection import Connection
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.model import GatewayUnavailableError

Channel = TypeVar("Channel")

_REFUSALS_ALONE = 3
"""Number of retries if a server refuses a session although no other session is open."""
_PAUSE = 0.1
"""Seconds before the second of these tries. Each further pause is longer by this amount."""
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage)


class Pool:
    """Assigns commands to connections, and opens another connection if all are full.

    Args:
        connect: logs in. Called once at a time.
    """

    def __init__(self, name: str, settings: SshSettings, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._name = name
        self._settings = settings
        self._connect = connect
        self._connections: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._connecting: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[Connection]:
        self._connections = [each for each in self._connections if each.is_open]
        return self._connections

    @property
    def size(self) -> int:
        """Number of open connections. Can be read from any thread."""
        return sum(each.is_open for each in list(self._connections))

    @property
    def is_empty(self) -> bool:
        """Whether no connection is open or being opened, and no command waits."""
        return not (self.connections or self._waiting or self._connecting)

    @asynccontextmanager
    async def channel(
        self, opener: Callable[[asyncssh.SSHClientConnection], Awaitable[Channel]]
    ) -> AsyncIterator[Channel]:
        """Open a channel with `opener` on a connection, and release its slot at the end.

        Raises:
            GatewayUnavailableError: the connection failed or was lost, or no slot was free in time.
            PermissionDeniedError: the server refuses the login of the user.
        """
        connection, channel = await self._open(opener)
        try:
            yield channel
        finally:
            self._release(connection)

    @asynccontextmanager
    async def sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """Return an SFTP session that other tasks use as well. Every connection reserves a slot for it.

        Raises:
            GatewayUnavailableError: the connection failed or was lost.
            PermissionDeniedError: the server refuses the login of the user.
        """
        connection = min((each for each in self.connections if each.is_usable), key=_transfers, default=None)
        if connection is None:
            connection = await self._acquire()
            connection.transfers += 1
            self._release(connection)
        else:
            connection.transfers += 1
        session = None
        try:
            session = await connection.sftp()
            yield session
        except (asyncssh.Error, TimeoutError) as error:
            if session is None or not isinstance(error, asyncssh.SFTPError) or isinstance(error, _LOST):
                connection.forget_sftp(session)
            raise
        finally:
            connection.transfers -= 1
            connection.used()

    async def _open(
        self, opener: Callable[[asyncssh.SSHClientConnection], Awaitable[Channel]]
    ) -> tuple[Connection, Channel]:
        lost = alone = 0
        while True:
            connection = await self._acquire()
            try:
                async with asyncio.timeout(self._settings.timeout.command_execution):
                    return connection, await opener(connection.ssh)
            except (asyncssh.Error, OSError) as error:
                # A channel that did not open had no effect, so the pool can try another one: once if the connection had
                # been lost unnoticed, and as long as the server allows fewer sessions than expected. A server may still
                # count sessions that have just ended, so if no other connection is left, retry a few times.
                lost += not connection.is_open
                is_refused = isinstance(error, asyncssh.ChannelOpenError) and connection.is_open
                alone += is_refused and not connection.refused()
                may_retry = alone <= _REFUSALS_ALONE if is_refused else not connection.is_open and lost == 1
                self._release(connection)
                if isinstance(error, TimeoutError) or not may_retry:
                    raise
                await asyncio.sleep(_PAUSE * alone)
            except BaseException:
                self._release(connection)
                raise

    async def _acquire(self) -> Connection:
        """Acquire a slot for one command on a connection. The caller releases it."""
        found = None if self._waiting else self._with_free_slot()
        if found is not None:
            found.commands += 1
            return found
        turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._grow()
        try:
            async with asyncio.timeout(self._settings.queue):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(turn.result())
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise GatewayUnavailableError(
                    f"{self._name} is busy with other commands of yours.", hint="Try again.", retry_after=1
                ) from error
            raise

    def _release(self, connection: Connection) -> None:
        connection.commands -= 1
        connection.used()
        self._serve()

    def _serve(self) -> None:
        """Give free slots to waiting commands in their order."""
        while self._waiting and (connection := self._with_free_slot()) is not None:
            turn = self._waiting.popleft()
            if not turn.done():
                connection.commands += 1
                turn.set_result(connection)
        if self._waiting:
            self._grow()

    def _with_free_slot(self) -> Connection | None:
        return next((each for each in self.connections if each.has_free_slot), None)

    def _grow(self) -> None:
        usable = sum(each.is_usable for each in self.connections)
        if self._connecting is None and usable < self._settings.max_connections:
            self._connecting = asyncio.ensure_future(self._add())

    async def _add(self) -> None:
        """Open one more connection. If that fails, the waiting commands fail, unless other connections can serve
        them."""
        try:
            connection = await self._connect()
            if not connection.is_usable:
                connection.drop()
                raise GatewayUnavailableError(
                    f"{self._name}: the certificate had expired when the login was done.",
                    hint="The gateway's operator has to compare the clocks and the certificate's lifetime.",
                )
        except Exception as error:
            self._connecting = None
            if not any(each.is_usable for each in self.connections):
                self._fail(error)
        else:
            self._connecting = None
            self._connections.append(connection)
            self._serve()

    def _fail(self, error: Exception) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    async def close(self) -> None:
        """Close all connections. Waiting commands fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._fail(GatewayUnavailableError("The gateway is going down.", retry_after=1))
        connections, self._connections = self._connections, []
        await asyncio.gather(*(each.close() for each in connections))


def _transfers(connection: Connection) -> int:
    return connection.transfers
