"""Which directory of the system stands for which stage directory of this machine."""

from __future__ import annotations

import hashlib
import posixpath
import re
import stat
from pathlib import Path

_PARTS = 4
"""of a stage directory below the prefix: system, partition, environment, test"""


class StageDir:
    """A stage directory, here and there."""

    def __init__(self, local: Path, remote: str) -> None:
        self.local = local
        self.remote = remote
        """below the run's directory"""
        self.is_there = False
        """whether the directory on the system has been made"""
        self.known: dict[str, tuple[int, int]] = {}
        """size and time of each local file that is the same on the system, or has come from there"""

    def note(self, path: str) -> int:
        """Both sides have this file; returns its bytes. Links count for nothing, wherever they lead."""
        status = (self.local / path).lstat()
        if not stat.S_ISREG(status.st_mode):
            return 0
        self.known[path] = (status.st_size, status.st_mtime_ns)
        return status.st_size

    def is_known(self, path: str, size: int, modified: int) -> bool:
        """Whether the file has not changed here since both sides had it."""
        return self.known.get(path) == (size, modified)


class StageDirs:
    """All stage directories of a run.

    Args:
        prefix: ReFrame's stage prefix; the layout below it is the same on the system.
        root: absolute path of the run's directory on the system, once it is known.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.root = ""
        self._places: dict[Path, StageDir] = {}
        self._taken: set[str] = set()

    def place(self, local: Path, remote: str | None = None) -> StageDir:
        """The place of a stage directory; `remote` where an earlier run has chosen it."""
        if (place := self._places.get(local)) is None:
            place = self._places[local] = StageDir(local, remote or self._free(self._default(local)))
            self._taken.add(place.remote)
        return place

    def take(self, remote: str) -> None:
        """This directory is in use; new places get other names."""
        self._taken.add(remote)

    def renew(self, place: StageDir) -> None:
        """Give a place another directory on the system, which has nothing yet."""
        place.remote = self._free(self._default(place.local))
        self._taken.add(place.remote)
        place.is_there = False
        place.known.clear()

    def absolute(self, place: StageDir) -> str:
        """Return the absolute path of a stage directory on the system."""
        return posixpath.join(self.root, place.remote)

    def mapped(self, text: str) -> str:
        """`text` with the system's path wherever a path below the stage prefix, or of a place, stands."""
        for local, place in tuple(self._places.items()):
            if place.remote == self._default(local):
                continue
            text = re.sub(rf"{re.escape(str(local))}(?![\w.+-])", lambda _, p=place: self.absolute(p), text)
        return re.sub(rf"{re.escape(str(self.prefix))}(?=/)", lambda _: posixpath.join(self.root, "stage"), text)

    def named_in(self, text: str) -> list[StageDir]:
        """The places of the stage directories that a script names."""
        found = {}
        for match in re.finditer(rf"{re.escape(str(self.prefix))}/([^\s\"'`;:,()<>|&=]+)", text):
            parts = match[1].split("/")[:_PARTS]
            local = self.prefix.joinpath(*parts)
            if len(parts) == _PARTS and local.is_dir():
                found[local] = self.place(local)
        return list(found.values())

    def local_of(self, remote: str) -> Path | None:
        """The local path of one on the system, if it is in the place of a test."""
        for place in tuple(self._places.values()):
            directory = self.absolute(place)
            if remote == directory or remote.startswith(f"{directory}/"):
                return place.local / remote[len(directory) + 1 :]
        return None

    def holding(self, path: Path) -> StageDir | None:
        """The place that a local path lies in."""
        return next((place for local, place in tuple(self._places.items()) if path.is_relative_to(local)), None)

    def _default(self, local: Path) -> str:
        if local.is_relative_to(self.prefix):
            return posixpath.join("stage", local.relative_to(self.prefix).as_posix())
        return posixpath.join("other", hashlib.sha256(str(local).encode()).hexdigest()[:16])

    def _free(self, remote: str) -> str:
        number, name = 1, remote
        while name in self._taken:
            number += 1
            name = f"{remote}.{number}"
        return name
