"""How files move where the API has direct operations, archives and transfer jobs: on plain FirecREST."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from crestline.client.backends.base import Backend
from crestline.client.backends.messages import BundleFilter, TransferMethod
from crestline.client.files.bundle import fetch_archive, unpack_archive
from crestline.client.files.download import without_links
from crestline.client.files.download_file import begin_download, fetch_by_size
from crestline.client.files.download_tree import fetch_tree_by_size, possibly_escaped, same_in_manifest
from crestline.client.files.local import PartFile
from crestline.client.files.report import Meter, TransferReport
from crestline.client.files.strategy import FileStrategy, Later, Sent, TreeDownload, Unpack
from crestline.client.files.tree import Listing, TreeEntry
from crestline.client.files.upload import send_one_to_plain
from crestline.client.files.upload_archive import DirectoryUpload
from crestline.client.files.upload_file import send_by_size
from crestline.client.logs.sources import LineSource
from crestline.client.monitor import JobMonitor
from crestline.client.remote_names import moves_in_pieces, needs_transfer_job
from crestline.model import GatewayUnavailableError, InvalidRequestError, UnsupportedError

log = logging.getLogger(__name__)

_CHECKSUM_LIMIT = 1024**3
"""bytes of a file that sha256sum reads within the 5 s that FirecREST gives it"""


class DirectFiles(FileStrategy):
    """Small files directly, directories as archives, large files by jobs."""

    supports_ranges = False
    streams_trees = False
    packs_links = False

    def __init__(self, backend: Backend, monitor: JobMonitor) -> None:
        super().__init__(backend, monitor)
        self._slow_checksums: set[tuple[str, int]] = set()
        """paths and sizes of the files whose checksum took longer than the gateway waits"""

    def log_source(self, path: str) -> LineSource:
        return LineSource(self.backend, path)

    def is_askable(self, path: str) -> bool:
        return not any(character in path for character in "'\n\r")  # the path stands between quotes of a shell

    async def checksum(self, path: str, size: int) -> str | None:
        if (path, size) not in self._slow_checksums and size <= _CHECKSUM_LIMIT:
            try:
                return await self.backend.files.checksum(path)
            except GatewayUnavailableError as error:
                if error.status == 408:
                    self._slow_checksums.add((path, size))
            except (InvalidRequestError, UnsupportedError):
                pass
        log.debug("no checksum of %s to be had, comparing sizes", path)
        return None

    async def send(self, source: Path, path: str, meter: Meter, checksum: str | None) -> None:
        await send_by_size(self, source, path, meter, checksum)

    async def send_one(
        self, source: Path, path: str, meter: Meter, *, status: dict[str, int] | None, checksum: str | None, wait: bool
    ) -> TransferReport:
        return await send_one_to_plain(self, source, path, meter, status=status, checksum=checksum, wait=wait)

    async def send_tree(
        self, root: Path, remote: str, entries: list[TreeEntry], meter: Meter, *, wait: bool, key: str
    ) -> Sent:
        return await DirectoryUpload(self, root, remote, entries, meter, wait=wait, key=key).send()

    async def unpack_remote(self, remote: str, pieces: Iterator[bytes], *, cleanup: bool) -> None:
        await unpack_archive(self, remote, pieces, cleanup=cleanup)

    async def fetch(self, path: str, size: int, part: PartFile, meter: Meter) -> bool:
        return await fetch_by_size(self, path, size, part, meter)

    async def begin_fetch(self, path: str, status: dict[str, int], target: Path) -> TransferMethod | None:
        if not needs_transfer_job(self.backend, path, status["size"], self.backend.max_direct_download):
            return None
        return await begin_download(self, path, status, target)

    async def path_to_fetch(self, path: str, size: int) -> str:
        if size > self.backend.max_direct_download and not moves_in_pieces(self.backend):
            return await without_links(self, path)
        return path

    async def unchanged_files(self, remote: str, root: Path, listing: Listing) -> set[str]:
        return await same_in_manifest(self, remote, root, listing)

    def doubtful(self, listing: Listing) -> set[str]:
        return possibly_escaped(listing)

    async def fetch_tree(self, tree: TreeDownload) -> Later:
        return await fetch_tree_by_size(self, tree)

    async def fetch_selected(
        self, remote: str, selections: Sequence[BundleFilter], unpack: Unpack, *, cleanup: bool
    ) -> None:
        await fetch_archive(self, remote, selections, unpack, cleanup=cleanup)
