"""The gateway's home: the folder that holds all it keeps.

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
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from crestline.model import ConfigError


class Endpoint(msgspec.Struct, frozen=True):
    """Where a client of this machine finds the gateway."""

    url: str
    token_url: str
    system: str
    """the first one"""


class Home:
    """Paths below the home, and the secrets that are made once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.private = path / "private"
        self.files = path / "files"
        self.database = self.private / "gateway.db"
        self.first_client = path / "client.json"
        self.endpoint = path / "endpoint.json"

    def create(self) -> None:
        """Make what is absent.

        Raises:
            ConfigError: the folder cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.files.mkdir(exist_ok=True, mode=0o700)
            self.private.mkdir(exist_ok=True, mode=0o700)
            self.private.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"Cannot make the home {self.path}: {error.strerror}.", hint="Name another with --home."
            ) from error

    def identifier(self) -> str:
        """A UUID that is the home's for good: issuer and audience of its tokens are made of it."""
        return self.secret("identifier", lambda: str(uuid.uuid4()).encode()).decode()

    def secret(self, name: str, make: Callable[[], bytes] = lambda: secrets.token_bytes(32)) -> bytes:
        """The content of `private/<name>`, made once and readable to the owner alone."""
        file = self.private / name
        if not file.exists():
            write_private(file, make())
        return file.read_bytes()

    def read_first_client(self) -> tuple[str, str]:
        """Id and secret of the client that was made with the home.

        Raises:
            ConfigError: no gateway has run on this home yet.
        """
        client = json.loads(self._read(self.first_client))
        return client["client_id"], client["client_secret"]

    def record_endpoint(self, endpoint: Endpoint) -> None:
        """Note where the gateway is served now."""
        write_private(self.endpoint, msgspec.json.format(msgspec.json.encode(endpoint)))

    def read_endpoint(self) -> Endpoint:
        """Where the gateway was last served.

        Raises:
            ConfigError: no gateway has run on this home yet.
        """
        return msgspec.json.decode(self._read(self.endpoint), type=Endpoint)

    def _read(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError as error:
            raise ConfigError(
                f"No gateway has run on {self.path} yet.", hint=f"Start it: crestline serve --home {self.path}"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"Cannot read {file}: {error.strerror}.", hint="Ask the user who runs the gateway."
            ) from error


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(file)
