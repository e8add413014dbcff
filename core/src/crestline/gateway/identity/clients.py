"""The built-in issuer's clients, refresh tokens and sign-in codes. Only hashes of secrets are stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, Float, String, Table, Text, delete, insert, select
from sqlalchemy.exc import IntegrityError

from crestline.gateway.identity.principal import InvalidCredentialError, Principal
from crestline.gateway.store import Store, metadata
from crestline.model import ConflictError, GatewayUnavailableError, NotFoundError
from crestline.wire.extensions import SCOPES

_CHECK = 1.0
"""Seconds between two queries for the existing clients."""

_log = logging.getLogger("crestline.identity")

_clients = Table(
    "clients",
    metadata,
    Column("client_id", String, primary_key=True),
    Column("secret_hash", String, nullable=False),
    Column("username", String, nullable=False),
)

_client_scopes = Table(
    "client_scopes",
    metadata,
    Column("client_id", String, primary_key=True),
    Column("scope", String, primary_key=True),
)
"""Scopes of a limited client. A client without rows can have all scopes."""

_refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("client_id", String, nullable=False),
    Column("expires", Float, nullable=False),
    Column("scope", Text),  # as granted; None in tokens of earlier versions: all scopes of the client
)

_sign_in_codes = Table(
    "sign_in_codes",
    metadata,
    Column("code_hash", String, primary_key=True),
    Column("client_id", String, nullable=False),
    Column("expires", Float, nullable=False),
)

SIGN_IN_CODE_LIFETIME = 600
"""Seconds in which a sign-in code can be used."""


class Client(msgspec.Struct, frozen=True):
    """An OAuth2 client that acts as one POSIX user."""

    client_id: str
    username: str
    scopes: frozenset[str] = SCOPES


class Clients:
    """The clients of one state directory."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine

    async def exists(self, client_id: str) -> bool:
        """Whether the client exists."""
        return await self._engine.row(select(_clients.c.client_id).where(_clients.c.client_id == client_id)) is not None

    async def add(
        self,
        client_id: str,
        username: str,
        secret: str | None = None,
        scopes: Collection[str] = SCOPES,
        *,
        replace: bool = False,
    ) -> str:
        """Register a client and return its secret (192 random bits unless given).

        Args:
            client: the client.
            secret: its secret; None: a random one.
            replace: replace an existing client with the same id.

        Raises:
            ConflictError: the client exists.
        """
        secret = secret or secrets.token_urlsafe(24)
        limits = [] if set(scopes) >= SCOPES else [{"client_id": client_id, "scope": each} for each in scopes]
        try:
            async with self._engine.begin() as connection:
                if replace:
                    await connection.execute(delete(_clients).where(_clients.c.client_id == client_id))
                    await connection.execute(delete(_client_scopes).where(_client_scopes.c.client_id == client_id))
                await connection.execute(
                    insert(_clients).values(client_id=client_id, secret_hash=_hash(secret), username=username)
                )
                if limits:
                    await connection.execute(insert(_client_scopes), limits)
        except IntegrityError as error:
            raise ConflictError(f"There is a client {client_id!r} already.", hint="Remove it first.") from error
        return secret

    async def list(self) -> list[Client]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(select(_clients).order_by(_clients.c.client_id))).all()
            limits = (await connection.execute(select(_client_scopes))).all()
        return [Client(row.client_id, row.username, _scopes(row.client_id, limits)) for row in rows]

    async def remove(self, client_id: str) -> None:
        """Remove a client and its refresh tokens. See `ApiKeys.revoke_of_client` for its API keys.

        Raises:
            NotFoundError: the client does not exist.
        """
        async with self._engine.begin() as connection:
            done = await connection.execute(delete(_clients).where(_clients.c.client_id == client_id))
            for table in (_client_scopes, _refresh_tokens, _sign_in_codes):
                await connection.execute(delete(table).where(table.c.client_id == client_id))
        if not done.rowcount:
            raise NotFoundError(f"Unknown client {client_id!r}.", hint="List them for their ids.")

    async def authenticate(self, client_id: str, secret: str) -> Client | None:
        """Return the client, or None if id or secret is wrong."""
        row = await self._engine.row(select(_clients).where(_clients.c.client_id == client_id))
        limits = await self._engine.rows(select(_client_scopes).where(_client_scopes.c.client_id == client_id))
        # An unknown client takes as long as a wrong secret.
        matches = hmac.compare_digest(row.secret_hash if row else _hash(""), _hash(secret))
        return Client(row.client_id, row.username, _scopes(row.client_id, limits)) if row and matches else None

    async def find(self, client_id: str) -> Client | None:
        return next((each for each in await self.list() if each.client_id == client_id), None)

    async def new_refresh_token(self, client: Client, lifetime: int, scope: str) -> str:
        """Create a refresh token that is valid for `lifetime` seconds, can be used once and grants `scope`."""
        token = secrets.token_urlsafe(32)
        async with self._engine.begin() as connection:
            await connection.execute(delete(_refresh_tokens).where(_refresh_tokens.c.expires < time.time()))
            await connection.execute(
                insert(_refresh_tokens).values(
                    token_hash=_hash(token), client_id=client.client_id, expires=time.time() + lifetime, scope=scope
                )
            )
        return token

    async def refresh_scope(self, client: Client, token: str) -> str | None:
        """Return the scope that a refresh token of the client grants; None if it has none stored, or does not exist."""
        query = select(_refresh_tokens.c.scope).where(
            _refresh_tokens.c.token_hash == _hash(token), _refresh_tokens.c.client_id == client.client_id
        )
        row = await self._engine.row(query)
        return None if row is None else row.scope

    async def use_refresh_token(self, client: Client, token: str) -> bool:
        """Use up a refresh token; return False if it is unknown, used, expired or another client's."""
        it = (
            _refresh_tokens.c.token_hash == _hash(token),
            _refresh_tokens.c.client_id == client.client_id,
            _refresh_tokens.c.expires >= time.time(),
        )
        return bool(await self._engine.change(delete(_refresh_tokens).where(*it)))

    async def new_sign_in_code(self, client_id: str) -> str:
        """Create a code that signs a browser in as the client, once, within `SIGN_IN_CODE_LIFETIME`.

        Raises:
            NotFoundError: the client does not exist.
        """
        if not await self.exists(client_id):
            raise NotFoundError(f"Unknown client {client_id!r}.", hint="List them for their ids.")
        code, now = secrets.token_urlsafe(32), time.time()
        async with self._engine.begin() as connection:
            await connection.execute(delete(_sign_in_codes).where(_sign_in_codes.c.expires < now))
            await connection.execute(
                insert(_sign_in_codes).values(
                    code_hash=_hash(code), client_id=client_id, expires=now + SIGN_IN_CODE_LIFETIME
                )
            )
        return code

    async def use_sign_in_code(self, code: str) -> Client | None:
        """Use up a sign-in code and return its client, or None if the code is unknown, used or expired."""
        which = (_sign_in_codes.c.code_hash == _hash(code)) & (_sign_in_codes.c.expires >= time.time())
        async with self._engine.begin() as connection:
            client_id = await connection.scalar(select(_sign_in_codes.c.client_id).where(which))
            used = await connection.execute(delete(_sign_in_codes).where(which))
        return await self.find(client_id) if client_id is not None and used.rowcount else None


