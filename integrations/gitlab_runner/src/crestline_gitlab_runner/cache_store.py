"""Caches on the runner's machine, for runners without a storage of their own: a folder for each scope.

A scope is a project, its protected branches apart; see `CiJob.cache_scope`. Scope and key are names of files as digests
only.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path


class CacheStore:
    """The caches of one scope.

    Args:
        folder: of all scopes.
        most: bytes of one scope's caches together; the oldest go first.
    """

    def __init__(self, folder: Path, scope: str, *, most: int) -> None:
        self._folder = folder / _digest(scope)
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
        kept = sorted(self._folder.glob("*.zip"), key=lambda each: each.stat().st_mtime, reverse=True)
        total = 0
        for file in [newest, *(each for each in kept if each != newest)]:
            total += file.stat().st_size
            if total > self._most and file != newest:
                file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self._folder / f"{_digest(key)}.zip"


def remove_old(folder: Path, *, seconds: int) -> None:
    """Remove caches that were not written for so long."""
    oldest = time.time() - seconds
    for file in folder.glob("*/*.zip"):
        if file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
