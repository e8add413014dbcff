"""How files move where the API has byte ranges, resumable writes and tar streams: on a Crestline gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from anyio.to_thread import run_sync

from crestline.client.backends.messages import BundleFilter, TransferMethod
from crestline.client.files.archive import StreamReader, rechunk
from crestline.client.files.download_file import fetch_ranges
from crestline.client.files.download_tree import fetch_tree_in_stream, same_on_gateway
from crestline.client.files.local import PartFile
from crestline.client.files.report import Meter, TransferReport
from crestline.client.files.strategy import FileStrategy, Later, Sent, TreeDownload, Unpack
from crestline.client.files.tree import Listing, TreeEntry
from crestline.client.files.upload_file import send_parts, upload_file
from crestline.client.files.upload_tree import to_crestline
from crestline.client.logs.sources import ByteSource
from crestline.client.streams import closing
from crestline.model import GatewayUnavailableError, InvalidRequestError, UnsupportedError


class StreamFiles(FileStrategy):
    """Files by ranges, directories as one stream; no job of the scheduler has a part in it."""

    supports_ranges = True
    streams_trees = True
    packs_links = True

    def log_source(self, path: str) -> ByteSource:
        return ByteSource(self.backend, path)

    def is_askable(self, path: str) -> bool:
        return True

    async def checksum(self, path: str, size: int) -> str | None:
        try:
            return await self.backend.files.checksum(path)
        except (GatewayUnavailableError, InvalidRequestError, UnsupportedError):
            return None

    async def send(self, source: Path, path: str, meter: Meter, checksum: str | None) -> None:
        await send_parts(self, source, path, meter, checksum)

    async def send_one(
        self, source: Path, path: str, meter: Meter, *, status: dict[str, int] | None, checksum: str | None, wait: bool
    ) -> TransferReport:
        size = source.stat().st_size
        await upload_file(self, source, path, meter, checksum=checksum)
        return TransferReport(files=1, bytes=size)

    async def send_tree(
        self, root: Path, remote: str, entries: list[TreeEntry], meter: Meter, *, wait: bool, key: str
    ) -> Sent:
        return await to_crestline(self, root, remote, entries, meter)

    async def unpack_remote(self, remote: str, pieces: Iterator[bytes], *, cleanup: bool) -> None:
        await self.backend.files.put_tar(remote, rechunk(pieces))

    async def fetch(self, path: str, size: int, part: PartFile, meter: Meter) -> bool:
        return await fetch_ranges(self, path, size, part, meter)

    async def begin_fetch(self, path: str, status: dict[str, int], target: Path) -> TransferMethod | None:
        return None

    async def path_to_fetch(self, path: str, size: int) -> str:
        return path

    async def unchanged_files(self, remote: str, root: Path, listing: Listing) -> set[str]:
        return await same_on_gateway(self, remote, root, listing)

    def doubtful(self, listing: Listing) -> set[str]:
        return set()

    async def fetch_tree(self, tree: TreeDownload) -> Later:
        await fetch_tree_in_stream(self, tree)
        return Later()

    async def fetch_selected(
        self, remote: str, selections: Sequence[BundleFilter], unpack: Unpack, *, cleanup: bool
    ) -> None:
        async with closing(self.backend.files.select_tar(remote, selections)) as chunks:
            await run_sync(unpack, StreamReader(chunks), False)
