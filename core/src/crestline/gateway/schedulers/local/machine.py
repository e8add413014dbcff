"""The cluster of the configuration: by default this machine as one node."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]

from crestline.gateway.schedulers.local.options import LocalOptions, PartitionConfig
from crestline.gateway.schedulers.local.queue import Cluster
from crestline.model import ConfigError
from crestline.wire.status import Node, Partition

_MEBI = 1024 * 1024


def short_name() -> str:
    """Return the name of this machine up to the first dot."""
    return platform.node().partition(".")[0] or "localhost"


def build_cluster(config: LocalOptions) -> Cluster:
    """Create nodes and partitions.

    Raises:
        ConfigError: a name appears twice, a partition names an unknown node, or a list is empty.
    """
    if config.nodes is None:
        nodes = [(short_name(), _cores(), psutil.virtual_memory().total // _MEBI)]
    else:
        nodes = [(name, group.cpus, group.memory) for group in config.nodes for name in group.names]
    names = [name for name, _, _ in nodes]
    partitions = {partition.name: partition.nodes or names for partition in partition_configs(config)}
    if not names or len(set(names)) < len(names) or any(cpus < 1 or memory < 1 for _, cpus, memory in nodes):
        raise ConfigError(
            "The nodes of the local scheduler cannot be used.",
            hint="Name at least one, none twice, each with cores and memory.",
        )
    if not partitions or len(partitions) < len(partition_configs(config)):
        raise ConfigError(
            "The partitions of the local scheduler cannot be used.", hint="Name at least one, none twice."
        )
    for name, members in partitions.items():
        if unknown := set(members) - set(names):
            raise ConfigError(
                f"Partition {name} names unknown nodes: {', '.join(sorted(unknown))}.",
                hint=f"The nodes are: {', '.join(names)}.",
            )
    return Cluster(nodes, partitions)


def partition_configs(config: LocalOptions) -> list[PartitionConfig]:
    """Return the partitions, the default one first."""
    return [PartitionConfig(name="normal")] if config.partitions is None else config.partitions


def list_nodes(cluster: Cluster) -> list[Node]:
    """Return the nodes in their current state. Load and free memory are those of the machine."""
    load, free = os.getloadavg()[0], psutil.virtual_memory().available // _MEBI
    return [
        Node(
            name=node.name,
            state=["IDLE" if not node.used_cpus else "ALLOCATED" if node.used_cpus >= node.cpus else "MIXED"],
            partitions=[name for name, members in cluster.partitions.items() if node.name in members],
            cpus=node.cpus,
            sockets=1,
            cores=node.cpus,
            threads=1,
            cpu_load=round(load, 2),
            free_memory=free,
            address="127.0.0.1",
            hostname=short_name(),
            weight=1,
            alloc_memory=node.used_memory,
            alloc_cpus=node.used_cpus,
            idle_cpus=node.cpus - node.used_cpus,
        )
        for node in cluster.nodes.values()
    ]


def list_partitions(cluster: Cluster, configs: Iterable[PartitionConfig]) -> list[Partition]:
    """Return the partitions. All are up, and the first is the default."""
    return [
        Partition(
            name=each.name,
            cpus=sum(cluster.nodes[node].cpus for node in cluster.partitions[each.name]),
            total_nodes=len(cluster.partitions[each.name]),
            partition="UP",
            max_time=each.max_time,
            default=number == 0,
        )
        for number, each in enumerate(configs)
    ]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
