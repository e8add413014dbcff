"""Where several files go, so that none overwrites another."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence


def has_pattern(path: str) -> bool:
    """Whether a shell would expand it."""
    return any(character in path for character in "*?[")


def names_in_one_directory(paths: Sequence[str]) -> list[str]:
    """A name for each of different absolute paths: its last part, or if two share theirs, for all what they do not
    have in common."""
    names = [posixpath.basename(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    shared = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return [posixpath.relpath(path, shared) for path in paths]
