"""Unique target names for several files."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence


def has_pattern(path: str) -> bool:
    """Whether the path contains a pattern that a shell would expand."""
    return any(character in path for character in "*?[")


def names_in_one_directory(paths: Sequence[str]) -> list[str]:
    """Return a name for each of several absolute paths.

    The name is the last part of the path. If two paths end in the same part, all paths keep the parts in which they
    differ.
    """
    names = [posixpath.basename(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    shared = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return [posixpath.relpath(path, shared) for path in paths]
