"""The columns of sinfo, for groups of nodes that are equal in all columns of a format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crestline.cli.slurm.layout import Field
from crestline.cli.slurm.times import short_duration
from crestline.model import Node, Partition
from crestline.model.hostlist import compress

_NULL = "(null)"
_SHORT = {
    "allocated": "alloc",
    "completing": "comp",
    "draining": "drng",
    "drained": "drain",
    "mixed": "mix",
    "reserved": "resv",
    "unknown": "unk",
    "planned": "plnd",
    "failing": "failg",
}
_TAKEN = ("allocated", "mixed", "completing", "draining")


@dataclass
class Group:
    """Nodes of a partition that share a row of sinfo."""

    partition: Partition
    nodes: list[Node] = field(default_factory=list)


def long_state(node: Node) -> str:
    """Return the state as sinfo spells it: `IDLE` with `DRAIN` is `drained`. Unresponsive nodes get a `*`."""
    words = {word.rstrip("*$#~%@^!-+").lower() for word in node.states}
    star = "*" if "not_responding" in words or any("*" in word for word in node.states) else ""
    base = next((word for word in ("allocated", "mixed", "completing", "idle", "down", "error") if word in words), "")
    if words & {"drain", "draining", "drained"}:
        base = "draining" if base in _TAKEN else "drained"
    elif "maint" in words or "maintenance" in words:
        base = "maint"
    elif "reserved" in words and base == "idle":
        base = "reserved"
    return (base or next(iter(sorted(words)), "unknown")) + star


def short_state(node: Node) -> str:
    """Return sinfo's compact state, for example `alloc` for `allocated`."""
    state = long_state(node)
    bare = state.rstrip("*")
    return _SHORT.get(bare, bare) + state[len(bare) :]


def _name(group: Group) -> str:
    return group.partition.name + ("*" if group.partition.default else "")


def _available(group: Group) -> str:
    return {"UP": "up", "DOWN": "down", "DRAIN": "drain", "INACTIVE": "inact"}.get(group.partition.state, "up")


def _limit(group: Group) -> str:
    return short_duration(group.partition.max_time) if group.partition.max_time else _no_limit(group)


def _no_limit(group: Group) -> str:
    """Return `infinite` if the gateway reports limits, else `n/a`. Such a gateway also reports a default partition."""
    return "n/a" if group.partition.default is None else "infinite"


def count_nodes(nodes: Sequence[Node]) -> tuple[int, int, int, int]:
    """Return the numbers of allocated nodes, idle nodes, other nodes, and all nodes."""
    states = [long_state(node).rstrip("*") for node in nodes]
    taken = sum(state in _TAKEN for state in states)
    idle = sum(state in ("idle", "planned", "reserved") for state in states)
    return taken, idle, len(states) - taken - idle, len(states)


def count_cpus(nodes: Sequence[Node]) -> tuple[int, int, int, int]:
    """Return the numbers of allocated cores, idle cores, other cores, and all cores."""
    taken = sum(node.cpus_allocated or 0 for node in nodes)
    total = sum(node.cpus for node in nodes)
    usable = sum(node.cpus for node in nodes if long_state(node).rstrip("*") in ("idle", "mixed", "allocated"))
    idle = max(usable - taken, 0)
    return taken, idle, total - taken - idle, total


def _joined(numbers: tuple[int, ...]) -> str:
    return "/".join(map(str, numbers))


def _least(values: list[int]) -> str:
    if not values:
        return "0"
    return str(min(values)) + ("+" if max(values) > min(values) else "")


def _features(group: Group) -> str:
    return ",".join(sorted({feature for node in group.nodes for feature in node.features})) or _NULL


def _one(group: Group, text: str) -> str:
    return text if group.nodes else "n/a"


