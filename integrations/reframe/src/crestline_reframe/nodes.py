"""The system's nodes as ReFrame's Slurm backend would see them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from reframe.core.exceptions import JobSchedulerError
from reframe.core.schedulers.slurm import _SlurmNode
from reframe.utility import nodelist_expand

from crestline.model import Node
from crestline_reframe.runs import Run

_FRESH = 10.0
"""seconds for which one answer serves all partitions and tests"""
_NONE = "(null)"


def slurm_node(node: Node) -> _SlurmNode:
    """ReFrame's own kind of node, so that states and constraints mean the same."""
    return _SlurmNode(
        f"NodeName={node.name} Partitions={_joined(node.partitions, ',')} "
        f"ActiveFeatures={_joined(node.features, ',')} State={_joined(node.states, '+')}"
    )


def _joined(words: Iterable[str], by: str) -> str:
    return by.join(sorted(words)) or _NONE


class Nodes:
    """What a gateway tells of nodes, partitions and reservations."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._nodes: set[_SlurmNode] = set()
        self._asked = -_FRESH

    def all(self) -> set[_SlurmNode]:
        """All nodes."""
        if time.monotonic() - self._asked >= _FRESH:
            self._nodes = {slurm_node(node) for node in self._run.ask(lambda system: system.nodes())}
            self._asked = time.monotonic()
        return set(self._nodes)

    def named(self, nodelist: str) -> set[_SlurmNode]:
        """The nodes of a hostlist."""
        names = set(nodelist_expand(nodelist))
        return {node for node in self.all() if node.name in names}

    def default_partition(self) -> str:
        """The only partition that there is.

        Raises:
            JobSchedulerError: there are several: FirecREST does not say which is the default.
        """
        names = [partition.name for partition in self._run.ask(lambda system: system.partitions())]
        if len(names) == 1:
            return names[0]
        raise JobSchedulerError(
            f"the gateway does not tell the default of its partitions {', '.join(names)}: "
            "name one in the partition's 'access' (--partition=...)"
        )

    def reserved(self, reservation: str) -> set[_SlurmNode]:
        """The nodes of a reservation.

        Raises:
            JobSchedulerError: there is none of that name.
        """
        found = self._run.ask(lambda system: system.reservations())
        for each in found:
            if each.name == reservation:
                return self.named(each.nodes)
        names = ", ".join(each.name for each in found) or "none"
        raise JobSchedulerError(f"there is no reservation {reservation!r}; the gateway shows: {names}")
