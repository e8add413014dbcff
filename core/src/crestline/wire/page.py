"""What the gateway tells its own page before anybody has signed in."""

from __future__ import annotations

from crestline.wire.codec import Message


class PageProvider(Message):
    """Where people can sign in: authorization code with PKCE (RFC 7636), as a public client."""

    issuer: str
    name: str
    client_id: str
    scope: str
    resource: str | None = None


class PageSettings(Message):
    """`GET /page/settings.json`"""

    version: str
    public_url: str
    """base of the URLs that the gateway signs"""
    providers: list[PageProvider]
