"""API keys: random, stored as hashes, with scopes and an expiry, revocable.

A key is `crk_<id>_<secret>`. Verified keys are cached, so that a request needs no query. At most once per second, the
store is asked for the keys that any replica has revoked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Column, ColumnElement, Float, String, Table, Text, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crestline.gateway.identity.principal import InvalidCredentialError, Principal
from crestline.gateway.store import Store, metadata
from crestline.model import (
    AuthenticationError,
    ConflictError,
    GatewayUnavailableError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from crestline.wire.extensions import API_KEY_PREFIX, SCOPES, ApiKeyInfo, NewApiKey, Scope

_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("hash", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("username", String, nullable=False, index=True),
    Column("scopes", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("last_used", Float),
    Column("revoked", Float, index=True),
    # the OAuth2 client that created it, directly or by another key; None: an earlier version
    Column("client_id", String),
    Column("parent", String, index=True),  # the key that created it
    Column("issuer", String),  # of the token that created it; empty: the operator; None: an earlier version
)

MOST_PER_USER = 100

_FORM = re.compile(rf"{API_KEY_PREFIX}([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")
_CHECK = 1.0
"""Seconds between two queries for revoked keys."""
_SKEW = 60.0
"""Maximum difference of the replicas' clocks in seconds."""
_NOTE_USE = 60.0
_KEPT = 30 * 86400
"""Seconds for which an expired key is kept, to distinguish its use from that of an unknown key."""
_CACHE_SIZE = 10_000
_KEYS_SCOPES = frozenset({"keys:read", "keys:write"})

_log = logging.getLogger("crestline.identity")


