"""Whether a file on the system is the one that is meant."""

from __future__ import annotations

from crestline.client.files.strategy import FileStrategy
from crestline.client.remote_names import remote_stat
from crestline.model import FileMissingError


async def is_same(
    strategy: FileStrategy, path: str, size: int, checksum: str, *, otherwise: bool | None = None
) -> bool:
    """Whether the remote file has this size and SHA-256.

    Args:
        otherwise: what is taken to be true where the checksum is not to be had in time; None: what the size says.
    """
    try:
        there = await strategy.checksum(path, size)
        if there is not None:
            return there == checksum
        if otherwise is not None:
            return otherwise
        status = await remote_stat(strategy.backend, path)
    except FileMissingError:
        return False
    return status is not None and status["size"] == size
