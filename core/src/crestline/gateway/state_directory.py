"""The gateway's state directory: the folder that holds all it keeps.

```
files/      what users keep on the default file system
private/    0700: signing key, database, local jobs; no file endpoint serves it
client.json 0600: the first client's id and secret
endpoint.json: where it was last served
```
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from crestline.model import ConfigError
from crestline.private_files import others_may_write, write_private

_KEY = 32
"""bytes of the key of signed URLs"""

T = TypeVar("T")


class Endpoint(msgspec.Struct, frozen=True):
    """Where a client of this machine finds the gateway."""

    url: str
    token_url: str
    system: str
    """the first one"""
    pid: int | None = None
    """process id of the gateway"""


class StateDirectory:
    """Paths below the state directory, and the secrets that are made once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.private = path / "private"
        self.files = path / "files"
        self.database = self.private / "gateway.db"
        self.first_client = path / "client.json"
        self.endpoint = path / "endpoint.json"

    @property
    def secrets(self) -> list[Path]:
        """What no file system of the gateway may hold."""
        return [self.private, self.first_client]

    def create(self) -> None:
        """Make what is absent.

        Raises:
            ConfigError: the folder cannot be made or written, or others may exchange what is in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_ownership(self.path)
            self.files.mkdir(exist_ok=True, mode=0o700)
            self.private.mkdir(exist_ok=True, mode=0o700)
            self.private.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"Cannot make the state directory {self.path}: {error.strerror}.", hint="Name another with --state-dir."
            ) from error

    def identifier(self) -> str:
        """A UUID that is the state directory's for good: issuer and audience of its tokens are made of it."""
        return self.secret(
            "identifier", lambda: str(uuid.uuid4()).encode(), lambda content: str(uuid.UUID(content.decode()))
        )

    def transfer_key(self) -> bytes:
        """Return the key that signs URLs of transfers."""
        return self.secret("transfer_key", lambda: secrets.token_bytes(_KEY), _whole_key)

    def secret(self, name: str, make: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
        """What `private/<name>` holds, made once and readable to the owner alone.

        Args:
            read: makes of the content what is wanted; a ValueError or KeyError says that it is damaged.

        Raises:
            ConfigError: it is empty, cut or damaged. It is not made anew: tokens and URLs that are out would end.
        """
        file = self.private / name
        if not file.exists():
            write_secret(file, make())
        return _parsed(file, self._read(file), read)

    def read_first_client(self) -> tuple[str, str]:
        """Id and secret of the client that was made with the state directory.

        Raises:
            ConfigError: no gateway has run on this state directory yet, or the file is damaged.
        """
        return _parsed(self.first_client, self._read(self.first_client), _id_and_secret)

    def record_endpoint(self, endpoint: Endpoint) -> None:
        """Note where the gateway is served now."""
        write_secret(self.endpoint, msgspec.json.format(msgspec.json.encode(endpoint)))

    def read_endpoint(self) -> Endpoint:
        """Where the gateway was last served.

        Raises:
            ConfigError: no gateway has run on this state directory yet.
        """
        return _parsed(self.endpoint, self._read(self.endpoint), msgspec.json.Decoder(Endpoint).decode)

    def _read(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError as error:
            raise ConfigError(
                f"No gateway has run on {self.path} yet.", hint=f"Start it: crestline serve --state-dir {self.path}"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"Cannot read {file}: {error.strerror}.", hint="Ask the user who runs the gateway."
            ) from error


def _parsed(file: Path, content: bytes, read: Callable[[bytes], T]) -> T:
    try:
        return read(content)
    except (ValueError, KeyError, TypeError) as error:
        state = "is empty" if not content.strip() else "is damaged"
        raise ConfigError(
            f"{file} {state}.",
            hint="Restore it from a backup. Or remove it: a new one is made, and what was signed with it ends.",
        ) from error


def _whole_key(content: bytes) -> bytes:
    if len(content) != _KEY:
        raise ValueError(len(content))
    return content


def _id_and_secret(content: bytes) -> tuple[str, str]:
    client = json.loads(content)
    client_id, secret = client["client_id"], client["client_secret"]
    if not (isinstance(client_id, str) and isinstance(secret, str) and client_id and secret):
        raise ValueError("an empty id or secret")
    return client_id, secret


def check_ownership(path: Path) -> None:
    """Refuse a directory whose content others than its owner and root may exchange, as sshd does with home directories.

    Raises:
        ConfigError: it, or a directory above it, belongs to another user or may be written by others.
    """
    real = path.resolve()
    for directory in (real, *real.parents):
        status = directory.stat()
        if status.st_uid not in (0, os.geteuid()):
            raise ConfigError(
                f"{directory} belongs to another user (uid {status.st_uid}), who could exchange the gateway's keys.",
                hint="Choose a state directory below directories of the gateway's own user.",
            )
        # In a sticky directory, such as /tmp, only its owner can exchange an entry.
        if others_may_write(status) and (directory == real or not status.st_mode & stat.S_ISVTX):
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(
                f"Others may write to {directory} (mode {mode:o}) and so exchange the gateway's keys.",
                hint=f"Run: chmod go-w {directory}",
            )


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        ConfigError: the disk is full, say.
    """
    try:
        write_private(file, content)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {file}: {error.strerror}.", hint="Make room, or choose another disk."
        ) from error
