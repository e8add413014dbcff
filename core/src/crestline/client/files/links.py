"""Symbolic links out of directories: which are made on the other side, and where they lead there."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from crestline.client.remote_names import is_safe_link

MapLink = Callable[[str, str, str], str | None]
"""as `map_link`"""


def map_link(path: str, target: str, root: str) -> str | None:
    """The target with which a link stays in its directory on the other side; None if it leads elsewhere.

    A relative target stays as it is, dangling ones and circles included. An absolute target in the directory becomes
    relative.

    Args:
        path: the link, below the directory.
        target: of the link, where it was made.
        root: absolute path of the directory there.
    """
    if target.startswith("/"):
        root = posixpath.normpath(root)
        parts = target.split("/")
        whole = posixpath.normpath(target)
        if ".." in parts or not f"{whole}/".startswith(f"{root.rstrip('/')}/"):
            return None
        target = posixpath.relpath(whole, posixpath.join(root, posixpath.dirname(path)))
    return target if is_safe_link(path, target) else None
