"""A directory to the system: what differs travels as one tar stream."""

from __future__ import annotations

import posixpath
from pathlib import Path

from anyio.to_thread import run_sync

from crestline.client.files.archive import pack, rechunk
from crestline.client.files.backoff import Backoff
from crestline.client.files.compare import unchanged_on_gateway
from crestline.client.files.failures import Failures
from crestline.client.files.ignore import IgnoreRules
from crestline.client.files.report import Meter, TransferReport
from crestline.client.files.strategy import ALONE, FileStrategy, Sent
from crestline.client.files.tree import TreeEntry, scan
from crestline.client.files.upload_archive import list_or_make
from crestline.client.files.upload_file import upload_file
from crestline.client.remote_names import stays_inside
from crestline.model import (
    FileType,
    GatewayUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitedError,
)


async def upload_tree(
    strategy: FileStrategy,
    root: Path,
    remote: str,
    meter: Meter,
    *,
    wait: bool = True,
    key: str,
    ignore: IgnoreRules | None = None,
) -> TransferReport:
    """Make the directory `remote` hold what `root` holds; what else is there stays.

    Args:
        wait: False leaves what plain FirecREST does in jobs to these; see `upload`.
        key: see `upload`.
        ignore: see `upload`.

    Raises:
        TransferError: something did not arrive, changed while it was sent, or cannot be read; then all else was sent.
    """
    found = await run_sync(scan, root, ignore)
    sent = await strategy.send_tree(root, remote, found.entries, meter, wait=wait, key=key)
    if not sent.pending:  # else another call follows, which says so
        failures = Failures()
        failures.errors |= found.failed
        failures.raise_any(str(root))
    files = [entry for entry in sent.entries if entry.is_file]
    return TransferReport(
        files=len(files),
        unchanged=len(found.files()) - len(files),
        bytes=sum(entry.size for entry in files),
        excluded=(*found.excluded, *sent.refused),
        pending=tuple(sent.pending),
        temporary=tuple(sent.temporary),
    )


async def to_crestline(strategy: FileStrategy, root: Path, remote: str, entries: list[TreeEntry], meter: Meter) -> Sent:
    """Send what differs as one tar stream."""
    backoff = Backoff()
    sent: dict[str, TreeEntry] = {}
    left = len(entries)
    while True:
        listing = await list_or_make(strategy, remote)
        same = await unchanged_on_gateway(
            strategy, remote, root, [entry.path for entry in entries if entry.is_file], listing
        )
        todo = [entry for entry in entries if listing.differs(entry, same_content=entry.path in same)]
        meter.total = meter.done + sum(entry.size for entry in todo)
        sent |= {entry.path: entry for entry in todo}
        if len(todo) < left:
            backoff.renew()
        left = len(todo)
        try:
            alone = [entry for entry in todo if entry.size > ALONE or _leads_out(entry)]
            if together := [entry for entry in todo if entry not in alone]:
                await strategy.backend.files.put_tar(remote, rechunk(pack(root, together, meter.add_from_thread)))
            refused = []
            for entry in alone:
                path = posixpath.join(remote, entry.path)
                if entry.is_file:
                    await upload_file(strategy, root / entry.path, path, meter)
                elif not await _link(strategy, entry.link_target, path):
                    refused.append(entry.path)
            return Sent(list(sent.values()), refused)
        except (GatewayUnavailableError, RateLimitedError) as error:
            await backoff.wait(error)


def _leads_out(entry: TreeEntry) -> bool:
    """Whether this is a link that a gateway does not take out of an archive, because archives may be hostile."""
    return entry.type is FileType.LINK and not stays_inside(entry.path, entry.link_target)


async def _link(strategy: FileStrategy, target: str, path: str) -> bool:
    """Make a link by itself; False if the gateway does not let it lead there."""
    await strategy.remove_if_exists(path)
    try:
        await strategy.backend.files.symlink(target, path)
    except (InvalidRequestError, PermissionDeniedError):
        return False
    return True
