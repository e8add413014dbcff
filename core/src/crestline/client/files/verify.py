"""Whether a file on the system is the one that is meant."""

from __future__ import annotations

import contextlib
import logging

from crestline.client.backends.base import Backend
from crestline.client.files.names import remote_stat
from crestline.model import GatewayUnavailableError, InvalidRequestError, MissingFileError, UnsupportedError

log = logging.getLogger(__name__)

# FirecREST gives sha256sum 5 s.
_CHECKSUM_LIMIT = 1024**3


async def is_same(backend: Backend, path: str, size: int, checksum: str) -> bool:
    """Whether the remote file has this size and SHA-256; the size alone where the checksum is not to be had in time."""
    try:
        there = await remote_checksum(backend, path, size)
        if there is not None:
            return there == checksum
        status = await remote_stat(backend, path)
    except MissingFileError:
        return False
    return status is not None and status["size"] == size


async def remote_checksum(backend: Backend, path: str, size: int) -> str | None:
    """Hexadecimal SHA-256 of a remote file of about `size` bytes, None where it is not to be had in time.

    Raises:
        MissingFileError: it is not there.
    """
    if "content" in backend.features or size <= _CHECKSUM_LIMIT:
        with contextlib.suppress(GatewayUnavailableError, InvalidRequestError, UnsupportedError):
            return await backend.checksum(path)
    log.debug("no checksum of %s to be had, comparing sizes", path)
    return None
