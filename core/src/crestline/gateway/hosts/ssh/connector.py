"""Logs in, with the host key checked, few logins at once, and an immediate error for a machine that is known to be
down."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncssh

from crestline.gateway.hosts.ssh.connection import Connection
from crestline.gateway.hosts.ssh.credentials import Credentials, Identity
from crestline.gateway.hosts.ssh.settings import SshSettings
from crestline.model import ConfigError, CrestlineError, GatewayUnavailableError, PermissionDeniedError

logger = logging.getLogger(__name__)

# sshd drops some logins if more than ten are in progress (MaxStartups 10:30:100), counting all clients.
_LOGINS_AT_ONCE = 4
_PAUSE = 1.0
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"  # first: five times faster here than the default

_WINDOW = 4 * 1024 * 1024
"""Bytes of one channel that may be in flight to the gateway."""
_PACKET = 256 * 1024 - 1024
"""Maximum bytes of a channel in one packet. OpenSSH's packets have at most 256 KiB, and each has a cost."""
_REKEY = "16g"
"""Bytes until a key exchange, for which all transfers stop. OpenSSH's own limit for 128-bit ciphers is 64 GiB."""


class Connector:
    """Opens connections to one machine.

    After a failure of the machine, every login fails immediately for a second. Then one login at a time tries again.
    """

    def __init__(self, name: str, settings: SshSettings, credentials: Credentials) -> None:
        self._name = name
        self._settings = settings
        self._credentials = credentials
        self._logins = asyncio.Semaphore(_LOGINS_AT_ONCE)
        self._failure: str | None = None
        self._next_try = 0.0
        self._trying = False

    async def connect(self, user: str) -> Connection:
        """Log in as `user`.

        Raises:
            GatewayUnavailableError: the connection failed, or the host key differs from the known one.
            PermissionDeniedError: the server refuses the login of this user.
            AuthenticationError, ConfigError: see `Credentials`.
        """
        self._fail_fast()
        identity = await self._credentials.credentials(user)
        async with self._logins:
            with self._outcome():
                connection = await self._login(user, identity)
        return Connection(connection, identity.expires, self._settings)

    async def probe_banner(self) -> None:
        """Wait for the server's greeting, without a login.

        Raises:
            GatewayUnavailableError: the server does not respond.
        """
        try:
            async with asyncio.timeout(self._settings.timeout.connection):
                reader, writer = await asyncio.open_connection(self._settings.host, self._settings.port)
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise self._unreachable(error) from error
        if not line.startswith(b"SSH-"):
            raise GatewayUnavailableError(f"No SSH server greets on {self._where}.", retry_after=_PAUSE)

    async def _login(self, user: str, identity: Identity) -> asyncssh.SSHClientConnection:
        timeout = self._settings.timeout
        try:
            async with asyncio.timeout(timeout.connection + timeout.login):
                try:
                    return await self._open(user, identity)
                except (asyncssh.ConnectionLost, ConnectionResetError) as error:
                    logger.debug(
                        "%s closed the connection of %s during the login, trying again: %s", self._where, user, error
                    )
                    await asyncio.sleep(0.2)  # the server may have had too many logins of other clients
                    return await self._open(user, identity)
        except asyncssh.HostKeyNotVerifiable as error:
            raise GatewayUnavailableError(
                f"The host key of {self._where} is not the one that the gateway knows.",
                hint="Nothing was sent. The gateway's operator has to compare the keys and correct known_hosts.",
            ) from error
        except (asyncssh.PermissionDenied, asyncssh.IllegalUserName) as error:
            raise PermissionDeniedError(
                f"{self._name} does not let '{user}' in: Permission denied.",
                hint="Does the account exist there, and does sshd trust the gateway's key or certificate?",
            ) from error

    async def _open(self, user: str, identity: Identity) -> asyncssh.SSHClientConnection:
        settings, timeout = self._settings, self._settings.timeout
        connection = await asyncssh.connect(
            settings.host,
            settings.port,
            username=user,
            client_keys=[(identity.key, identity.certificate) if identity.certificate else identity.key],
            known_hosts=_known_hosts(settings.known_hosts),
            # Ignore the configuration, agent, tickets and passwords of the gateway's own account.
            config=None,
            agent_path=None,
            gss_host=None,
            preferred_auth=["publickey"],
            encryption_algs=_CIPHERS,
            compression_algs=None,
            connect_timeout=timeout.connection,
            login_timeout=timeout.login,
            keepalive_interval=timeout.keep_alive,
            keepalive_count_max=1,
            window=_WINDOW,
            max_pktsize=_PACKET,
            rekey_bytes=_REKEY,
        )
        logger.debug("Connected to %s as %s", self._where, user)
        return connection

    def _fail_fast(self) -> None:
        if self._failure is not None and (self._trying or time.monotonic() < self._next_try):
            raise GatewayUnavailableError(self._failure, retry_after=_PAUSE)

    @contextmanager
    def _outcome(self) -> Iterator[None]:
        """Record whether the machine responds."""
        self._fail_fast()  # another login may have failed while this one waited
        self._trying = True
        try:
            yield
        except (OSError, asyncssh.Error) as error:
            failure = self._unreachable(error)
            self._failure = failure.message
            self._next_try = time.monotonic() + _PAUSE
            raise failure from error
        except CrestlineError:
            self._failure = None  # the machine refused the login, so it responds
            raise
        else:
            self._failure = None
        finally:
            self._trying = False

    def _unreachable(self, error: Exception) -> GatewayUnavailableError:
        if isinstance(error, TimeoutError):
            reason = "no answer in time"
        elif isinstance(error, asyncssh.Error):
            reason = error.reason
        elif isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)
        else:
            reason = "no connection"
        return GatewayUnavailableError(f"{self._where} cannot be reached: {reason}.", retry_after=_PAUSE)

    @property
    def _where(self) -> str:
        return f"{self._name} ({self._settings.host} port {self._settings.port})"


def _known_hosts(text: str) -> asyncssh.SSHKnownHosts:
    """Parse a file's content or the text itself. Always returns an object, because asyncssh checks nothing without
    one."""
    try:
        return asyncssh.read_known_hosts(text) if text.startswith("/") else asyncssh.import_known_hosts(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"known_hosts cannot be used: {error}.", hint="Give a known_hosts file, or its text."
        ) from error
