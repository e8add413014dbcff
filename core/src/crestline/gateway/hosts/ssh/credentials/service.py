"""A certificate service of the site over HTTP: it receives the caller's token and returns a certificate."""

from __future__ import annotations

import ipaddress
import time
from urllib.parse import urlsplit

import asyncssh
import httpx
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from crestline.bounded import MAX_REFUSAL, BoundedClient, decode
from crestline.gateway.hosts.ssh.credentials.base import Credentials, Identity
from crestline.gateway.identity import caller_token
from crestline.model import AuthenticationError, ConfigError, GatewayUnavailableError, PermissionDeniedError

_MARGIN = 30


class CertificateRequest(msgspec.Struct):
    """The JSON body of `POST <url>`. The header is `Authorization: Bearer <the caller's access token>`.

    Without a caller (a background query), the token is the gateway's own, if it has one for the service.
    """

    username: str
    public_key: str
    """One line, as in an `authorized_keys` file. The private half never leaves the gateway."""


class CertificateAnswer(msgspec.Struct):
    """The JSON body of its 200 or 201. 401 means that the token is not sufficient, 403 that the user may not log in."""

    certificate: str
    """One line, as in a `-cert.pub` file, for that key, with `username` among its principals."""


class CertificateService(Credentials):
    """Gets a certificate for a fresh key, and keeps both until half a minute before the certificate expires.

    Args:
        url: https, or http on loopback.
        token: the gateway's own, for work without a caller.
        timeout: seconds for an answer.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise ConfigError(f"The certificate service's URL {url} is not https.", hint="Tokens travel to it.")
        self._url = url
        self._token = token
        self._client = BoundedClient(limit=MAX_REFUSAL, seconds=timeout)
        self._kept: dict[str, Identity] = {}

    async def credentials(self, user: str) -> Identity:
        kept = self._kept.get(user)
        if kept is not None and (kept.expires or 0) - _MARGIN > time.time():
            return kept
        key = asyncssh.generate_private_key("ssh-ed25519")
        identity = self._checked(user, key, await self._ask(user, key))
        self._kept[user] = identity
        return identity

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, user: str, key: asyncssh.SSHKey) -> bytes:
        token = caller_token.get() or self._token
        if token is None:
            raise AuthenticationError(
                f"The request has no access token to get an SSH certificate for '{user}' with.",
                hint="Log in again, or give the gateway a token of its own for the certificate service.",
            )
        request = CertificateRequest(username=user, public_key=key.export_public_key().decode().strip())
        try:
            answer = await self._client.post(
                self._url,
                content=msgspec.json.encode(request),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
        except (httpx.HTTPError, UnicodeEncodeError) as error:
            raise GatewayUnavailableError(
                f"The SSH certificate service does not answer ({type(error).__name__}).", retry_after=1
            ) from error
        if answer.status_code == 401:
            raise AuthenticationError("The SSH certificate service does not accept the token.", hint="Log in again.")
        if answer.status_code == 403:
            raise PermissionDeniedError(f"The SSH certificate service refuses '{user}'.")
        if answer.status_code not in (200, 201):
            raise GatewayUnavailableError(f"The SSH certificate service answered {answer.status_code}.", retry_after=1)
        return answer.content

    def _checked(self, user: str, key: asyncssh.SSHKey, body: bytes) -> Identity:
        """Return the identity if the certificate is for this user and key, so that a wrong one is detected before
        the login."""
        try:
            line = decode(body, CertificateAnswer).certificate.encode()
            certificate = asyncssh.import_certificate(line)
            details = load_ssh_public_identity(line)
        except (msgspec.DecodeError, asyncssh.KeyImportError, UnsupportedAlgorithm, ValueError) as error:
            raise GatewayUnavailableError("The SSH certificate service's answer is not a certificate.") from error
        if (
            not isinstance(details, SSHCertificate)
            or certificate.key.public_data != key.public_data
            or user.encode() not in details.valid_principals
        ):
            raise GatewayUnavailableError(
                f"The SSH certificate service's answer is not for '{user}'.", hint="Check the service."
            )
        return Identity(key, certificate, details.valid_before)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