class ApiKeys:
    """The API keys of one store."""

    def __init__(
        self,
        store: Store,
        *,
        lifetime: int = 90 * 86400,
        max_lifetime: int = 366 * 86400,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lifetime`, `max_lifetime`: default and maximum lifetime in seconds."""
        self._engine = store.engine
        self._lifetime = lifetime
        self._max_lifetime = max_lifetime
        self._clock = clock
        self._verified: dict[bytes, Principal] = {}
        self._used: set[str] = set()
        self._checked = self._noted = self._failed = float("-inf")
        self._failure: GatewayUnavailableError | None = None
        self._looked = clock()
        self._lock = asyncio.Lock()

    async def create(
        self, owner: Principal, name: str, scopes: Sequence[Scope] | None = None, expires_in: int | None = None
    ) -> NewApiKey:
        """Create a key with at most the scopes of `owner`. If the owner is an API key, the new key does not outlive it.

        Raises:
            InvalidRequestError: the lifetime is too long, or the key has no scope.
            PermissionDeniedError: the owner lacks one of the scopes.
            ConflictError: the user has too many keys.
        """
        now = self._clock()
        granted = frozenset(owner.scopes - _KEYS_SCOPES if scopes is None else scopes)
        expires = self._expiry(owner, expires_in, now)
        if not granted:
            raise InvalidRequestError("The key would allow nothing.", hint="Name its scopes.")
        if missing := sorted(granted - owner.scopes):
            raise PermissionDeniedError(
                f"A key cannot have the scope {missing[0]!r}, which you lack yourself.", hint="Leave it out."
            )
        key_id = secrets.token_hex(6)
        secret = f"{API_KEY_PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        row = {
            "key_id": key_id,
            "hash": _hash(secret).hex(),
            "name": name,
            "username": owner.username,
            "scopes": " ".join(sorted(granted)),
            "groups": msgspec.json.encode(sorted(owner.groups)).decode(),
            "created": now,
            "expires": expires,
            "client_id": owner.client_id,
            "parent": None,
            "issuer": owner.issuer,
        }
        alive = (_keys.c.username == owner.username) & _keys.c.revoked.is_(None) & (_keys.c.expires > now)
        async with self._engine.begin() as connection:
            if owner.via == "api-key":
                created_by = select(_keys.c.client_id).where(_keys.c.key_id == owner.client_id)
                row |= {"client_id": await connection.scalar(created_by), "parent": owner.client_id}
            await connection.execute(delete(_keys).where(_keys.c.expires < now - _KEPT))
            count = await connection.scalar(select(func.count()).select_from(_keys).where(alive))
            if (count or 0) >= MOST_PER_USER:
                raise ConflictError(f"You have {count} API keys.", hint="Revoke those that are not needed.")
            await connection.execute(insert(_keys).values(row))
        info = _info(row)
        return NewApiKey(**{field: getattr(info, field) for field in info.__struct_fields__}, secret=secret)

    async def list(self, username: str | None = None) -> list[ApiKeyInfo]:
        """Return the keys of a user, or of all users, that were not revoked, the newest first."""
        query = select(_keys).where(_keys.c.revoked.is_(None)).order_by(_keys.c.created.desc(), _keys.c.key_id)
        if username is not None:
            query = query.where(_keys.c.username == username)
        return [_info(row._mapping) for row in await self._engine.rows(query)]

    async def revoke(self, key_id: str, username: str | None = None) -> None:
        """Revoke a key and the keys that it created, immediately here and within about a second in other replicas.

        Args:
            key_id: id of the key.
            username: required owner of the key; None: any.

        Raises:
            NotFoundError: the user has no valid key with this id.
        """
        mine = (_keys.c.key_id == key_id) & _keys.c.revoked.is_(None)
        if username is not None:
            mine &= _keys.c.username == username
        async with self._engine.begin() as connection:
            revoked = await self._revoke(connection, mine)
        if not revoked:
            raise NotFoundError(f"Unknown API key {key_id!r}.", hint="List your keys for their ids.")
        self._forget(revoked)

    async def revoke_of_client(self, client_id: str, username: str) -> int:
        """Revoke the keys that a client of the built-in issuer created for its user, and return their number.

        Keys of which an earlier version did not store the client count as created by any client of the user.
        """
        by_client = _keys.c.client_id.is_(None) | (_keys.c.client_id == client_id)
        async with self._engine.begin() as connection:
            revoked = await self._revoke(connection, by_client & (_keys.c.username == username))
        self._forget(revoked)
        return len(revoked)

    async def _revoke(self, connection: AsyncConnection, which: ColumnElement[bool]) -> set[str]:
        revoked: set[str] = set()
        while found := set(await connection.scalars(select(_keys.c.key_id).where(which & _keys.c.revoked.is_(None)))):
            await connection.execute(update(_keys).where(_keys.c.key_id.in_(found)).values(revoked=self._clock()))
            revoked |= found
            which = _keys.c.parent.in_(found)
        return revoked

    async def verify(self, key: str) -> Principal:
        """Return the caller for `key`.

        Raises:
            AuthenticationError: the key is invalid; InvalidCredentialError: it has expired or was revoked.
            GatewayUnavailableError: the store does not respond.
        """
        digest = _hash(key)
        if time.monotonic() - self._checked > _CHECK:
            async with self._lock:
                await self._look_for_revoked_once()
        caller = self._verified.get(digest)
        if caller is None:
            caller = await self._lookup(key, digest)
        if caller.expires <= self._clock():
            self._verified.pop(digest, None)
            raise InvalidCredentialError("The API key has expired", caller, hint="Create a new one.")
        self._used.add(caller.client_id)
        return caller

    async def check(self, caller: Principal) -> None:
        """Refuse the continuation of a request whose key was revoked.

        Raises:
            InvalidCredentialError: the key was revoked.
        """
        alive = (_keys.c.key_id == caller.client_id) & _keys.c.revoked.is_(None)
        if await self._engine.row(select(_keys.c.key_id).where(alive)) is None:
            raise InvalidCredentialError("The API key was revoked", caller, hint="Create a new one.")

    async def _lookup(self, key: str, digest: bytes) -> Principal:
        row = None
        if (form := _FORM.fullmatch(key)) is not None:
            row = await self._engine.row(select(_keys).where(_keys.c.key_id == form[1]))
        # Any comparison of the digest of 256 random bits is safe, because its bytes reveal nothing about the key.
        if row is None or row.hash != digest.hex():
            raise AuthenticationError("The API key is not valid", hint="Send a key of this gateway, whole.")
        caller = Principal(
            username=row.username,
            client_id=row.key_id,
            scopes=frozenset(row.scopes.split()) & SCOPES,
            groups=frozenset(msgspec.json.decode(row.groups, type=list[str])),
            via="api-key",
            expires=row.expires,
            created_by=row.client_id,
            issuer=row.issuer,
        )
        if row.revoked is not None:
            raise InvalidCredentialError("The API key was revoked", caller, hint="Create a new one.")
        if len(self._verified) >= _CACHE_SIZE:
            self._verified.clear()
        self._verified[digest] = caller
        return caller

    async def _look_for_revoked_once(self) -> None:
        """Query once for all waiting requests, also after a failure. Otherwise each of them would query in turn."""
        if time.monotonic() - self._checked <= _CHECK:
            return
        if self._failure is not None and time.monotonic() - self._failed <= _CHECK:
            raise self._failure
        try:
            await self._look_for_revoked()
        except GatewayUnavailableError as error:
            self._failure, self._failed = error, time.monotonic()
            raise

    async def _look_for_revoked(self) -> None:
        now = self._clock()
        recent = select(_keys.c.key_id).where(_keys.c.revoked > self._looked - _SKEW)
        self._forget({row.key_id for row in await self._engine.rows(recent)})
        self._looked = now
        self._checked = time.monotonic()
        if self._used and time.monotonic() - self._noted > _NOTE_USE:
            await self._note_use(now)

    async def _note_use(self, now: float) -> None:
        used, self._used, self._noted = self._used, set(), time.monotonic()
        try:
            await self._engine.change(update(_keys).where(_keys.c.key_id.in_(used)).values(last_used=now))
        except GatewayUnavailableError as error:  # on a full disk, reads still work, and so does the key
            _log.warning("the use of API keys could not be noted: %s", error)

    def _forget(self, key_ids: set[str]) -> None:
        if key_ids:
            self._verified = {digest: each for digest, each in self._verified.items() if each.client_id not in key_ids}

    def _expiry(self, owner: Principal, expires_in: int | None, now: float) -> float:
        if expires_in is not None and expires_in > self._max_lifetime:
            raise InvalidRequestError(
                f"A key lives {self._max_lifetime} s at most.", hint="Ask for less, and renew it in time."
            )
        expires = now + (expires_in or min(self._lifetime, self._max_lifetime))
        return min(expires, owner.expires) if owner.via == "api-key" else expires


def _info(row: object) -> ApiKeyInfo:
    values: dict[str, object] = dict(row)  # type: ignore[call-overload]
    return msgspec.convert(
        {
            "keyId": values["key_id"],
            "name": values["name"],
            "username": values["username"],
            "scopes": str(values["scopes"]).split(),
            "created": int(values["created"]),  # type: ignore[call-overload]
            "expires": int(values["expires"]),  # type: ignore[call-overload]
            "lastUsed": int(values["last_used"]) if values.get("last_used") else None,  # type: ignore[call-overload]
        },
        ApiKeyInfo,
    )


def _hash(key: str) -> bytes:
    # A key has 256 random bits, so a fast digest is as good as a slow one.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
