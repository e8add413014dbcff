"""A directory from the system: what differs comes as one tar stream, or file by file where that is less."""

from __future__ import annotations

import os
import posixpath
import tempfile
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from crestline.client.backends.base import Backend
from crestline.client.files.archive import Pull, temporary_beside, unpack
from crestline.client.files.download_file import download_file
from crestline.client.files.local import make_executable, sha256
from crestline.client.files.manifest import read_manifest
from crestline.client.files.names import remove_if_there, spellings, stays_inside, temporary_path
from crestline.client.files.parallel import run_parallel
from crestline.client.files.report import Meter, Report
from crestline.client.files.retry import Patience
from crestline.client.files.same import is_ambiguous, same_on_crestline, same_on_plain
from crestline.client.files.tree import MANIFEST, Listing, is_executable, list_tree
from crestline.client.streams import closing
from crestline.model import (
    File,
    FileType,
    GatewayUnavailableError,
    RateLimitedError,
    TransferError,
)

_ALONE = 64 * 1024 * 1024
"""a file of more bytes comes by itself from a Crestline gateway, so that a cut does not begin it again"""

_FEW = 8
"""so many files of plain FirecREST come one by one"""


async def download_tree(backend: Backend, remote: str, root: Path, meter: Meter) -> Report:
    """Make `root` hold what the directory `remote` holds; what else is there stays.

    No path of the other side leaves `root`: links that lead out of it are left out and reported, and nothing is
    written through a link.

    Raises:
        TransferError: something did not arrive.
    """
    listing = await list_tree(backend, remote)
    known: dict[str, str] = {}
    if "tar" not in backend.features:
        known = await read_manifest(backend, remote, listing)
        listing.files.pop(MANIFEST, None)
    root.mkdir(parents=True, exist_ok=True)
    same = await _same_content(backend, remote, root, listing, known)
    files = {name: file for name, file in listing.files.items() if file.type is FileType.FILE}
    needed = {name: file for name, file in files.items() if name not in same}
    left_out = await run_sync(_make_directories_and_links, root, listing)
    meter.total = meter.done + sum(file.size for file in needed.values())
    if needed:
        fetch = _from_crestline if "tar" in backend.features else _from_plain
        await fetch(backend, remote, root, needed, meter)
    for name in same:
        if is_executable(files[name]) and not os.access(root / name, os.X_OK):
            make_executable(root / name)
    return Report(
        files=len(needed),
        skipped=len(files) - len(needed),
        bytes=sum(file.size for file in needed.values()),
        left_out=tuple(left_out),
    )


async def _same_content(backend: Backend, remote: str, root: Path, listing: Listing, known: dict[str, str]) -> set[str]:
    """The files that are here already, byte for byte."""
    here = [name for name, file in listing.files.items() if file.type is FileType.FILE and _is_file(root / name)]
    if "tar" in backend.features:
        return await same_on_crestline(backend, remote, root, here, listing)
    checksums = {
        name: (size, await sha256(root / name))
        for name in here
        if not is_ambiguous(name) and (size := (root / name).stat().st_size) == listing.files[name].size
    }
    return await same_on_plain(backend, remote, checksums, listing, known)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _make_directories_and_links(root: Path, listing: Listing) -> list[str]:
    """Make them; returns what is neither of them nor a file, and links that would lead out."""
    left_out, links = [], []
    for name, file in sorted(listing.files.items()):
        if file.type is FileType.DIRECTORY:
            temporary_beside(root, f"{name}/.")
        elif file.type is FileType.LINK and file.link_target is not None and stays_inside(name, file.link_target):
            _make_link(root, name, file.link_target)
            links.append(name)
        elif file.type is not FileType.FILE:
            left_out.append(name)
    real_root = root.resolve()
    for name in links:  # `..` behind another link may lead elsewhere than its text says
        if not Path(os.path.realpath(root / name)).is_relative_to(real_root):
            (root / name).unlink()
            left_out.append(name)
    return sorted(left_out)


def _make_link(root: Path, name: str, target: str) -> None:
    path = root / name
    if path.is_symlink() and os.readlink(path) == target:
        return
    temporary = temporary_beside(root, name)
    temporary.symlink_to(target)
    temporary.replace(path)


async def _from_crestline(backend: Backend, remote: str, root: Path, needed: dict[str, File], meter: Meter) -> None:
    missing = {name for name, file in needed.items() if file.size <= _ALONE}
    patience = Patience()
    while missing:
        before = len(missing)
        try:
            async with closing(backend.get_tar(remote, sorted(missing))) as chunks:
                await _unpack(Pull(chunks), root, missing, meter)
            if missing:
                raise TransferError(
                    f"{len(missing)} files of {remote} did not come, for example {min(missing)!r}.", hint="Try again."
                )
        except (GatewayUnavailableError, RateLimitedError, TransferError) as error:
            if len(missing) < before:
                patience.renew()
            await patience.wait(error)
    for name, file in needed.items():
        if file.size > _ALONE:
            await _download_one(backend, remote, root, name, meter)


async def _unpack(source: object, root: Path, missing: set[str], meter: Meter, **options: bool) -> None:
    """Unpack what is missing; takes each file out of `missing` when it is there."""

    def work() -> None:
        for path in unpack(source, root, lambda path: bool(spellings(path) & missing), meter.add, **options):  # type: ignore[arg-type]
            missing.difference_update(spellings(path))

    await run_sync(work)


async def _download_one(backend: Backend, remote: str, root: Path, name: str, meter: Meter) -> None:
    path = posixpath.join(remote, name)
    temporary_beside(root, name)
    await download_file(backend, path, await backend.stat(path), root / name, meter)


async def _from_plain(backend: Backend, remote: str, root: Path, needed: dict[str, File], meter: Meter) -> None:
    if len(needed) <= _FEW and not any(is_ambiguous(name) for name in needed):
        await run_parallel(partial(_download_one, backend, remote, root, name, meter) for name in needed)
        return
    archive = await temporary_path(backend, ".tar.gz")
    missing = set(needed)
    try:
        await backend.compress(remote, archive)
        with tempfile.TemporaryDirectory(prefix="crestline-") as place:
            local = Path(place) / "archive.tar.gz"
            await download_file(backend, archive, await backend.stat(archive), local, Meter(None))
            with local.open("rb") as file:
                await _unpack(file, root, missing, meter, compressed=True, skip_first=True)
    finally:
        with anyio.CancelScope(shield=True):
            await remove_if_there(backend, archive)
    if missing:
        raise TransferError(
            f"{len(missing)} files of {remote} did not come, for example {min(missing)!r}.",
            hint="They may have been removed meanwhile; download again.",
        )
