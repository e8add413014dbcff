"""CRC-32 of uploads that come in several requests, made as their bytes pass: none has to be read again at its end."""

from __future__ import annotations

from collections import OrderedDict

from crestline.model.crc32 import Crc32

_MOST = 4096
"""uploads; an older one is read again for its sum"""

Upload = tuple[str, bytes]
"""user and temporary name"""


class RunningChecksums:
    """What this process knows of the unfinished uploads that it has seen from their first byte on."""

    def __init__(self) -> None:
        self._sums: OrderedDict[Upload, tuple[int, Crc32]] = OrderedDict()

    def take(self, upload: Upload, offset: int) -> Crc32 | None:
        """Return and forget the checksum of the bytes before `offset`, to continue it; None if it is unknown."""
        known, digest = self._sums.pop(upload, (0, None))
        if offset == 0:
            return Crc32()
        return digest if known == offset else None

    def keep(self, upload: Upload, offset: int, digest: Crc32) -> None:
        """The sum of all bytes before `offset`."""
        self._sums[upload] = offset, digest
        if len(self._sums) > _MOST:
            self._sums.popitem(last=False)
