"""The current choices of a system, fetched once for all forms that are opened meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from crestline.client import System
from crestline.model import Allocation, CrestlineError, Node, UnsupportedError
from crestline_jupyterhub.options.profiles import is_safe


@dataclass(frozen=True)
class LiveChoices:
    """Choices by kind (`offer.LIVE`): name and title of each."""

    choices: Mapping[str, Mapping[str, str]]


@dataclass
class _Kept:
    live: LiveChoices | None = None
    since: float = 0.0
    asking: asyncio.Task[LiveChoices] | None = None
    failed: str = field(default="")


_kept: WeakKeyDictionary[System, dict[bool, _Kept]] = WeakKeyDictionary()


async def fetch_choices(
    system: System, max_age: float, patience: float, *, accounts: bool = False
) -> LiveChoices | None:
    """Return the system's choices of the last `max_age` seconds; older ones, or None, if it does not respond.

    Args:
        system: the system.
        max_age: maximum age in seconds.
        patience: seconds to wait for the gateway.
        accounts: whether to fetch the user's accounts, too.
    """
    kept = _kept.setdefault(system, {}).setdefault(accounts, _Kept())
    if kept.live is not None and time.monotonic() - kept.since < max_age:
        return kept.live
    if kept.asking is None or kept.asking.done():
        kept.asking = asyncio.ensure_future(_ask(system, accounts))
        kept.asking.add_done_callback(lambda asked: _refresh(kept, asked))
    await asyncio.wait([kept.asking], timeout=patience)
    return kept.live


def _refresh(kept: _Kept, asked: asyncio.Task[LiveChoices]) -> None:
    if asked.cancelled() or isinstance(asked.exception(), CrestlineError):
        return
    kept.live, kept.since = asked.result(), time.monotonic()


async def _ask(system: System, accounts: bool) -> LiveChoices:
    nodes, partitions, reservations = await asyncio.gather(system.nodes(), system.partitions(), system.reservations())
    features = sorted({feature for node in nodes for feature in node.features})
    found = {
        "partitions": {
            each.name: _title(each.name, [node for node in nodes if each.name in node.partitions], each.nodes)
            for each in partitions
        },
        "reservations": {
            each.name: f"{each.name} ({each.nodes})" if each.nodes else each.name for each in reservations
        },
        "features": {each: _title(each, [node for node in nodes if each in node.features], 0) for each in features},
        "accounts": await _accounts(system) if accounts else {},
    }
    return LiveChoices(
        {kind: {name: title for name, title in each.items() if is_safe(name)} for kind, each in found.items()}
    )


def _title(name: str, nodes: list[Node], count: int) -> str:
    if not nodes:
        return f"{name} ({count} nodes)" if count else name
    return f"{name} ({sum(1 for node in nodes if node.states == {'IDLE'})} of {len(nodes)} nodes free)"


async def _accounts(system: System) -> dict[str, str]:
    try:
        names = [each.name for each in await system.accounts()]
    except UnsupportedError:
        return {}
    try:
        allocations = await system.allocations()
    except CrestlineError:  # the names are sufficient
        allocations = []
    return {name: account_title(name, allocations) for name in names}


def account_title(name: str, allocations: Iterable[Allocation]) -> str:
    """Return the name with the remaining amount of each of its budgets."""
    told = [each for each in allocations if each.account == name and each.left is not None]
    left = ", ".join(f"{each.left:.0f} of {each.budget:.0f} {each.unit} left" for each in told)
    return f"{name} ({left})" if left else name
