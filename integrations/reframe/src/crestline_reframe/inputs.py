"""Finds the content of a stage directory that the system does not have."""

from __future__ import annotations

import hashlib
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from crestline.client import map_link
from crestline_reframe.stage_dirs import StageDir, StageDirs

_NEVER = frozenset({".rfm_mark", ".rfm_testcase.json"})


@dataclass
class Inputs:
    """The files, directories and links to send, and their digest."""

    files: dict[str, Path] = field(default_factory=dict)
    """Path in the stage directory -> the file with its content."""
    directories: list[str] = field(default_factory=list)
    inner_links: dict[str, str] = field(default_factory=dict)
    """Links within the stage directory."""
    outer_links: list[tuple[str, Path]] = field(default_factory=list)
    """Links to other stage directories, and to paths that this machine does not have."""
    digest: str = ""
    """Digest of all except the outer links; empty if nothing has to be sent."""
    size: int = 0


def scan(stage_dir: StageDir, own_files: frozenset[str], stage_dirs: StageDirs) -> Inputs:
    """Return what has changed in a stage directory since both sides had the same content.

    Links that leave it are followed, because their targets exist only on this machine, unless they lead to another
    stage directory, or to a path that this machine does not have and the system may have.
    """
    found = Inputs()
    _walk(stage_dir.local, "", found, own_files, stage_dirs)
    for path in [path for path, file in found.files.items() if _is_unchanged(stage_dir, path, file)]:
        del found.files[path]
    if found.files or found.directories or found.inner_links:
        whole = hashlib.sha256()
        for path in sorted(found.files):
            file = found.files[path]
            found.size += file.stat().st_size
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            whole.update(f"{path}\0{digest}\0{file.stat().st_mode & 0o100}\0".encode("utf-8", "surrogateescape"))
        whole.update(repr((sorted(found.directories), sorted(found.inner_links.items()))).encode())
        found.digest = whole.hexdigest()[:32]
    return found


def _walk(
    root: Path, below: str, found: Inputs, own_files: frozenset[str], stage_dirs: StageDirs, above: tuple[str, ...] = ()
) -> None:
    above = (*above, os.path.realpath(root / below))
    for item in sorted(os.scandir(root / below), key=lambda item: item.name):
        path = posixpath.join(below, item.name)
        if path in own_files or path in _NEVER:
            continue
        if item.is_symlink() and _is_kept(root, path, found, stage_dirs):
            continue
        if item.is_dir():
            if os.path.realpath(item.path) in above:
                continue  # a link back to a parent directory, which would be followed endlessly
            before = len(found.files) + len(found.directories)
            _walk(root, path, found, own_files, stage_dirs, above)
            if len(found.files) + len(found.directories) == before:
                found.directories.append(path)  # only empty directories have to be listed
        elif item.is_file():
            found.files[path] = root / path


def _is_kept(root: Path, path: str, found: Inputs, stage_dirs: StageDirs) -> bool:
    """Whether a link remains a link on the system. Otherwise it is followed."""
    target = os.readlink(root / path)
    inner = map_link(path, target, str(root))
    if inner is not None:
        found.inner_links[path] = inner
        return True
    there = Path(os.path.normpath(root / posixpath.dirname(path) / target))
    other = stage_dirs.holding(there)
    is_on_the_system = os.path.isabs(target) and not (root / path).exists()
    if is_on_the_system or (other is not None and other.local != root):
        found.outer_links.append((path, there))
        return True
    return False


def _is_unchanged(stage_dir: StageDir, path: str, file: Path) -> bool:
    status = file.stat()
    return stage_dir.is_unchanged(path, status.st_size, status.st_mtime_ns)
