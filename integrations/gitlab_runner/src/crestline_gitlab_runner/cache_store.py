"""Caches on the runner's machine, for runners without a storage of their own: a folder for each project and scope.

The scopes of a project are its protected branches and the others; see `CiJob.cache_scope`. Project, scope and key are
names of files as digests only.
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
        folder: of all projects.
        most: bytes of all caches of the project together; the oldest go first.
    """

    def __init__(self, folder: Path, project: str, scope: str, *, most: int) -> None:
        self._project = folder / _digest(project)
        self._folder = self._project / _digest(scope)
        self._most = most

    def find(self, key: str) -> Path | None:
        """The archive of a key, if there is one."""
        file = self._file(key)
        return file if file.is_file() else None

    def keep(self, key: str, archive: Path) -> None:
        """Make an archive the one of a key, at once or not at all."""
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
    """Remove caches that were not written for so long."""
    oldest = time.time() - seconds
    for file in folder.rglob("*.zip"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < oldest:
                file.unlink()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
