"""What one short-lived process leaves to the next: its access token, and what the gateway said of itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from crestline import clock
from crestline.client.auth import Authorizer, Token
from crestline.client.backends.messages import Description
from crestline.client.config import sites_file
from crestline.private_files import write_private

_GOOD_FOR = 600.0


class _Content(msgspec.Struct):
    of: str
    token: Token | None = None
    description: Description | None = None


def session_cache_file(target: str | None, system: str | None = None) -> Path | None:
    """Return where one command leaves its access token for the next; None where nothing can be left.

    Tools call commands by the minute, and a token is good for longer than that.

    Args:
        target: what `crestline.connect` takes as target.
        system: what it takes as system.
    """
    folder = sites_file().with_name("session_cache")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    if folder.stat().st_mode & 0o077 or not os.access(folder, os.W_OK):
        return None
    meant = " ".join([target or os.environ.get("FIRECREST_URL", ""), system or ""])
    return folder / hashlib.sha256(meant.encode()).hexdigest()[:16]


class SessionCache:
    """A file (0600) for one gateway, system and identity; whatever else it holds is ignored and replaced.

    Args:
        file: in a directory that only its owner may write to.
        of: what its content holds for.
    """

    def __init__(self, file: Path, of: str) -> None:
        self._file = file
        self._content = _Content(of)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            found = msgspec.json.decode(file.read_bytes(), type=_Content)
            if found.of == of:
                self._content = found

    @property
    def description(self) -> Description | None:
        """What is known of the gateway, while that is fresh."""
        found = self._content.description
        return found if found is not None and clock.time() - found.asked < _GOOD_FOR else None

    def load(self, authorizer: Authorizer) -> None:
        """Give the token to the authorizer."""
        if self._content.token is not None:
            authorizer.adopt(self._content.token)

    def save(self, authorizer: Authorizer, description: Description) -> None:
        """Write down what the next process may use, if anything is new; where that cannot be done, it asks again."""
        content = _Content(self._content.of, authorizer.token, description)
        if content == self._content:
            return
        self._content = content
        with contextlib.suppress(OSError):
            write_private(self._file, msgspec.json.encode(content))
