"""Open files of a system. Reads use blocks or a local copy, and writes go to a local copy that is sent at the end."""

from __future__ import annotations

import io
import os
import tempfile

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile


class Blocks(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read in blocks."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return content


class Download(io.BufferedReader):
    """A file that is read from a copy on this machine."""

    def __init__(self, fs: AbstractFileSystem, path: str, copy: str) -> None:
        super().__init__(io.FileIO(copy))
        self.fs = fs
        self.path = path
        self.size = os.fstat(self.fileno()).st_size


class Draft(io.BufferedRandom):
    """A file that is written to a local copy and sent when it is closed, unless an error ends its `with`.

    Args:
        fs: the file system.
        path: path of the file.
        autocommit: True to send it when it is closed. Within a transaction, `commit` sends it at the end.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, *, autocommit: bool = True) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="crestline-")
        super().__init__(io.FileIO(os.path.join(self._directory.name, "content"), "w+"))
        self.fs = fs
        self.path = path
        self.autocommit = autocommit
        self._is_discarded = False

    @property
    def name(self) -> str:
        return os.path.join(self._directory.name, "content")

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            except BaseException:  # this machine's disk is full
                self.discard()
                raise
            if self.autocommit:
                self.commit()

    def commit(self) -> None:
        """Send the file, unless it was discarded."""
        if not self._is_discarded:
            try:
                self.fs.put_file(self.name, self.path)
            finally:
                self.discard()

    def discard(self) -> None:
        """Close and remove the local draft without an upload."""
        self._is_discarded = True
        if not self.closed:
            super().close()
        self._directory.cleanup()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        if not self.closed:
            self.discard()


class Text(io.TextIOWrapper):
    """A text file on top of a remote binary file."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and isinstance(self.buffer, Draft):
            self.buffer.discard()
        self.close()
