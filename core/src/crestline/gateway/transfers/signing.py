"""Signed URLs."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import urlencode

from crestline.model import PermissionDeniedError


class UrlSigner:
    """Signs a method, a path and an expiry with HMAC-SHA256.

    Paths are those of the gateway itself. The prefix that a proxy adds is not part of the signature.
    """

    def __init__(self, key: bytes, public_url: Callable[[], str], clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._public_url = public_url
        self._clock = clock

    def url(self, method: str, path: str, expires: int) -> str:
        """Return a URL that allows `method` on `path` until `expires` (seconds since the epoch)."""
        query = urlencode({"expires": expires, "signature": self._sign(method, path, str(expires))})
        return f"{self._public_url().rstrip('/')}{path}?{query}"

    def check(self, method: str, path: str, expires: str, signature: str) -> None:
        """Check a request by a signed URL.

        Raises:
            PermissionDeniedError: the signature is for another request, or it has expired.
        """
        if not hmac.compare_digest(self._sign(method, path, expires).encode(), signature.encode()):
            raise PermissionDeniedError("The signature does not fit this request.", hint="Use the URL as it was given.")
        if int(expires) < self._clock():
            raise PermissionDeniedError("The signed URL has expired.", hint="Start the transfer again.")

    def _sign(self, method: str, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{method}\n{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
