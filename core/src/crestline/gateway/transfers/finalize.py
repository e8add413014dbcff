"""Ends a transfer: writes its logs, then its state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from crestline.gateway import metrics
from crestline.gateway.hosts import Files
from crestline.gateway.store import RETRY_AFTER
from crestline.gateway.transfers.job_info import output_log_text
from crestline.gateway.transfers.records import Transfer, TransferRecords
from crestline.model import CrestlineError, GatewayUnavailableError

UNFINISHED = ("PENDING", "RUNNING", "COMPLETING")
"""States in which a transfer has not ended."""

_log = logging.getLogger("crestline.transfers")


class Finalizer:
    """Ends the transfers of one system."""

    def __init__(self, system: str, records: TransferRecords, files: Callable[[str], Files]) -> None:
        """`files` returns the files of a user."""
        self._system = system
        self._records = records
        self._files = files
        self._stopping = False

    def stop(self) -> None:
        """Stop waiting for the database. The next gateway ends the remaining transfers."""
        self._stopping = True

    async def end(
        self,
        transfer: Transfer,
        state: str,
        reason: str = "",
        sources: tuple[str, ...] = ("PENDING", "RUNNING"),
    ) -> bool:
        """Write the logs, then the state, so that readers of the state find the logs. Return False if it had ended
        before."""
        if not await self._records.transition(transfer.transfer_id, sources, "COMPLETING"):
            return False
        await self._write_logs(transfer, state, reason)
        ended = await self._records.transition(transfer.transfer_id, ("COMPLETING",), state, reason)
        if ended:
            metrics.TRANSFERS.labels(self._system, transfer.kind, state).inc()
        return ended

    async def end_with_retries(self, transfer: Transfer, state: str, reason: str) -> None:
        """As `end`, with retries until the database responds."""
        while True:
            try:
                await self.end(transfer, state, reason, sources=UNFINISHED)
                return
            except GatewayUnavailableError:
                if self._stopping:  # the next gateway ends it
                    raise
                await asyncio.sleep(RETRY_AFTER)

    async def _write_logs(self, transfer: Transfer, state: str, reason: str) -> None:
        said = output_log_text(transfer, state, reason)
        try:
            for path, text in ((transfer.output_log, said), (transfer.error_log, f"{reason}\n" if reason else "")):
                await self._files(transfer.username).write(path, _once(text.encode("utf-8", "replace")))
        except CrestlineError as error:
            _log.warning("the log of transfer %s cannot be written: %s", transfer.transfer_id, error)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
