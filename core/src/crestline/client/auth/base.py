"""What every way of proving who we are has in common."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping

from crestline.client.auth.token import Token, TokenSource
from crestline.model import AuthenticationError


class Authorizer(abc.ABC):
    """Adds credentials to requests. No method, `repr` or error of it reveals a secret.

    Example: `system = crestline.connect("daint@cscs", authorizer=MyAuthorizer())`
    """

    identity: str
    """names the identity without revealing a secret; equal for equal identities in every process"""
    header: str = "Authorization"
    """name of the header that the credential travels in"""

    @abc.abstractmethod
    async def auth_headers(self) -> dict[str, str]:
        """Headers for the next request; what pyfirecrest calls, too.

        Raises:
            AuthenticationError: the credentials were refused.
            GatewayUnavailableError: the token issuer does not answer.
        """

    @abc.abstractmethod
    def refused(self, headers: Mapping[str, str]) -> bool:
        """A server answered 401 to these headers. True: the next ones will differ, so trying again makes sense."""

    @property
    def token(self) -> Token | None:
        """The access token in use, if there is one that could be handed on to another process."""
        return None

    def adopt(self, token: Token) -> None:
        """Use a token that another process of this identity got, while it is fresh."""

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
    """Tells secrets apart without revealing them."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def sendable(credential: str) -> str:
    """The credential, if a header can carry it: the HTTP libraries would repeat it in their errors.

    Raises:
        AuthenticationError: it holds control characters, or others than ASCII.
    """
    if credential.isascii() and credential.isprintable():
        return credential
    raise AuthenticationError(
        "The credential has a character that no HTTP header can carry.", hint="Store it again, whole and on one line."
    )
