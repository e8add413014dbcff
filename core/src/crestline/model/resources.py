"""What a system has: nodes, partitions, reservations, accounts and their allocations."""

from __future__ import annotations

import msgspec


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A compute node; memory in MiB.

    Example: `[node.name for node in await daint.nodes() if "IDLE" in node.states]`
    """

    name: str
    states: frozenset[str]
    """in the scheduler's words as the gateway hands them on, upper case (`IDLE`, `DRAIN`)"""
    partitions: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    cpus: int = 0
    sockets: int = 0
    cores: int = 0
    """cores per socket"""
    threads: int = 0
    """hardware threads per core"""
    memory_free: int | None = None
    cpus_allocated: int | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account that the user may charge.

    Example: `[account.name for account in await daint.accounts() if account.default]`
    """

    name: str
    user: str
    """name of the caller on the system"""
    default: bool = False
    """whether jobs that name none are charged to it"""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """What of an account may be used, in one unit.

    Attributes:
        account: name of the account, or of the project.
        unit: `cpu-hours`, `node-hours`, `gres/gpu-hours` or the like, in the scheduler's words.
        budget: granted in total; None: unlimited.
        used: of that, until now; None: not told.
        user: the user whom alone the budget limits; None: it is shared by all users of the account.

    >>> Allocation(account="proj1", unit="node-hours", budget=1000, used=940).left
    60
    """

    account: str
    unit: str
    budget: float | None = None
    used: float | None = None
    user: str | None = None

    @property
    def left(self) -> float | None:
        """Return what remains, 0 if the budget is overdrawn; None if unlimited or if the usage is unknown."""
        if self.budget is None or self.used is None:
            return None
        return max(self.budget - self.used, 0.0)


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """A partition (queue) of a system.

    Example: `next(partition.name for partition in await daint.partitions() if partition.default)`
    """

    name: str
    cpus: int = 0
    nodes: int = 0
    state: str = ""
    """in the scheduler's word, upper case (`UP`, `DOWN`, `DRAIN`); empty where the gateway does not say"""
    max_time: int | None = None
    """the longest time limit in seconds; None: there is none, or the gateway does not say"""
    max_nodes: int | None = None
    """most nodes of one job; None as for `max_time`"""
    default: bool | None = None
    """whether jobs that name none go there; None where the gateway does not say"""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An advance reservation of nodes.

    Example: `[reservation.nodes for reservation in await daint.reservations()]`
    """

    name: str
    nodes: str = ""
    """hostlist (`nid[1-4]`)"""
    state: str = ""
