"""`/status/{system}` of FirecREST: what the system has, as lenient as real servers are."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

import msgspec

from crestline.client.backends.base import SystemEndpoints
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.firecrest.calls import Calls
from crestline.model import (
    Account,
    Allocation,
    ConfigError,
    Node,
    Partition,
    Reservation,
    SystemNotFoundError,
    UnsupportedError,
)
from crestline.model.slurm_queries import SlurmOutput, SlurmQuery
from crestline.wire.codec import Message
from crestline.wire.extensions import AllocationsAnswer, SlurmAnswer

T = TypeVar("T")


class _Node(Message):
    name: str
    state: str | list[str] | None = None
    partitions: str | list[str] | None = None
    features: str | list[str] | None = None
    cpus: int | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    free_memory: int | None = None
    alloc_cpus: int | None = None


class _Nodes(msgspec.Struct):
    nodes: list[_Node]


class _Partition(Message):
    name: str
    cpus: int | None = None
    total_nodes: int | None = None
    partition: str | list[str] | None = None
    max_time: int | None = None
    max_nodes: int | None = None
    default: bool | None = None


class _Partitions(msgspec.Struct):
    partitions: list[_Partition]


class _Reservation(Message):
    name: str
    node_list: str | None = None
    state: str | None = None


class _Reservations(msgspec.Struct):
    reservations: list[_Reservation]


MIB = 1024 * 1024


class _DataTransfer(Message):
    service_type: str = "s3"


class DataOperation(msgspec.Struct):
    """File transfers of a system, as in its entry of `/status/systems`."""

    max_ops_file_size: int = 5 * MIB
    data_transfer: _DataTransfer | None = msgspec.field(default_factory=_DataTransfer)
    datatransfer_jobs_directives: list[str] | None = None


class Scheduler(Message):
    """The scheduler of a system, as in its entry of `/status/systems`."""

    type: str = "slurm"
    version: str | None = None


class _FileSystem(Message):
    path: str
    default_work_dir: bool = False


class SystemEntry(Message):
    """The little of `wire.status.System` that the client needs; the rest differs between versions and sites."""

    name: str
    scheduler: Scheduler | None = None
    file_systems: list[_FileSystem] | None = None
    data_operation: DataOperation | None = None


class Systems(Message):
    """The answer of `/status/systems`."""

    systems: list[dict[str, Any]]


class _Named(Message):
    name: str


class _Account(_Named):
    default: bool = False


class _UserInfo(Message):
    user: _Named
    accounts: list[_Account] | None = None


async def fetch_systems(calls: Calls) -> list[dict[str, Any]]:
    """The entries of all systems behind the gateway."""
    return (await calls._fetch(Systems, "/status/systems")).systems


def pick_system(calls: Calls, systems: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of the system that is meant.

    Raises:
        ConfigError: none is named, and there are several.
        SystemNotFoundError: the system does not exist.
    """
    names = [str(each.get("name")) for each in systems]
    if not calls.system_name and len(systems) == 1:
        return systems[0]
    for name, each in zip(names, systems, strict=True):
        if name.casefold() == calls.system_name.casefold() and calls.system_name:
            return each
    hint = f"It has: {', '.join(names) or 'none'}."
    if not calls.system_name:
        raise ConfigError(f"Name one of the systems of {calls.gateway_url}.", hint=hint)
    raise SystemNotFoundError(f"{calls.gateway_url} has no system {calls.system_name!r}.", hint=hint)


class StatusCalls(SystemEndpoints):
    """The resources of one system."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._workdir: str | None = None
        self._workdir_lock = asyncio.Lock()

    async def describe(self) -> dict[str, Any]:
        return pick_system(self._calls, await fetch_systems(self._calls))

    async def default_workdir(self) -> str:
        async with self._workdir_lock:  # one request for all who ask meanwhile
            if self._workdir is None:
                name = self._calls.system_name
                mounts = msgspec.convert(self._calls.entry, SystemEntry, strict=False).file_systems or []
                if not mounts:
                    raise ConfigError(f"{name} names no file system.", hint="Give a working directory.")
                mount = next((each for each in mounts if each.default_work_dir), mounts[0])
                info = await self._calls._result(partial(self._calls._api.userinfo, name), _UserInfo)
                self._workdir = f"{mount.path.rstrip('/')}/{info.user.name}"
            return self._workdir

    async def accounts(self) -> list[Account]:
        name = self._calls.system_name
        info = await self._calls._result(partial(self._calls._api.userinfo, name), _UserInfo)
        if info.accounts is None:
            return await super().accounts()
        return [Account(name=each.name, user=info.user.name, default=each.default) for each in info.accounts]

    async def allocations(self) -> list[Allocation]:
        self._calls._need(Capability.ALLOCATIONS)
        answer = await self._fetch(AllocationsAnswer, "allocations")
        if answer.allocations is None:
            raise UnsupportedError(
                answer.reason or "The scheduler does not report budgets.",
                hint="Ask the site what your accounts may use.",
            )
        return [
            Allocation(account=each.account, unit=each.unit, budget=each.budget, used=each.used, user=each.user)
            for each in answer.allocations
        ]

    async def ask_slurm(self, query: SlurmQuery) -> SlurmOutput:
        self._calls._need(Capability.SLURM_QUERIES)
        entry = msgspec.convert(self._calls.entry, SystemEntry, strict=False)
        scheduler = entry.scheduler or Scheduler()
        if (scheduler.version or "").startswith("local "):  # Crestline's own
            raise UnsupportedError("The system's scheduler is not Slurm.", hint="Use the other calls of the API.")
        params = {
            "program": query.program,
            "argument": list(query.arguments),
            "variable": [f"{name}={value}" for name, value in query.environment.items()],
            "me": query.me,
        }
        answer = await self._fetch(SlurmAnswer, "slurm", params=params)
        if answer.exit_code is None:
            raise UnsupportedError("The system's scheduler is not Slurm.", hint="Use the other calls of the API.")
        return SlurmOutput(exit_code=answer.exit_code, output=answer.output, errors=answer.errors)

    async def nodes(self) -> list[Node]:
        return [
            Node(
                name=each.name,
                states=frozenset(word for state in _words(each.state) for word in state.upper().split("+")),
                partitions=frozenset(_words(each.partitions)),
                features=frozenset(_words(each.features)),
                cpus=each.cpus or 0,
                sockets=each.sockets or 0,
                cores=each.cores or 0,
                threads=each.threads or 0,
                memory_free=each.free_memory,
                cpus_allocated=each.alloc_cpus,
            )
            for each in (await self._fetch(_Nodes, "nodes")).nodes
        ]

    async def partitions(self) -> list[Partition]:
        return [
            Partition(
                name=each.name,
                cpus=each.cpus or 0,
                nodes=each.total_nodes or 0,
                state="+".join(_words(each.partition)).upper(),
                max_time=each.max_time,
                max_nodes=each.max_nodes,
                default=each.default,
            )
            for each in (await self._fetch(_Partitions, "partitions")).partitions
        ]

    async def reservations(self) -> list[Reservation]:
        found = (await self._fetch(_Reservations, "reservations")).reservations
        return [Reservation(name=each.name, nodes=each.node_list or "", state=each.state or "") for each in found]

    async def _fetch(self, kind: type[T], what: str, **more: Any) -> T:
        return await self._calls._fetch(kind, f"/status/{self._calls.system_name}/{what}", **more)


def _words(value: str | list[str] | None) -> list[str]:
    if isinstance(value, str):
        return [word for word in value.split(",") if word]
    return value or []
