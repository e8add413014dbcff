"""Resources of a system: nodes, partitions, reservations, accounts and their allocations."""

from __future__ import annotations

import msgspec


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A compute node; memory in MiB.

    Example: `[node.name for node in await daint.nodes() if "IDLE" in node.states]`
    """

    name: str
    states: frozenset[str]
    """states in the scheduler's words, upper case (`IDLE`, `DRAIN`)"""
    partitions: frozenset[str] = frozenset()
    """names of the partitions that contain the node"""
    features: frozenset[str] = frozenset()
    """features that `JobSpec.constraint` can name"""
    cpus: int = 0
    sockets: int = 0
    cores: int = 0
    """cores per socket"""
    threads: int = 0
    """hardware threads per core"""
    memory_free: int | None = None
    """free memory in MiB; None if not reported"""
    cpus_allocated: int | None = None
    """number of CPUs that jobs hold; None if not reported"""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account that the user may charge.

    Example: `[account.name for account in await daint.accounts() if account.default]`
    """

    name: str
    user: str
    """name of the user on the system"""
    default: bool = False
    """whether jobs without an account are charged to this one"""


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of an account in one unit, and how much of it is used.

    Attributes:
        account: name of the account, or of the project.
        unit: `cpu-hours`, `node-hours`, `gres/gpu-hours` or the like, in the scheduler's words.
        budget: amount that is granted in total; None if it is unlimited.
        used: amount that is used until now; None if it is not reported.
        user: the user to whom the budget applies; None if all users of the account share it.

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
        """Remaining amount, 0 if the budget is overdrawn; None if it is unlimited or the use is unknown."""
        if self.budget is None or self.used is None:
            return None
        return max(self.budget - self.used, 0.0)


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """A partition (queue) of a system.

    Example: `next(partition.name for partition in await daint.partitions() if partition.default)`
    """

    name: str
    cpus: int = 0
    """number of CPUs of all nodes"""
    nodes: int = 0
    """number of nodes"""
    state: str = ""
    """the scheduler's word, upper case (`UP`, `DOWN`, `DRAIN`); empty if not reported"""
    max_time: int | None = None
    """longest time limit of a job in seconds; None if it is unlimited or not reported"""
    max_nodes: int | None = None
    """largest number of nodes of one job; None if it is unlimited or not reported"""
    default: bool | None = None
    """whether jobs without a partition use this one; None if not reported"""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An advance reservation of nodes.

    Example: `[reservation.nodes for reservation in await daint.reservations()]`
    """

    name: str
    nodes: str = ""
    """hostlist (`nid[1-4]`)"""
    state: str = ""
    """the scheduler's word (`ACTIVE`, `INACTIVE`)"""
