"""CRC-32 of uploads over several requests, computed while the bytes pass, so that no file has to be read again."""

from __future__ import annotations

from collections import OrderedDict

from crestline.model.crc32 import Crc32

_MOST = 4096
"""Maximum number of uploads. An older one is read again for its checksum."""

Upload = tuple[str, bytes]
"""User and temporary name."""


class RunningChecksums:
    """Checksums of the unfinished uploads that this process has seen from their first byte on."""

    def __init__(self) -> None:
        self._sums: OrderedDict[Upload, tuple[int, Crc32]] = OrderedDict()

    def pop(self, upload: Upload, offset: int) -> Crc32 | None:
        """Remove and return the checksum of the bytes before `offset`, to continue it; None if it is unknown."""
        known, digest = self._sums.pop(upload, (0, None))
        if offset == 0:
            return Crc32()
        return digest if known == offset else None

    def store(self, upload: Upload, offset: int, digest: Crc32) -> None:
        """Store the checksum of all bytes before `offset`."""
        self._sums[upload] = offset, digest
        if len(self._sums) > _MOST:
            self._sums.popitem(last=False)
