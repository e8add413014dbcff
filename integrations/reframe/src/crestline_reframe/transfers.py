"""Moves the files of a run: inputs to the system and results from it, for several jobs at once."""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Callable

from crestline.client import BundleFilter, Capability, System, map_link, measure_traffic
from crestline.model.text import printable
from crestline_reframe.batcher import Batcher
from crestline_reframe.connection import RunConnection
from crestline_reframe.journal import Journal
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.staging import Staging, marker
from crestline_reframe.tracked_job import TrackedJob

logger = logging.getLogger(__name__)


class StageTransfers:
    """Copies stage directories to the system and results back.

    Args:
        are_all: whether no other job will soon have results.

    Attributes:
        staging: the content of the system.
        uploads: receives jobs whose inputs are to be sent.
        downloads: receives jobs that have ended.
    """

    def __init__(
        self,
        connection: RunConnection,
        journal: Journal,
        stage_dirs: StageDirs,
        are_all: Callable[[list[TrackedJob]], bool],
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._stage_dirs = stage_dirs
        self.staging = Staging(stage_dirs)
        self.uploads = Batcher(self._upload, quiet=0.2)
        self.downloads = Batcher(self._download, quiet=0.15, most=200, are_all=are_all)
        self._skipped_links: set[tuple[str, str, str]] = set()
        """Links that were skipped, each reported once."""
        connection.before_use(self._adapt)

    async def _adapt(self, system: System) -> None:
        if Capability.TAR not in system.capabilities:  # two requests to upload, three to download
            self.uploads.set_batch_window(1.5, 10.0)
            self.downloads.set_batch_window(2.5, 10.0)

    async def _upload(self, batch: list[TrackedJob]) -> None:
        with measure_traffic() as traffic:
            members, begins = await asyncio.to_thread(self.staging.plan, batch)
            if members:
                await (await self._connection.open()).upload_bundle(self._stage_dirs.root, members, cleanup=False)
        self.staging.is_done(members, batch)
        for tracked in batch:
            tracked.prologue = begins[tracked]
            tracked.requests += traffic.requests / len(batch)

    async def _download(self, batch: list[TrackedJob]) -> None:
        selections = [
            BundleFilter(
                directory=tracked.stage_dir.remote,
                target=tracked.stage_dir.local,
                since=marker(tracked.phase) if tracked.collect_new else None,
                patterns=tracked.outputs,
            )
            for tracked in batch
        ]
        with measure_traffic() as traffic:
            came = await (await self._connection.open()).download_bundle(
                self._stage_dirs.root, selections, cleanup=False, map_link=self._map_link
            )
        for tracked in batch:
            names = came[tracked.stage_dir.remote]
            tracked.received += sum(tracked.stage_dir.note(name) for name in names)
            tracked.requests += traffic.requests / len(batch)
            tracked.results_fetched, tracked.has_files = True, bool(names)
            self._journal.collected(tracked.key)

    def _map_link(self, path: str, target: str, directory: str) -> str | None:
        """Return the local target of a link that a job has created: in its stage directory, or in that of another
        test."""
        here = map_link(path, target, directory)
        if here is None:
            there = posixpath.normpath(posixpath.join(directory, posixpath.dirname(path), target))
            local = self._stage_dirs.local_of(there)
            if local is not None:
                return str(local)
            if (path, target, directory) not in self._skipped_links:
                self._skipped_links.add((path, target, directory))
                shown = printable(path), printable(target)
                logger.warning("left out: the link %s to %s, which is in no stage directory", *shown)
        return here
