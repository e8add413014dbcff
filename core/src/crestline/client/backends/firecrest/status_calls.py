"""`/status/{system}` of FirecREST: what the system has, as lenient as real servers are."""

from __future__ import annotations

import msgspec

from crestline.client.backends.firecrest.calls import Calls
from crestline.model import Node, Partition, Reservation
from crestline.wire.codec import Message


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


class StatusCalls(Calls):
    """The resources of one system."""

    system: str

    async def nodes(self) -> list[Node]:
        response = await self._request("get", f"/status/{self.system}/nodes", expect=200)
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
            for each in self._read(response, _Nodes).nodes
        ]

    async def partitions(self) -> list[Partition]:
        response = await self._request("get", f"/status/{self.system}/partitions", expect=200)
        found = self._read(response, _Partitions).partitions
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
            for each in found
        ]

    async def reservations(self) -> list[Reservation]:
        response = await self._request("get", f"/status/{self.system}/reservations", expect=200)
        found = self._read(response, _Reservations).reservations
        return [Reservation(name=each.name, nodes=each.node_list or "", state=each.state or "") for each in found]


def _words(value: str | list[str] | None) -> list[str]:
    if isinstance(value, str):
        return [word for word in value.split(",") if word]
    return value or []
