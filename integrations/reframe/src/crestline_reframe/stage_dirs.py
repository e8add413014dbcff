"""Maps stage directories of this machine to directories of the system."""

from __future__ import annotations

import hashlib
import posixpath
import re
import stat
from pathlib import Path

_PARTS = 4
"""Components of a stage directory below the prefix: system, partition, environment, test."""


class StageDir:
    """A stage directory on this machine and on the system."""

    def __init__(self, local: Path, remote: str) -> None:
        self.local = local
        self.remote = remote
        """Path below the run's directory."""
        self.is_there = False
        """Whether the directory on the system has been created."""
        self.fingerprints: dict[str, tuple[int, int]] = {}
        """Size and time of each local file that is the same on the system."""

    def note(self, path: str) -> int:
        """Record that both sides have this file, and return its bytes. Links count as 0."""
        status = (self.local / path).lstat()
        if not stat.S_ISREG(status.st_mode):
            return 0
        self.fingerprints[path] = (status.st_size, status.st_mtime_ns)
        return status.st_size

    def is_unchanged(self, path: str, size: int, modified: int) -> bool:
        """Whether the local file has not changed since both sides had it."""
        return self.fingerprints.get(path) == (size, modified)


class StageDirs:
    """All stage directories of a run.

    Args:
        prefix: ReFrame's stage prefix. The layout below it is the same on the system.
        root: absolute path of the run's directory on the system, once it is known.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.root = ""
        self._stage_dirs: dict[Path, StageDir] = {}
        self._names: set[str] = set()

    def resolve(self, local: Path) -> StageDir:
        """Return the stage directory with this local path; the first call chooses its name on the system."""
        if (stage_dir := self._stage_dirs.get(local)) is None:
            stage_dir = self._stage_dirs[local] = StageDir(local, self._free(self._default(local)))
            self._names.add(stage_dir.remote)
        return stage_dir

    def reserve(self, remote: str) -> None:
        """Record that a directory of the system is in use. New stage directories get other names."""
        self._names.add(remote)

    def renew(self, stage_dir: StageDir) -> None:
        """Give a stage directory another, empty directory on the system."""
        stage_dir.remote = self._free(self._default(stage_dir.local))
        self._names.add(stage_dir.remote)
        stage_dir.is_there = False
        stage_dir.fingerprints.clear()

    def absolute(self, stage_dir: StageDir) -> str:
        """Return the absolute path of a stage directory on the system."""
        return posixpath.join(self.root, stage_dir.remote)

    def mapped(self, text: str) -> str:
        """Replace each path below the stage prefix or of a stage directory in `text` by the system's path."""
        for local, stage_dir in tuple(self._stage_dirs.items()):
            if stage_dir.remote == self._default(local):
                continue
            text = re.sub(rf"{re.escape(str(local))}(?![\w.+-])", lambda _, p=stage_dir: self.absolute(p), text)
        return re.sub(rf"{re.escape(str(self.prefix))}(?=/)", lambda _: posixpath.join(self.root, "stage"), text)

    def named_in(self, text: str) -> list[StageDir]:
        """Return the stage directories that a script names."""
        found = {}
        for match in re.finditer(rf"{re.escape(str(self.prefix))}/([^\s\"'`;:,()<>|&=]+)", text):
            parts = match[1].split("/")[:_PARTS]
            local = self.prefix.joinpath(*parts)
            if len(parts) == _PARTS and local.is_dir():
                found[local] = self.resolve(local)
        return list(found.values())

    def local_of(self, remote: str) -> Path | None:
        """Return the local path of a path on the system, if it is in the stage directory of a test."""
        for stage_dir in tuple(self._stage_dirs.values()):
            directory = self.absolute(stage_dir)
            if remote == directory or remote.startswith(f"{directory}/"):
                return stage_dir.local / remote[len(directory) + 1 :]
        return None

    def holding(self, path: Path) -> StageDir | None:
        """Return the stage directory that contains a local path."""
        return next(
            (stage_dir for local, stage_dir in tuple(self._stage_dirs.items()) if path.is_relative_to(local)), None
        )

    def _default(self, local: Path) -> str:
        if local.is_relative_to(self.prefix):
            return posixpath.join("stage", local.relative_to(self.prefix).as_posix())
        return posixpath.join("other", hashlib.sha256(str(local).encode()).hexdigest()[:16])

    def _free(self, remote: str) -> str:
        number, name = 1, remote
        while name in self._names:
            number += 1
            name = f"{remote}.{number}"
        return name
