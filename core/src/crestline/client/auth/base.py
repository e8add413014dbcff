"""The base classes of all kinds of credentials."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping

from crestline.client.auth.token import Token, TokenSource
from crestline.model import AuthenticationError


class Authorizer(abc.ABC):
    """Adds credentials to requests. No `repr` or error of it contains a secret.

    Example: `system = crestline.connect("daint@cscs", authorizer=MyAuthorizer())`
    """

    identity: str
    """text that identifies the user without a secret, the same in every process"""
    header: str = "Authorization"
    """name of the header with the credential"""

    @abc.abstractmethod
    async def auth_headers(self) -> dict[str, str]:
        """Return the headers for the next request. pyfirecrest calls this method too.

        Raises:
            AuthenticationError: the credentials were refused.
            GatewayUnavailableError: the token issuer does not answer.
        """

    @abc.abstractmethod
    def refused(self, headers: Mapping[str, str]) -> bool:
        """Note that a server answered 401 to these headers. Returns True if the next headers will differ."""

    @property
    def token(self) -> Token | None:
        """The access token in use, or None if other processes cannot use it."""
        return None

    def adopt(self, token: Token) -> None:
        """Use a token that another process of this user received, until it expires."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.identity})"


class BearerAuthorizer(Authorizer):
    """An authorizer whose tokens come from a source that can renew them."""

    _source: TokenSource

    async def auth_headers(self) -> dict[str, str]:
        token = await self._source.get()
        return {"Authorization": f"Bearer {sendable(token.value)}"}

    @property
    def token(self) -> Token | None:
        return self._source.token

    def adopt(self, token: Token) -> None:
        self._source.adopt(token)

    def refused(self, headers: Mapping[str, str]) -> bool:
        self._source.refuse(headers.get("Authorization", "").removeprefix("Bearer "))
        return True


def fingerprint(*parts: str) -> str:
    """Return a digest that distinguishes secrets without revealing them."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def sendable(credential: str) -> str:
    """Return the credential if a header can carry it. Otherwise HTTP libraries would repeat it in their errors.

    Raises:
        AuthenticationError: the credential has control characters, or characters beyond ASCII.
    """
    if credential.isascii() and credential.isprintable():
        return credential
    raise AuthenticationError(
        "The credential has a character that no HTTP header can carry.", hint="Store it again, whole and on one line."
    )
