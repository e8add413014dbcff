"""The connections of one user: as few as do, never too many channels on one, first come first served."""

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
"""tries that a server may refuse although no other session is open"""
_PAUSE = 0.1
"""seconds before the second of these tries; each further pause is longer by as much"""
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage)


class Pool:
    """Hands out places on connections, and opens another connection when a command waits and all are full.

    Args:
        connect: logs in; called once at a time.
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
        """How many are open; may be asked for from any thread."""
        return sum(each.is_open for each in list(self._connections))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is open, under way or waited for."""
        return not (self.connections or self._waiting or self._connecting)

    @asynccontextmanager
    async def channel(
        self, opener: Callable[[asyncssh.SSHClientConnection], Awaitable[Channel]]
    ) -> AsyncIterator[Channel]:
        """What `opener` opens on a connection; the place on it is free again at the end.

        Raises:
            GatewayUnavailableError: no connection, no place in time, or the connection went.
            PermissionDeniedError: the server does not let the user in.
        """
        connection, channel = await self._open(opener)
        try:
            yield channel
        finally:
            self._give_back(connection)

    @asynccontextmanager
    async def sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """An SFTP session that others use as well. It needs no place of its own: every connection keeps one for it.

        Raises:
            GatewayUnavailableError: no connection, or it went.
            PermissionDeniedError: the server does not let the user in.
        """
        connection = min((each for each in self.connections if each.is_usable), key=_transfers, default=None)
        if connection is None:
            connection = await self._place()
            connection.transfers += 1
            self._give_back(connection)
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
            connection = await self._place()
            try:
                async with asyncio.timeout(self._settings.timeout.command_execution):
                    return connection, await opener(connection.ssh)
            except (asyncssh.Error, OSError) as error:
                # Nothing was asked of a channel that did not open, so another one may be tried: once if the connection
                # had gone unnoticed, and as long as the server has fewer sessions than we thought. A server may still
                # count sessions that have just ended, so if no other connection is left, retry a few times.
                lost += not connection.is_open
                is_refused = isinstance(error, asyncssh.ChannelOpenError) and connection.is_open
                alone += is_refused and not connection.refused()
                may_retry = alone <= _REFUSALS_ALONE if is_refused else not connection.is_open and lost == 1
                self._give_back(connection)
                if isinstance(error, TimeoutError) or not may_retry:
                    raise
                await asyncio.sleep(_PAUSE * alone)
            except BaseException:
                self._give_back(connection)
                raise

    async def _place(self) -> Connection:
        """Acquire a place for one command on a connection; the caller gives it back."""
        found = None if self._waiting else self._with_room()
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
                self._give_back(turn.result())
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise GatewayUnavailableError(
                    f"{self._name} is busy with other commands of yours.", hint="Try again.", retry_after=1
                ) from error
            raise

    def _give_back(self, connection: Connection) -> None:
        connection.commands -= 1
        connection.used()
        self._serve()

    def _serve(self) -> None:
        """Give free places to those who wait, in their order."""
        while self._waiting and (connection := self._with_room()) is not None:
            turn = self._waiting.popleft()
            if not turn.done():
                connection.commands += 1
                turn.set_result(connection)
        if self._waiting:
            self._grow()

    def _with_room(self) -> Connection | None:
        return next((each for each in self.connections if each.has_room), None)

    def _grow(self) -> None:
        usable = sum(each.is_usable for each in self.connections)
        if self._connecting is None and usable < self._settings.max_connections:
            self._connecting = asyncio.ensure_future(self._add())

    async def _add(self) -> None:
        """Open one more connection. A failure goes to those who wait, unless other connections will serve them."""
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
        """Close everything; who still waits gets an error."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._fail(GatewayUnavailableError("The gateway is going down.", retry_after=1))
        connections, self._connections = self._connections, []
        await asyncio.gather(*(each.close() for each in connections))


def _transfers(connection: Connection) -> int:
    return connection.transfers