class ActiveClients:
    """The existing clients, read from the store at most once per second, so that removing a client ends its access
    tokens."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._users: dict[str, str] | None = None
        self._checked = float("-inf")
        self._lock = asyncio.Lock()

    async def check(self, caller: Principal) -> None:
        """Check that the client of a token still exists.

        While the store does not respond, its last answer counts.

        Raises:
            InvalidCredentialError: the client was removed, or now belongs to another user.
        """
        users = await self._current(caller.client_id)
        if users is not None and users.get(caller.client_id) != caller.username:
            raise InvalidCredentialError(
                "The client of this token was removed.", caller, hint="Ask the operator for another client."
            )

    async def made(self, caller: Principal) -> bool:
        """Whether one of them created the caller's API key, for its own user.

        Raises:
            GatewayUnavailableError: the store has not responded yet.
        """
        users = await self._current()
        if users is None:
            raise GatewayUnavailableError("The store does not answer.", hint="Try again soon.", retry_after=1)
        if caller.created_by is None:  # an earlier version created it
            return caller.username in users.values()
        return users.get(caller.created_by) == caller.username

    async def _current(self, wanted: str | None = None) -> dict[str, str] | None:
        """Return the user of each client, read again if `wanted` is unknown; None: the store has not responded yet."""

        def is_known() -> bool:
            if time.monotonic() - self._checked > _CHECK:
                return False
            return wanted is None or self._users is None or wanted in self._users

        if not is_known():
            async with self._lock:
                if not is_known():
                    await self._check_file()
        return self._users

    async def _check_file(self) -> None:
        try:
            self._users = {each.client_id: each.username for each in await self._clients.list()}
        except GatewayUnavailableError as error:
            _log.warning("removed clients cannot be looked for: %s", error)
        self._checked = time.monotonic()


def sign_in_link(public_url: str, code: str) -> str:
    """Return the address of the gateway's page with a sign-in code. Browsers never send the part after `#`."""
    return f"{public_url}/#/sign-in/{code}"


def _hash(secret: str) -> str:
    # The secrets are random and long, so a fast digest is as good as a slow one.
    return hashlib.sha256(secret.encode()).hexdigest()


def _scopes(client_id: str, limits: Sequence[Any]) -> frozenset[str]:
    return frozenset(each.scope for each in limits if each.client_id == client_id) or SCOPES
