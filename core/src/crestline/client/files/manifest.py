"""What plain FirecREST cannot tell: the checksums of a directory's files, kept in a file of that directory."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from crestline.bounded import decode
from crestline.client.files.download_file import download_file
from crestline.client.files.report import Meter
from crestline.client.files.strategy import FileStrategy
from crestline.client.files.tree import MANIFEST, Listing
from crestline.client.files.upload_file import upload_file


class Known(msgspec.Struct, frozen=True):
    """A file as it was left on the system."""

    sha256: str
    size: int
    modified: str
    """modification time as the listing showed it; each write to the file changes it"""


class _Manifest(msgspec.Struct):
    files: dict[str, Known]
    version: int = 1


async def read_manifest(strategy: FileStrategy, directory: str, listing: Listing) -> dict[str, str]:
    """Map paths below the directory to hexadecimal SHA-256, for files that are unchanged since they were sent."""
    if (itself := listing.files.get(MANIFEST)) is None:
        return {}
    path = posixpath.join(directory, MANIFEST)
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        local = Path(place) / MANIFEST
        await download_file(strategy, path, await strategy.backend.files.stat(path), local, Meter(None))
        try:
            known = decode(local.read_bytes(), _Manifest).files
        except msgspec.DecodeError:
            return {}  # only that everything is sent again
    trusted = {}
    for name, then in known.items():
        file = listing.find(name)
        # Listings show whole seconds: a file as young as the manifest may have been changed after it was written.
        if file is not None and (file.size, file.modified) == (then.size, then.modified) < (file.size, itself.modified):
            trusted[name] = then.sha256
    return trusted


async def write_manifest(strategy: FileStrategy, directory: str, files: Iterable[tuple[str, Known]]) -> None:
    """Replace the manifest of a directory."""
    with tempfile.TemporaryDirectory(prefix="crestline-") as place:
        local = Path(place) / MANIFEST
        local.write_bytes(msgspec.json.encode(_Manifest(files=dict(files))))
        await upload_file(strategy, local, posixpath.join(directory, MANIFEST), Meter(None))
