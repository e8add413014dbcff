"""Which files are the same here and on the system, byte for byte."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from crestline.client.files.local import sha256
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.tree import Listing
from crestline.client.files.verify import is_same
from crestline.model import FileType

_ASKED_AT_ONCE = 2000

_CHECKSUMS = 64
"""so many files of one directory are compared by asking plain FirecREST for their checksums; more travel again"""


async def unchanged_on_gateway(
    strategy: FileStrategy, remote: str, root: Path, names: Iterable[str], listing: Listing
) -> set[str]:
    """Those of the local files `names` below `root` that are the same below `remote`; only equal sizes are hashed."""
    candidates = [name for name in names if _has_size(listing, name, (root / name).stat().st_size)]
    same: set[str] = set()
    for start in range(0, len(candidates), _ASKED_AT_ONCE):
        checksums = {name: await sha256(root / name) for name in candidates[start : start + _ASKED_AT_ONCE]}
        same |= checksums.keys() - set(await strategy.backend.files.changed(remote, checksums))
    return same


async def unchanged_on_firecrest(
    strategy: FileStrategy,
    remote: str,
    sizes_and_checksums: Mapping[str, tuple[int, str]],
    listing: Listing,
    known: Mapping[str, str],
) -> set[str]:
    """Those of the local files that are the same below `remote`.

    Args:
        sizes_and_checksums: of the local files.
        known: what the manifest says of the remote ones.
    """
    same: set[str] = set()
    asked = 0
    for name, (size, checksum) in sizes_and_checksums.items():
        if not _has_size(listing, name, size):
            continue
        if name in known:
            if known[name] == checksum:
                same.add(name)
        elif asked < _CHECKSUMS and not is_ambiguous(name):
            asked += 1
            if await is_same(strategy, posixpath.join(remote, name), size, checksum):
                same.add(name)
    return same


def is_ambiguous(name: str) -> bool:
    """Whether plain FirecREST cannot be asked for this name, or lists others under it."""
    return any(character in name for character in "\\'\n\r")


def _has_size(listing: Listing, name: str, size: int) -> bool:
    file = listing.find(name)
    return file is not None and file.type is FileType.FILE and file.size == size
