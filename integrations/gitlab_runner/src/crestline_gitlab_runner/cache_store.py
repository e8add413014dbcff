"""Caches on the runner's machine, for runners without their own storage: a directory for each project and scope.

A project has a scope for its protected branches and one for the others; see `CiJob.cache_scope`. Project, scope and key
appear in file names only as digests.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import suppress
from pathlib import Path


class CacheStore:
    """The caches of one scope.

    Args:
        folder: directory of all projects.
        scope: the scope.
        most: maximum bytes of all caches of the project together. The oldest are removed first.
    """

    def __init__(self, folder: Path, project: str, scope: str, *, most: int) -> None:
        self._project = folder / _digest(project)
        self._folder = self._project / _digest(scope)
        self._most = most

    def find(self, key: str) -> Path | None:
        """Return the archive of a key, or None."""
        file = self._file(key)
        return file if file.is_file() else None

    def publish(self, key: str, archive: Path) -> None:
        """Replace the archive of a key atomically."""
        file = self._file(key)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_name(f".{archive.parent.name}-{file.name}")
        shutil.move(archive, draft)
        draft.replace(file)
        self._shrink(file)

    def _shrink(self, newest: Path) -> None:
        found = []
        for file in self._project.glob("*/*.zip"):
            with suppress(FileNotFoundError):  # another job of the project has removed it
                status = file.stat()
                found.append((file == newest, status.st_mtime, status.st_size, file))
        total = 0
        for is_newest, _, size, file in sorted(found, reverse=True):
            total += size
            if total > self._most and not is_newest:
                file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{_digest(key)}.zip"


def remove_old(folder: Path, *, seconds: int) -> None:
    """Remove caches that have not been written for this time."""
    oldest = time.time() - seconds
    for file in folder.rglob("*.zip"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < oldest:
                file.unlink()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
