"""The backend for FirecREST v2: plain ones from 2.5.6 on, and Crestline's own gateway."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import msgspec

from crestline import clock
from crestline.client.auth import Authorizer
from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.calls import Calls
from crestline.client.backends.firecrest.file_calls import FileCalls
from crestline.client.backends.firecrest.jobs import JobCalls
from crestline.client.backends.firecrest.key_calls import KeyCalls
from crestline.client.backends.firecrest.status_calls import (
    MIB,
    DataOperation,
    Scheduler,
    StatusCalls,
    SystemEntry,
    Systems,
    fetch_systems,
    pick_system,
)
from crestline.client.backends.firecrest.transfer_calls import TransferCalls
from crestline.client.backends.messages import Description
from crestline.client.policy import Policy
from crestline.wire.extensions import FEATURES_HEADER


class FirecrestBackend(Calls, Backend):
    """One system behind a FirecREST v2 gateway.

    Args:
        url: the gateway's base URL.
        system: its name for the system, in any case; None: the only one that the gateway has.
        account: charged for jobs that name none, transfer jobs among them.
        known: what the gateway has said of itself lately; without it, it is asked first.
        transport: carries the requests in place of the network, for tests.
    """

    def __init__(
        self,
        url: str,
        system: str | None,
        authorizer: Authorizer,
        *,
        account: str | None = None,
        verify: ssl.SSLContext | bool = True,
        policy: Policy | None = None,
        known: Description | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        policy = policy or Policy()
        super().__init__(url, authorizer, verify=verify, retry=policy.retry, transport=transport)
        self.system_name = system or ""
        self.account = account
        self.scheduler_type = ""
        self.max_direct_upload = 5 * MIB
        self.max_direct_download = _base64_limit(5 * MIB)
        self._known = known
        self.system = StatusCalls(self)
        self.jobs = JobCalls(self)
        self.transfers = TransferCalls(self, self.jobs, self.system)
        self.files = FileCalls(self, self.transfers, self.system)

    async def open(self) -> None:
        self.description = self._known or await self._introduction()
        self.capabilities = Capability.parse(self.description.features)
        self.entry = self.description.system
        system = msgspec.convert(self.entry, SystemEntry, strict=False)
        self.system_name = system.name
        files = system.data_operation or DataOperation()
        limit = files.max_ops_file_size
        self.transfer_service = files.data_transfer.service_type.lower() if files.data_transfer else None
        self.transfer_directives = tuple(files.datatransfer_jobs_directives or ())
        self.scheduler_type = (system.scheduler or Scheduler()).type.lower()
        self.max_direct_upload = limit
        self.max_direct_download = limit if self.capabilities else _base64_limit(limit)

    async def _introduction(self) -> Description:
        response = await self._request("get", "/status/systems", expect=200)
        features = sorted(response.headers.get(FEATURES_HEADER, "").split())
        return Description(features, pick_system(self, self._read(response, Systems).systems), clock.time())

    async def systems(self) -> list[dict[str, Any]]:
        """The entries of all systems behind the gateway; it need not be open for that."""
        return await fetch_systems(self)

    @property
    def api_keys(self) -> KeyCalls:
        return KeyCalls(self)


def _base64_limit(buffer: int) -> int:
    """Bytes whose base64 text still fits in less than `buffer`: plain FirecREST downloads through one."""
    return (buffer - 1) // 4 * 3
