"""An access token with its life, and the one place where a token is renewed by one caller for all."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import msgspec

from crestline import clock
from crestline.bounded import decode

logger = logging.getLogger(__name__)

_LONGEST_MARGIN = 60.0
_SERVER_MARGIN = 35.0
"""FirecREST refuses a token that lives less than 30 s"""


class Token(msgspec.Struct, frozen=True):
    """An access token; times in seconds since the epoch."""

    value: str
    issued: float
    expires: float | None = None
    """end of its lifetime; None: unknown, so the token is used until the gateway refuses it"""

    def __repr__(self) -> str:
        return f"Token(expires={self.expires})"

    def is_fresh(self, now: float) -> bool:
        """True while it will outlive a request and the server's own margin."""
        if self.expires is None:
            return True
        return self.expires - now > margin(self.expires - self.issued)


def margin(lifetime: float) -> float:
    """Seconds before its end at which a token of this lifetime is no longer used.

    60 s, for short-lived tokens a third of their life, but more than the 30 s that FirecREST insists on where the
    lifetime has room for it.
    """
    third = min(_LONGEST_MARGIN, lifetime / 3)
    return max(third, _SERVER_MARGIN) if lifetime > _SERVER_MARGIN else third


class _Claims(msgspec.Struct):
    exp: float | None = None


def make_token(value: str, issued: float, expires_in: float | None = None) -> Token:
    """A token from what an issuer said, or else from the token's own `exp` claim (read, not verified)."""
    if expires_in is not None:
        return Token(value, issued, issued + expires_in)
    return Token(value, issued, _expiry_claim(value))


def _expiry_claim(value: str) -> float | None:
    parts = value.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), _Claims)
    except (binascii.Error, msgspec.DecodeError):
        return None
    return claims.exp


class TokenSource:
    """Keeps one token and renews it: one renewal at a time in the whole process, whatever thread or loop asks.

    The renewal is blocking code in a short-lived thread of its own, so that it outlives the caller that began it and
    belongs to no event loop.
    """

    def __init__(self, fetch: Callable[[], Token]) -> None:
        self._fetch = fetch
        self._token: Token | None = None
        self._pending: Future[Token] | None = None
        self._lock = threading.Lock()
        _sources_alive.add(self)

    async def get(self) -> Token:
        """A token that is fresh. Raises what `fetch` raises."""
        token = self._token
        if token is not None and token.is_fresh(clock.time()):
            return token
        return await asyncio.shield(asyncio.wrap_future(self._renewal()))

    @property
    def token(self) -> Token | None:
        """The cached token, which may have expired; None if no token was fetched yet."""
        return self._token

    def adopt(self, token: Token) -> None:
        """Begin with a token from elsewhere, where none is kept yet."""
        with self._lock:
            if self._token is None and token.is_fresh(clock.time()):
                self._token = token

    def refuse(self, value: str) -> None:
        """A server refused this token: the next `get` renews it, unless that has happened meanwhile."""
        with self._lock:
            if self._token is not None and self._token.value == value:
                self._token = None

    def forget_others(self) -> None:
        """After a fork: the parent's threads and whatever they held do not exist here."""
        self._lock = threading.Lock()
        self._pending = None

    def _renewal(self) -> Future[Token]:
        with self._lock:
            if self._pending is None:
                self._pending = Future()
                threading.Thread(target=self._renew, args=(self._pending,), name="crestline-token", daemon=True).start()
            return self._pending

    def _renew(self, pending: Future[Token]) -> None:
        try:
            token = self._fetch()
        except BaseException as error:  # whatever it is, the waiting callers must get it
            logger.debug("A token was not renewed: %s", error)
            with self._lock:
                self._pending = None
            pending.set_exception(error)
            return
        with self._lock:
            self._token = token
            self._pending = None
        lifetime = "of unknown life" if token.expires is None else f"that lives {token.expires - token.issued:.0f} s"
        logger.debug("A token was renewed by one %s", lifetime)
        pending.set_result(token)


_KEPT = 256
_sources: OrderedDict[Hashable, TokenSource] = OrderedDict()
"""the last used ones, so that a token outlives the connection that asked for it"""
_sources_alive: weakref.WeakSet[TokenSource] = weakref.WeakSet()
_sources_lock = threading.RLock()


def shared_source(key: Hashable, fetch: Callable[[], Token]) -> TokenSource:
    """The process's one source for an identity: `key` is made of what would make two sources different."""
    with _sources_lock:
        source = _sources.get(key)
        if source is None:
            source = _sources[key] = TokenSource(fetch)
        _sources.move_to_end(key)
        while len(_sources) > _KEPT:
            _sources.popitem(last=False)
        return source


def _after_fork() -> None:
    """Forget locks and fetches of the parent's threads, which the child does not have."""
    for source in list(_sources_alive):
        source.forget_others()
    _sources_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_sources_lock.acquire, after_in_parent=_sources_lock.release, after_in_child=_after_fork)
