"""A trigger that waits for a file, which it removes: what a deferral takes without any gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent


class FileTrigger(BaseTrigger):
    """Looks fifty times a second, at a price that no real trigger may ask."""

    def __init__(self, path: str, end_from_trigger: bool) -> None:
        super().__init__()
        self.path = path
        self.end_from_trigger = end_from_trigger

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {"path": self.path, "end_from_trigger": self.end_from_trigger}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while not Path(self.path).exists():  # noqa: ASYNC110 - it costs less than watching it would
            await asyncio.sleep(0.02)
        Path(self.path).unlink()
        yield TaskSuccessEvent(xcoms=None) if self.end_from_trigger else TriggerEvent(None)
