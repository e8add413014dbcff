"""How a system is, and whether it can take a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crestline.client.federation.requirements import Requirements
from crestline.model import Allocation, CrestlineError, Node, Partition, UnsupportedError
from crestline.model.sbatch import truncated_repr

if TYPE_CHECKING:
    from crestline.client.system import System

_VITAL = ("scheduler", "ssh", "filesystem")
_WINDOW = 3600
_UNUSABLE = {"DOWN", "DRAIN", "DRAINED", "FAIL", "NOT_RESPONDING", "MAINT", "POWERED_DOWN"}


@dataclass(frozen=True)
class SystemLoad:
    """What a look at a system has shown.

    Attributes:
        waiting: jobs that wait there, of all users that the caller may see.
        idle: nodes without any job.
        left: share of the account's budget that is left, 1 if the account is unlimited or the gateway reports no limit.
    """

    target: str
    waiting: int
    idle: int
    budget_ratio: float = 1.0


def health_problem(described: dict[str, Any]) -> str | None:
    """What is wrong with a system, of its entry in `/status/systems`; None: nothing."""
    for service in described.get("servicesHealth") or []:
        if service.get("serviceType") in _VITAL and not service.get("healthy"):
            place = f" {service['path']}" if service.get("path") else ""
            return f"its {service['serviceType']}{place} is not healthy: {service.get('message') or 'no reason given'}"
    return None


def rejection_reason(needs: Requirements, partitions: list[Partition], nodes: list[Node]) -> str | None:
    """Why none of the partitions can take the job; None: one can."""
    if needs.partition is not None:
        asked = [each for each in partitions if each.name == needs.partition]
        if not asked:
            return f"it has no partition {truncated_repr(needs.partition)}"
    else:
        asked = [each for each in partitions if each.default] or partitions
    why = [f"partition {each.name} {reason}" for each in asked if (reason := _limit(needs, each, nodes))]
    return "; ".join(why) or "it has no partition" if len(why) == len(asked) else None


def budget_left(allocations: list[Allocation], account: str | None) -> float:
    """Return the share that is left of the account's scarcest budget, of several accounts the largest; 1: no limit."""
    shares: dict[str, float] = {}
    for each in allocations:
        if account in (None, each.account):
            share = 1.0 if each.left is None else each.left / each.budget if each.budget else 0.0
            shares[each.account] = min(share, shares.get(each.account, 1.0))
    return max(shares.values(), default=1.0)


async def probe(system: System, target: str, needs: Requirements) -> SystemLoad | str:
    """The load of a system; a text says why the job cannot run there.

    Raises:
        CrestlineError: no answer.
    """
    if sick := health_problem(await system.describe()):
        return sick
    nodes: list[Node] = []
    try:
        nodes, partitions = await system.nodes(), await system.partitions()
    except UnsupportedError:  # the API tells of neither, so that the site itself refuses what does not fit
        pass
    else:
        if reason := rejection_reason(needs, partitions, nodes):
            return reason
    left = budget_left(await _allocations(system), needs.account)
    if left <= 0:
        return (
            f"account {truncated_repr(needs.account)} has no budget left"
            if needs.account
            else "your accounts are used up"
        )
    jobs = await system.jobs(all_users=True, window=_WINDOW)
    waiting = sum(
        job.state.is_waiting and (needs.partition is None or job.partition == needs.partition) for job in jobs
    )
    idle = sum("IDLE" in node.states and not node.states & _UNUSABLE for node in nodes)
    return SystemLoad(target, waiting, idle, left)


async def _allocations(system: System) -> list[Allocation]:
    try:
        return await system.allocations()
    except CrestlineError:  # without budgets, load alone decides; the site itself refuses what cannot be paid
        return []


def _limit(needs: Requirements, partition: Partition, nodes: list[Node]) -> str | None:
    if partition.state and not {"UP", "INACTIVE"} & set(partition.state.split("+")):
        return f"is {partition.state}"
    members = [each for each in nodes if partition.name in each.partitions]
    usable = [each for each in members if not each.states & _UNUSABLE]
    count = min(len(usable) if members else partition.nodes, partition.max_nodes or partition.nodes or needs.nodes)
    if needs.nodes > count:
        return f"has {count} nodes for a job, and it needs {needs.nodes}"
    cores = sum(each.cpus for each in usable) if members else partition.cpus
    if cores and needs.cores > cores:
        return f"has {cores} cores, and it needs {needs.cores}"
    if partition.max_time is not None and needs.time is not None and needs.time > partition.max_time:
        return f"allows {partition.max_time} s, and it needs {needs.time} s"
    return None
