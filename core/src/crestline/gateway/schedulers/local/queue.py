"""Decides which job runs when and where, by free cores and memory of nodes and the order of submission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from crestline.model import InvalidRequestError


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Resources that a job needs. Memory is in MiB."""

    nodes: int | None = None
    """None: as few as hold the tasks."""
    tasks: int = 1
    tasks_per_node: int | None = None
    """Maximum number of tasks per node."""
    cpus_per_task: int = 1
    memory_per_node: int | None = None
    """0: all memory of the node. None, without `memory_per_cpu`: not counted."""
    memory_per_cpu: int | None = None
    exclusive: bool = False


class Share(msgspec.Struct, frozen=True):
    """Resources that a job holds on one node. Memory is in MiB."""

    tasks: int
    cpus: int
    memory: int


Allocation = dict[str, Share]
"""Node name -> share. The job runs on the first node."""


@dataclass
class VirtualNode:
    """A node and its used resources. Memory is in MiB."""

    name: str
    cpus: int
    memory: int
    used_cpus: int = 0
    used_memory: int = 0
    jobs: int = 0


@dataclass(frozen=True)
class Waiting:
    """A job that can start when resources are free."""

    job_id: int
    partition: str
    resources: Resources
    array: int = 0
    """Id of the job array of the task, or 0."""
    at_once: int | None = None
    """Maximum number of tasks of that array that run at the same time; None: unlimited."""


class Cluster:
    """The nodes and the partitions."""

    def __init__(self, nodes: Iterable[tuple[str, int, int]], partitions: Mapping[str, Iterable[str]]) -> None:
        """Create a cluster of nodes given as (name, cores, MiB)."""
        self.nodes = {name: VirtualNode(name, cpus, memory) for name, cpus, memory in nodes}
        self.partitions = {name: tuple(members) for name, members in partitions.items()}

    def check(self, partition: str, resources: Resources) -> None:
        """Refuse a job that could never run, even on an empty cluster.

        Raises:
            InvalidRequestError: the partition is too small.
        """
        if not self.can_hold(partition, resources):
            members = [self.nodes[name] for name in self.partitions[partition]]
            largest = max(members, key=lambda node: node.cpus)
            raise InvalidRequestError(
                f"The job can never run in partition {partition}: it asks for {_describe(resources)}.",
                hint=f"The partition has {len(members)} node(s) with up to {largest.cpus} cores and "
                f"{max(node.memory for node in members)} MiB of memory each; ask for less.",
            )

    def can_hold(self, partition: str, resources: Resources) -> bool:
        """Whether the job could run on an empty cluster."""
        members = [self.nodes[name] for name in self.partitions.get(partition, ())]
        idle = [VirtualNode(node.name, node.cpus, node.memory) for node in members]
        return _allocate(resources, idle) is not None

    def allocate(self, partition: str, resources: Resources, closed: frozenset[str] | set[str]) -> Allocation | None:
        """Find free resources for a job on the partition's nodes outside `closed`, or return None."""
        return _allocate(resources, [self.nodes[name] for name in self.partitions[partition] if name not in closed])

    def reserve(self, allocation: Allocation) -> None:
        """Count the resources of a job as used. Nodes that are no longer configured are ignored."""
        self._count(allocation, 1)

    def release(self, allocation: Allocation) -> None:
        """Undo `reserve`."""
        self._count(allocation, -1)

    def _count(self, allocation: Allocation, sign: int) -> None:
        for name, share in allocation.items():
            if node := self.nodes.get(name):
                node.used_cpus += sign * share.cpus
                node.used_memory += sign * share.memory
                node.jobs += sign


def schedule(
    cluster: Cluster, queue: Iterable[Waiting], at_work: Mapping[int, int] = MappingProxyType({})
) -> tuple[dict[int, Allocation], dict[int, str]]:
    """Start jobs in order as far as they fit, and reserve their allocations on the cluster.

    A job that does not fit closes the nodes of its partition for all later jobs, so that none of them overtakes it on
    nodes that it may need. It starts at the latest when these nodes are empty. Once all nodes are closed, the search
    ends.

    Args:
        cluster: the nodes.
        queue: the jobs that can start, oldest first.
        at_work: number of running tasks by job array.

    Returns:
        allocations by job id for the jobs that start, and reasons (`Resources`, `Priority`, `JobArrayTaskLimit`) by job
        id for the examined jobs that wait.
    """
    running = Counter(at_work)
    started: dict[int, Allocation] = {}
    reasons: dict[int, str] = {}
    closed: set[str] = set()
    for waiting in queue:
        if waiting.at_once is not None and running[waiting.array] >= waiting.at_once:
            reasons[waiting.job_id] = "JobArrayTaskLimit"
            continue
        allocation = cluster.allocate(waiting.partition, waiting.resources, closed)
        if allocation is not None:
            cluster.reserve(allocation)
            running[waiting.array] += 1
            started[waiting.job_id] = allocation
        else:
            members = cluster.partitions[waiting.partition]
            reasons[waiting.job_id] = "Priority" if closed.intersection(members) else "Resources"
            closed.update(members)
            if len(closed) == len(cluster.nodes):
                break
    return started, reasons


def _allocate(resources: Resources, nodes: list[VirtualNode]) -> Allocation | None:
    rooms = [(room, node) for node in nodes if (room := _free_tasks(resources, node)) > 0]
    rooms.sort(key=lambda pair: -pair[0])  # stable: equal nodes keep the order of the configuration
    if resources.nodes is None:
        chosen, total = [], 0
        for room, node in rooms:
            chosen.append((room, node))
            total += room
            if total >= resources.tasks:
                break
    else:
        chosen = rooms[: resources.nodes]
        if len(chosen) < resources.nodes:
            return None
    if sum(room for room, _ in chosen) < resources.tasks:
        return None
    order = [node.name for node in nodes]
    chosen.sort(key=lambda pair: order.index(pair[1].name))
    allocation: Allocation = {}
    left = resources.tasks
    for position, (room, node) in enumerate(chosen):
        tasks = min(room, left - (len(chosen) - position - 1))  # at least one task for each of the following nodes
        left -= tasks
        allocation[node.name] = _share(resources, node, tasks)
    return allocation


def _free_tasks(resources: Resources, node: VirtualNode) -> int:
    """Return how many of the job's tasks the node could run now."""
    if resources.exclusive and node.jobs:
        return 0
    tasks = (node.cpus - node.used_cpus) // resources.cpus_per_task
    free = node.memory - node.used_memory
    if resources.memory_per_node is not None and free < (resources.memory_per_node or node.memory):
        return 0
    if resources.memory_per_cpu:
        tasks = min(tasks, free // (resources.memory_per_cpu * resources.cpus_per_task))
    return min(tasks, resources.tasks_per_node or tasks)


def _share(resources: Resources, node: VirtualNode, tasks: int) -> Share:
    if resources.exclusive:
        return Share(tasks, node.cpus, node.memory)
    cpus = tasks * resources.cpus_per_task
    if resources.memory_per_node is not None:
        return Share(tasks, cpus, resources.memory_per_node or node.memory)
    return Share(tasks, cpus, (resources.memory_per_cpu or 0) * cpus)


def _describe(resources: Resources) -> str:
    words = [f"{resources.tasks} task(s) with {resources.cpus_per_task} core(s) each"]
    if resources.nodes:
        words.append(f"on {resources.nodes} node(s)")
    if resources.memory_per_node is not None:
        words.append(f"with {resources.memory_per_node or 'all the'} MiB per node")
    if resources.memory_per_cpu is not None:
        words.append(f"with {resources.memory_per_cpu} MiB per core")
    return " ".join(words)
