"""Directories for tests, and what is in a directory as a value."""

from __future__ import annotations

import os
from pathlib import Path

ODD_NAMES = ("with space", "quo'te", 'double"quote', "new\nline", "back\\slash", "名前", "R&D <1>", "-dash", ".hidden")


def make_tree(root: Path, *, odd_names: bool = False, files: int = 0) -> None:
    """Files, an executable one, links, an empty directory, and names that need care."""
    (root / "sub/empty").mkdir(parents=True)
    (root / "a.txt").write_text("alpha")
    (root / "none.txt").write_bytes(b"")
    (root / "sub/b.txt").write_text("beta")
    (root / "sub/tool").write_text("#!/bin/sh\n")
    (root / "sub/tool").chmod(0o755)
    (root / "link").symlink_to("sub/b.txt")
    (root / "sub/dangling").symlink_to("nowhere")
    for number in range(files):
        (root / "sub" / f"{number:04d}.dat").write_text(f"{number}" * 100)
    if odd_names:
        for name in ODD_NAMES:
            (root / name).mkdir()
            (root / name / name).write_text(name)
    for path in root.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)


def tree_of(root: Path, without: tuple[str, ...] = ()) -> dict[str, object]:
    """Path -> content and executable bit of a file, target of a link, None for a directory."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name in without:
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found
