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
"""Length in bytes of the key of signed URLs."""

T = TypeVar("T")


class Endpoint(msgspec.Struct, frozen=True):
    """Address of the gateway for clients of this machine."""

    url: str
    token_url: str
    system: str
    """Name of the first system."""
    pid: int | None = None
    """Process id of the gateway."""


class StateDirectory:
    """Paths below the state directory, and the secrets that are created once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.private = path / "private"
        self.files = path / "files"
        self.database = self.private / "gateway.db"
        self.first_client = path / "client.json"
        self.endpoint = path / "endpoint.json"

    @property
    def secrets(self) -> list[Path]:
        """Paths that no served file system may contain."""
        return [self.private, self.first_client]

    def create(self) -> None:
        """Create missing directories.

        Raises:
            ConfigError: the directory cannot be created or written, or other users can replace its content.
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
        """Return the permanent UUID of the state directory, from which issuer and audience of its tokens are
        derived."""
        return self.secret(
            "identifier", lambda: str(uuid.uuid4()).encode(), lambda content: str(uuid.UUID(content.decode()))
        )

    def transfer_key(self) -> bytes:
        """Return the key that signs URLs of transfers."""
        return self.secret("transfer_key", lambda: secrets.token_bytes(_KEY), _whole_key)

    def secret(self, name: str, make: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
        """Return the secret in `private/<name>`, created once and readable to the owner only.

        Args:
            name: name of the file.
            make: creates the content.
            read: converts the content; raises ValueError or KeyError if it is damaged.

        Raises:
            ConfigError: the file is empty, truncated or damaged. It is not replaced, because tokens and URLs would
                become invalid.
        """
        file = self.private / name
        if not file.exists():
            write_secret(file, make())
        return _parsed(file, self._read(file), read)

    def read_first_client(self) -> tuple[str, str]:
        """Return id and secret of the first client.

        Raises:
            ConfigError: no gateway has run with this state directory yet, or the file is damaged.
        """
        return _parsed(self.first_client, self._read(self.first_client), _id_and_secret)

    def record_endpoint(self, endpoint: Endpoint) -> None:
        """Record the gateway's address."""
        write_secret(self.endpoint, msgspec.json.format(msgspec.json.encode(endpoint)))

    def read_endpoint(self) -> Endpoint:
        """Return the last address of the gateway.

        Raises:
            ConfigError: no gateway has run with this state directory yet.
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
    """Refuse a directory whose content users other than its owner and root can replace, as sshd does for home
    directories.

    Raises:
        ConfigError: the directory, or a parent directory, belongs to another user or is writable for others.
    """
    real = path.resolve()
    for directory in (real, *real.parents):
        status = directory.stat()
        if status.st_uid not in (0, os.geteuid()):
            raise ConfigError(
                f"{directory} belongs to another user (uid {status.st_uid}), who could exchange the gateway's keys.",
                hint="Choose a state directory below directories of the gateway's own user.",
            )
        # In a sticky directory such as /tmp, only its owner can replace an entry.
        if others_may_write(status) and (directory == real or not status.st_mode & stat.S_ISVTX):
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(
                f"Others may write to {directory} (mode {mode:o}) and so exchange the gateway's keys.",
                hint=f"Run: chmod go-w {directory}",
            )


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, atomically.

    Raises:
        ConfigError: the file cannot be written, for example because the disk is full.
    """
    try:
        write_private(file, content)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {file}: {error.strerror}.", hint="Make room, or choose another disk."
        ) from error
