"""The built-in issuer's clients and refresh tokens; only hashes of secrets are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

import msgspec
from sqlalchemy import Column, Float, String, Table, delete, insert, select

from crestline.gateway.store import Store, metadata

_clients = Table(
    "clients",
    metadata,
    Column("client_id", String, primary_key=True),
    Column("secret_hash", String, nullable=False),
    Column("username", String, nullable=False),
)

_refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("client_id", String, nullable=False),
    Column("expires", Float, nullable=False),
)


class Client(msgspec.Struct, frozen=True):
    """An OAuth2 client that acts as one POSIX user."""

    client_id: str
    username: str


class Clients:
    """The clients of one home."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine

    async def exists(self, client_id: str) -> bool:
        """Whether there is such a client."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(_clients.c.client_id).where(_clients.c.client_id == client_id))
            return found.first() is not None

    async def add(self, client_id: str, username: str, secret: str | None = None) -> str:
        """Register a client and return its secret (192 random bits where none is given)."""
        secret = secret or secrets.token_urlsafe(24)
        async with self._engine.begin() as connection:
            await connection.execute(delete(_clients).where(_clients.c.client_id == client_id))
            await connection.execute(
                insert(_clients).values(client_id=client_id, secret_hash=_hash(secret), username=username)
            )
        return secret

    async def authenticate(self, client_id: str, secret: str) -> Client | None:
        """The client, None where id or secret is wrong."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(_clients).where(_clients.c.client_id == client_id))
            row = found.first()
        # An absent client costs the same comparison as a wrong secret.
        matches = hmac.compare_digest(row.secret_hash if row else _hash(""), _hash(secret))
        return Client(row.client_id, row.username) if row and matches else None

    async def new_refresh_token(self, client: Client, lifetime: int) -> str:
        """A refresh token that lives `lifetime` seconds and works once."""
        token = secrets.token_urlsafe(32)
        async with self._engine.begin() as connection:
            await connection.execute(delete(_refresh_tokens).where(_refresh_tokens.c.expires < time.time()))
            await connection.execute(
                insert(_refresh_tokens).values(
                    token_hash=_hash(token), client_id=client.client_id, expires=time.time() + lifetime
                )
            )
        return token

    async def use_refresh_token(self, client: Client, token: str) -> bool:
        """Use up a refresh token; False where it is unknown, used, expired or another client's."""
        async with self._engine.begin() as connection:
            used = await connection.execute(
                delete(_refresh_tokens).where(
                    _refresh_tokens.c.token_hash == _hash(token),
                    _refresh_tokens.c.client_id == client.client_id,
                    _refresh_tokens.c.expires >= time.time(),
                )
            )
            return bool(used.rowcount)


def _hash(secret: str) -> str:
    # The secrets are random and long, so a plain digest is as good as a slow one.
    return hashlib.sha256(secret.encode()).hexdigest()
