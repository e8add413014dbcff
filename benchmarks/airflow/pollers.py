"""What our trigger is compared with: waiting as it is usually done, where each trigger asks for its own job every few
seconds, and no waiting at all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from airflow.triggers.base import BaseTrigger, TriggerEvent

INTERVAL = 5.0


class _Gateway:
    """Sockets and a token, for all."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.connection = connection
        self.http = httpx.AsyncClient(timeout=60, trust_env=False)
        self.line = asyncio.Lock()
        self.token = ""
        self.good_until = 0.0

    async def state(self, job_id: str) -> str:
        async with self.line:
            if self.good_until < time.monotonic():
                form = {"grant_type": "client_credentials"}
                login = (self.connection["login"], self.connection["password"])
                answer = await self.http.post(self.connection["extra"]["token_url"], data=form, auth=login)
                self.token, self.good_until = answer.json()["access_token"], time.monotonic() + 60
        url = f"{self.connection['host']}/compute/{self.connection['extra']['system']}/jobs/{job_id}"
        answer = await self.http.get(url, headers={"Authorization": f"Bearer {self.token}"})
        return str(answer.json()["jobs"][0]["status"]["state"])


_gateways: dict[str, _Gateway] = {}


class OnePollerPerTask(BaseTrigger):
    """One request per task and interval; sockets and token are shared, which is kind to it."""

    def __init__(self, connection: dict[str, Any], job_id: str) -> None:
        super().__init__()
        self.connection = connection
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {"connection": self.connection, "job_id": self.job_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        host = self.connection["host"]
        gateway = _gateways.get(host) or _gateways.setdefault(host, _Gateway(self.connection))
        state = "PENDING"
        while state in ("PENDING", "RUNNING"):
            await asyncio.sleep(INTERVAL)
            with contextlib.suppress(httpx.TransportError, ValueError, LookupError, TypeError):
                state = await gateway.state(self.job_id)
        yield TriggerEvent({"job_id": self.job_id, "state": state})


class Nothing(BaseTrigger):
    """Never fires: what it takes is what Airflow takes."""

    def __init__(self, job_id: str) -> None:
        super().__init__()
        self.job_id = job_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {"job_id": self.job_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.get_running_loop().create_future()
        yield TriggerEvent(self.job_id)
