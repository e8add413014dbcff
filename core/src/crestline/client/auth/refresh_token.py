"""A refresh token of a person, which the issuer may replace at every use (RFC 6749, section 6)."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from crestline.client.auth.base import BearerAuthorizer, fingerprint
from crestline.client.auth.token import Token, shared_source
from crestline.client.auth.token_endpoint import request_token
from crestline.model import ConfigError
from crestline.private_files import locked, write_private


class RefreshTokenStore(Protocol):
    """Where the refresh token that is valid now is kept."""

    name: str
    """says where, without the token"""
    key: Hashable
    """two stores with equal keys hold the same token"""

    def exclusive(self) -> AbstractContextManager[None]:
        """Lock the stored token: no other process reads or writes it inside the block."""

    def load(self) -> str: ...

    def save(self, refresh_token: str) -> None: ...


class RefreshToken(BearerAuthorizer):
    """Gets access tokens for a refresh token; a rotated one is stored before the access token is used."""

    def __init__(
        self,
        token_url: str,
        client_id: str,
        store: RefreshTokenStore,
        *,
        client_secret: str | None = None,
        scope: str | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.identity = f"refresh token {store.name} for client {client_id} of {token_url}"
        form = {"grant_type": "refresh_token", "client_id": client_id}
        if client_secret:
            form["client_secret"] = client_secret
        if scope:
            form["scope"] = scope

        def fetch() -> Token:
            with store.exclusive():
                old = store.load()
                token, new = request_token(token_url, form | {"refresh_token": old}, verify=verify, repeatable=False)
                if new is not None and new != old:
                    store.save(new)
            return token

        self._source = shared_source(("refresh_token", token_url, client_id, store.key), fetch)


class TokenFile:
    """A refresh token in a file of mode 0600, shared by the processes of one user through a lock beside it.

    Args:
        path: the file.
        first: the initial token. If it differs from the one that the file began with, the user has signed in again,
            and it replaces what the file has rotated to since.
    """

    def __init__(self, path: Path, first: str) -> None:
        self.name = str(path)
        self.key: Hashable = (str(path), fingerprint(first))
        self._path = path
        self._first = first

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock of the token file, across threads and processes."""
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(locked(self._path.with_name(self._path.name + ".lock")))
            except OSError as error:
                raise ConfigError(
                    f"No refresh token can be kept in {self._path}: {error.strerror}.",
                    hint="Make its directory writable.",
                ) from error
            yield

    def load(self) -> str:
        """The token that is valid now."""
        try:
            origin, _, now = self._path.read_text().partition("\n")
        except FileNotFoundError:
            return self._first
        except OSError as error:
            raise ConfigError(f"Cannot read {self._path}: {error.strerror}.", hint="Make it readable.") from error
        return now.strip() if origin == fingerprint(self._first) and now.strip() else self._first

    def save(self, refresh_token: str) -> None:
        """Replace it at once or not at all."""
        try:
            write_private(self._path, f"{fingerprint(self._first)}\n{refresh_token}\n".encode())
        except OSError as error:
            raise ConfigError(
                f"The new refresh token cannot be kept in {self._path}: {error.strerror}.",
                hint="Make room, then sign in again: the old one is used up.",
            ) from error
