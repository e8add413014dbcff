"""Whether a file on the system is the one that is meant."""

from __future__ import annotations

import logging

from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.files.names import remote_stat
from crestline.model import GatewayUnavailableError, InvalidRequestError, MissingFileError, UnsupportedError

log = logging.getLogger(__name__)

# FirecREST gives sha256sum 5 s.
_CHECKSUM_LIMIT = 1024**3


async def is_same(backend: Backend, path: str, size: int, checksum: str, *, otherwise: bool | None = None) -> bool:
    """Whether the remote file has this size and SHA-256.

    Args:
        otherwise: what is taken to be true where the checksum is not to be had in time; None: what the size says.
    """
    try:
        there = await remote_checksum(backend, path, size)
        if there is not None:
            return there == checksum
        if otherwise is not None:
            return otherwise
        status = await remote_stat(backend, path)
    except MissingFileError:
        return False
    return status is not None and status["size"] == size


async def remote_checksum(backend: Backend, path: str, size: int) -> str | None:
    """Hexadecimal SHA-256 of a remote file of about `size` bytes, None where it is not to be had in time.

    Raises:
        MissingFileError: it is not there.
    """
    is_plain = Capability.CONTENT not in backend.capabilities
    if (path, size) not in backend.slow_checksums and not (is_plain and size > _CHECKSUM_LIMIT):
        try:
            return await backend.checksum(path)
        except GatewayUnavailableError as error:
            if is_plain and error.status == 408:
                backend.slow_checksums.add((path, size))
        except (InvalidRequestError, UnsupportedError):
            pass
    log.debug("no checksum of %s to be had, comparing sizes", path)
    return None
