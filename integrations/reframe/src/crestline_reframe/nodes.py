"""The system's nodes as ReFrame's Slurm backend sees them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from reframe.core.exceptions import JobSchedulerError
from reframe.core.schedulers.slurm import _SlurmNode
from reframe.utility import nodelist_expand

from crestline.model import Node, UnsupportedError
from crestline_reframe.runs import Run

_FRESH = 10.0
"""Seconds for which one answer serves all partitions and tests."""
_NONE = "(null)"
MAINTENANCE = "MAINTENANCE"
_LONG_STATES = {"MAINT": MAINTENANCE, "RESV": "RESERVED", "ALLOC": "ALLOCATED", "COMP": "COMPLETING", "PLND": "PLANNED"}
"""sinfo's short state names, with ReFrame's names from scontrol."""


def slurm_node(node: Node) -> _SlurmNode:
    """Return ReFrame's own type of node, so that states and constraints have the same meaning."""
    states = {_LONG_STATES.get(state, state) for state in node.states}
    return _SlurmNode(
        f"NodeName={node.name} Partitions={_joined(node.partitions, ',')} "
        f"ActiveFeatures={_joined(node.features, ',')} State={_joined(states, '+')}"
    )


def _joined(words: Iterable[str], by: str) -> str:
    return by.join(sorted(words)) or _NONE


class Nodes:
    """Nodes, partitions and reservations of the gateway."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._nodes: set[_SlurmNode] = set()
        self._asked = -_FRESH

    def all(self) -> set[_SlurmNode]:
        """Return all nodes of the system, at most ten seconds old."""
        if time.monotonic() - self._asked >= _FRESH:
            self._nodes = {slurm_node(node) for node in self._run.call(lambda system: system.nodes())}
            self._asked = time.monotonic()
        return set(self._nodes)

    def named(self, nodelist: str) -> set[_SlurmNode]:
        """Return the nodes of a hostlist (`nid[001-004]`) that the system has."""
        names = set(nodelist_expand(nodelist))
        return {node for node in self.all() if node.name in names}

    def default_partition(self) -> str | None:
        """Return the default partition; None if the system has none.

        Raises:
            JobSchedulerError: the system has several partitions, and the gateway does not report the default.
        """
        try:
            partitions = self._run.call(lambda system: system.partitions())
        except UnsupportedError:  # the API does not list partitions, and the scheduler uses its own default
            return None
        for partition in partitions:
            if partition.default:
                return partition.name
        if partitions and all(partition.default is False for partition in partitions):
            return None
        if len(partitions) == 1:
            return partitions[0].name
        raise JobSchedulerError(
            f"the gateway does not tell which of its partitions {', '.join(each.name for each in partitions)} is the "
            "default: name one in the partition's 'access' (--partition=...)"
        )

    def reserved(self, reservation: str) -> set[_SlurmNode]:
        """Return the nodes of a reservation.

        Raises:
            JobSchedulerError: unknown reservation.
        """
        found = self._run.call(lambda system: system.reservations())
        for each in found:
            if each.name == reservation:
                return self.named(each.nodes)
        names = ", ".join(each.name for each in found) or "none"
        raise JobSchedulerError(f"Unknown reservation {reservation!r}. The gateway lists: {names}")
