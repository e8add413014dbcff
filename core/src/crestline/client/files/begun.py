"""Downloads that plain FirecREST prepares in a job: begun by one call and completed by a later one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from crestline.client.backends.messages import TransferMethod
from crestline.client.files.local import PartFile
from crestline.private_files import write_private


class Begun:
    """What is known of a transfer that was begun, in a file beside the unfinished download.

    It holds a signed URL, so only its owner may read it.
    """

    def __init__(self, part: PartFile) -> None:
        self._path: Path = part.path.with_suffix(".transfer")

    def read(self) -> TransferMethod | None:
        """The transfer; None if none was begun."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=TransferMethod)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, transfer: TransferMethod) -> None:
        """Store the transfer in a file that only its owner may read."""
        write_private(self._path, msgspec.json.encode(transfer))

    def forget(self) -> None:
        """Remove the file, if it exists."""
        self._path.unlink(missing_ok=True)