_LIST = Field[Group]("NODELIST", lambda group: compress(node.name for node in group.nodes))
_HOSTS = Field[Group]("HOSTNAMES", lambda group: compress(node.name for node in group.nodes))
_COUNT = Field[Group]("NODES", lambda group: str(len(group.nodes)))
_CPU = Field[Group]("CPUS", lambda group: _least([node.cpus for node in group.nodes]))
_PARTITION = Field("PARTITION", _name)
_PLAIN = Field[Group]("PARTITION", lambda group: group.partition.name)
_AVAIL = Field("AVAIL", _available)
_TIME = Field("TIMELIMIT", _limit)
_STATE = Field[Group]("STATE", lambda group: _one(group, (group.nodes and short_state(group.nodes[0])) or ""))
_STATE_LONG = Field[Group]("STATE", lambda group: _one(group, (group.nodes and long_state(group.nodes[0])) or ""))
_FEATURES = Field("AVAIL_FEATURES", _features)
_GRES = Field[Group]("GRES", lambda _: _NULL)
_AI = Field[Group]("NODES(A/I)", lambda group: _joined(count_nodes(group.nodes)[:2]))
_AIOT = Field[Group]("NODES(A/I/O/T)", lambda group: _joined(count_nodes(group.nodes)))
_CPUS_AIOT = Field[Group]("CPUS(A/I/O/T)", lambda group: _joined(count_cpus(group.nodes)))
_FREE = Field[Group](
    "FREE_MEM", lambda group: _least([each.memory_free for each in group.nodes if each.memory_free is not None])
)
_SIZE = Field[Group]("JOB_SIZE", lambda group: f"1-{group.partition.max_nodes or _no_limit(group)}")

SHORT: dict[str, Field[Group]] = {
    "a": _AVAIL, "A": _AI, "b": Field("ACTIVE_FEATURES", _features), "c": _CPU, "C": _CPUS_AIOT, "D": _COUNT,
    "e": _FREE, "E": Field("REASON", lambda _: "none"), "f": _FEATURES, "F": _AIOT, "G": _GRES, "l": _TIME,
    "n": _HOSTS, "N": _LIST, "P": _PARTITION, "R": _PLAIN, "s": _SIZE, "t": _STATE, "T": _STATE_LONG,
    "X": Field("SOCKETS", lambda group: _least([node.sockets for node in group.nodes])),
    "Y": Field("CORES", lambda group: _least([node.cores for node in group.nodes])),
    "Z": Field("THREADS", lambda group: _least([node.threads for node in group.nodes])),
    "z": Field("S:C:T", lambda group: ":".join(
        _least([getattr(node, part) for node in group.nodes]) for part in ("sockets", "cores", "threads"))),
}  # fmt: skip
"""Fields by their letters in `--format`."""

LONG: dict[str, Field[Group]] = {
    "Available": _AVAIL, "CPUs": _CPU, "CPUsState": _CPUS_AIOT, "Cores": SHORT["Y"], "Features": _FEATURES,
    "FreeMem": _FREE, "Gres": _GRES, "GresUsed": Field("GRES_USED", lambda _: _NULL), "NodeAI": _AI, "NodeAIOT": _AIOT,
    "NodeHost": _HOSTS, "NodeList": _LIST, "Nodes": _COUNT, "Partition": _PARTITION, "PartitionName": _PLAIN,
    "Size": _SIZE, "SocketCoreThread": SHORT["z"], "Sockets": SHORT["X"], "StateCompact": _STATE,
    "StateLong": _STATE_LONG, "Threads": SHORT["Z"], "Time": _TIME,
}  # fmt: skip
"""Fields by their names in `--Format`."""

SUMS = frozenset(map(id, (_LIST, _COUNT, _AI, _AIOT, _CPUS_AIOT, _FREE, _CPU, *(SHORT[each] for each in "XYZz"))))
"""Ids of the fields that aggregate several nodes. Groups differ in all other fields."""
DISTINCT = (_PLAIN, _STATE_LONG, _FEATURES, SHORT["z"])
"""Fields that distinguish the groups of a JSON document."""
OF_PARTITION = frozenset(map(id, (_PARTITION, _PLAIN, _AVAIL, _TIME, _SIZE)))
"""Ids of the fields that depend only on the partition."""
