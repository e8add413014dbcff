"""The backend for FirecREST v2: plain ones from 2.5.6 on, and Crestline's own gateway."""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import partial
from typing import Any

import msgspec

from crestline.client.auth import Authorizer
from crestline.client.backends.base import Backend
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.content_calls import ContentCalls
from crestline.client.backends.firecrest.file_calls import FileCalls
from crestline.client.backends.firecrest.job_events import EventCalls
from crestline.client.backends.firecrest.jobs import JobCalls
from crestline.client.backends.firecrest.key_calls import KeyCalls
from crestline.client.backends.firecrest.status_calls import StatusCalls
from crestline.client.backends.messages import Description
from crestline.client.policy import Policy
from crestline.model import ConfigError, SystemNotFoundError
from crestline.wire.codec import Message
from crestline.wire.extensions import FEATURES_HEADER

_MIB = 1024 * 1024


class _DataTransfer(Message):
    service_type: str = "s3"


class _DataOperation(msgspec.Struct):
    max_ops_file_size: int = 5 * _MIB
    data_transfer: _DataTransfer | None = msgspec.field(default_factory=_DataTransfer)
    datatransfer_jobs_directives: list[str] | None = None


class _Scheduler(Message):
    type: str = "slurm"


class _FileSystem(Message):
    path: str
    default_work_dir: bool = False


class _System(Message):
    """The little of `wire.status.System` that the client needs; the rest differs between versions and sites."""

    name: str
    scheduler: _Scheduler | None = None
    file_systems: list[_FileSystem] | None = None
    data_operation: _DataOperation | None = None


class _Systems(Message):
    systems: list[dict[str, Any]]


class _Named(Message):
    name: str


class _UserInfo(Message):
    user: _Named


class FirecrestBackend(JobCalls, EventCalls, FileCalls, ContentCalls, StatusCalls, Backend):
    """One system behind a FirecREST v2 gateway.

    Args:
        url: the gateway's base URL.
        system: its name for the system, in any case; None: the only one that the gateway has.
        account: charged for jobs that name none, transfer jobs among them.
        known: what the gateway has said of itself lately; without it, it is asked first.
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
    ) -> None:
        policy = policy or Policy()
        super().__init__(url, authorizer, verify=verify, retry=policy.retry)
        self.system = system or ""
        self.account = account
        self.capabilities = frozenset()
        self.scheduler_type = ""
        self.transfer_directives = ()
        self.max_direct_upload = 5 * _MIB
        self.max_direct_download = _base64_limit(5 * _MIB)
        self._known = known
        self._described: dict[str, Any] = {}
        self._workdir: str | None = None
        self._workdir_lock = asyncio.Lock()

    async def open(self) -> None:
        self.description = self._known or await self._introduction()
        self.capabilities = Capability.parse(self.description.features)
        self._described = self.description.system
        system = msgspec.convert(self._described, _System, strict=False)
        self.system = system.name
        files = system.data_operation or _DataOperation()
        limit = files.max_ops_file_size
        self.transfer_service = files.data_transfer.service_type.lower() if files.data_transfer else None
        self.transfer_directives = tuple(files.datatransfer_jobs_directives or ())
        self.scheduler_type = (system.scheduler or _Scheduler()).type.lower()
        self.max_direct_upload = limit
        self.max_direct_download = limit if self.capabilities else _base64_limit(limit)

    async def _introduction(self) -> Description:
        response = await self._request("get", "/status/systems", expect=200)
        features = sorted(response.headers.get(FEATURES_HEADER, "").split())
        return Description(features, self._pick(self._read(response, _Systems).systems), time.time())

    async def systems(self) -> list[dict[str, Any]]:
        """The entries of all systems behind the gateway; it need not be open for that."""
        response = await self._request("get", "/status/systems", expect=200)
        return self._read(response, _Systems).systems

    @property
    def api_keys(self) -> KeyCalls:
        return KeyCalls(self)

    async def describe(self) -> dict[str, Any]:
        return self._pick(await self.systems())

    async def default_workdir(self) -> str:
        async with self._workdir_lock:  # one request for all who ask meanwhile
            if self._workdir is None:
                mounts = msgspec.convert(self._described, _System, strict=False).file_systems or []
                if not mounts:
                    raise ConfigError(f"{self.system} names no file system.", hint="Give a working directory.")
                mount = next((each for each in mounts if each.default_work_dir), mounts[0])
                info = await self._result(partial(self._api.userinfo, self.system), _UserInfo)
                self._workdir = f"{mount.path.rstrip('/')}/{info.user.name}"
            return self._workdir

    def _pick(self, systems: list[dict[str, Any]]) -> dict[str, Any]:
        names = [str(each.get("name")) for each in systems]
        if not self.system and len(systems) == 1:
            return systems[0]
        for name, each in zip(names, systems, strict=True):
            if name.casefold() == self.system.casefold() and self.system:
                return each
        hint = f"It has: {', '.join(names) or 'none'}."
        if not self.system:
            raise ConfigError(f"Name one of the systems of {self.gateway_url}.", hint=hint)
        raise SystemNotFoundError(f"{self.gateway_url} has no system {self.system!r}.", hint=hint)


def _base64_limit(buffer: int) -> int:
    """Bytes whose base64 text still fits in less than `buffer`: plain FirecREST downloads through one."""
    return (buffer - 1) // 4 * 3
