"""Streams of bytes into files, their checksums, and temporary names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Protocol

from crestline.model.crc32 import Crc32

BLOCK = 1024 * 1024
"""Size in bytes of a block."""


async def blocks(chunks: AsyncIterator[bytes], size: int = BLOCK) -> AsyncIterator[bytes]:
    """Combine chunks into blocks of at least `size` bytes, the last one smaller."""
    waiting: list[bytes] = []
    held = 0
    async for chunk in chunks:
        waiting.append(chunk)
        held += len(chunk)
        if held >= size:
            yield b"".join(waiting)
            waiting, held = [], 0
    if held:
        yield b"".join(waiting)


class Digest(Protocol):
    """An incremental checksum."""

    def update(self, block: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def digest_of(checksum: str) -> Digest:
    """Return an empty checksum of the kind of this hexadecimal one: CRC-32 or SHA-256."""
    return Crc32() if is_crc32(checksum) else hashlib.sha256()


def is_crc32(checksum: str) -> bool:
    """Whether this hexadecimal checksum is a CRC-32, by its length."""
    return len(checksum) == 8


def temporary_of(target: str, identifier: str) -> str:
    """Return the temporary name for `target`, in the same directory, which depends only on `identifier`."""
    directory, name = os.path.split(target)
    digest = hashlib.sha256(os.fsencode(f"{name}\0{identifier}")).hexdigest()[:32]
    return os.path.join(directory, f".crestline-{digest}.part")
