"""A directory of private keys, one file per user."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import asyncssh

from crestline.gateway.hosts.ssh.credentials.base import Credentials, Identity
from crestline.model import ConfigError, PermissionDeniedError


class UserKeys(Credentials):
    """Reads `<directory>/<user>` at every login, so that a replaced key takes effect immediately."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def credentials(self, user: str) -> Identity:
        return Identity(await asyncio.to_thread(read_private_key, self._directory / user, user))


def read_private_key(path: Path, whose: str) -> asyncssh.SSHKey:
    """Read a private key without a passphrase that only the gateway's own account can read.

    Raises:
        PermissionDeniedError: the file does not exist.
        ConfigError: other users can read the file, or it is not a private key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise PermissionDeniedError(
            f"The gateway has no SSH key for '{whose}'.", hint="Ask the site's operator for one."
        ) from error
    except OSError as error:
        raise ConfigError(f"The SSH key of '{whose}' cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.getuid():
            raise ConfigError(
                f"The SSH key of '{whose}' is not the gateway's alone.",
                hint=f"chown it to the gateway, chmod 600 {path}.",
            )
        data = file.read()
    try:
        return asyncssh.import_private_key(data)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        # Without the cause's text, which may contain parts of the file.
        raise ConfigError(
            f"The SSH key of '{whose}' is not a private key without a passphrase ({type(error).__name__})."
        ) from None
