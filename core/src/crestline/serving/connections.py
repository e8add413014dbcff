"""Counts connections, in total and by address, and closes idle ones in favour of new ones."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any

from crestline.serving.limits import ConnectionLimits

MAKE_WAY = "crestline.allow_eviction"
"""Key of an ASGI scope's extensions: see `allow_eviction`."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Connections:
    """The open connections of one server."""

    def __init__(self, limits: ConnectionLimits, trusted: tuple[Network, ...] = ()) -> None:
        """`limits`: resolved limits; `trusted`: proxies, whose connections only the total limits."""
        self._total = limits.max_connections or 1
        self._per_address = limits.max_connections_per_address or 1
        self._trusted = trusted
        self._counts: dict[str, int] = {}
        self._waiting: dict[Slot, None] = {}
        self._waiting_from: dict[str, dict[Slot, None]] = {}
        self.count = 0

    def admit(self, address: str) -> Slot | None:
        """Return a slot for a new connection, or None if requests in progress use all of them.

        If the limit is reached, the connection that has been idle longest is closed: from the same address, or of all.
        """
        group, limit = self._group(address)
        if self._counts.get(group, 0) >= limit and not self._evict(self._waiting_from.get(group)):
            return None
        if self.count >= self._total and not self._evict(self._waiting):
            return None
        self.count += 1
        self._counts[group] = self._counts.get(group, 0) + 1
        return Slot(self, group)

    def _group(self, address: str) -> tuple[str, int]:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return address, self._per_address
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._trusted):
            return str(parsed), self._total
        if isinstance(parsed, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((parsed, 64), strict=False)), self._per_address
        return str(parsed), self._per_address

    def _evict(self, waiting: dict[Slot, None] | None) -> bool:
        if not waiting:
            return False
        oldest = next(iter(waiting))
        oldest.release()
        oldest.abort()
        return True

    def _await(self, slot: Slot) -> None:
        self._waiting[slot] = None
        self._waiting_from.setdefault(slot.group, {})[slot] = None

    def _stop_waiting(self, slot: Slot) -> None:
        self._waiting.pop(slot, None)
        if (group := self._waiting_from.get(slot.group)) is not None:
            group.pop(slot, None)

    def _release(self, slot: Slot) -> None:
        self._stop_waiting(slot)
        self.count -= 1
        self._counts[slot.group] -= 1
        if not self._counts[slot.group]:
            del self._counts[slot.group]
            self._waiting_from.pop(slot.group, None)


def allow_eviction(scope: Mapping[str, Any]) -> None:
    """Let the connection of a request be closed if slots are short: its response waits for events, and its client can
    repeat the request.

    Args:
        scope: the ASGI scope of the request. Has no effect for other servers.
    """
    offer: Callable[[], None] | None = (scope.get("extensions") or {}).get(MAKE_WAY)
    if offer is not None:
        offer()


class Slot:
    """The slot of one connection. It is idle, and may be closed, unless `is_waiting` is False."""

    __slots__ = ("_is_waiting", "_table", "abort", "group", "is_released")

    def __init__(self, table: Connections, group: str) -> None:
        self._table = table
        self._is_waiting = True
        self.is_released = False
        self.group = group
        self.abort: Callable[[], object] = lambda: None
        """Closes the connection immediately."""
        table._await(self)

    def set_waiting(self, is_waiting: bool) -> None:
        """Set whether the connection waits for its client, and may therefore be closed."""
        if is_waiting == self._is_waiting or self.is_released:
            return
        self._is_waiting = is_waiting
        if is_waiting:
            self._table._await(self)
        else:
            self._table._stop_waiting(self)

    def release(self) -> None:
        """Release the slot. A second call has no effect."""
        if not self.is_released:
            self.is_released = True
            self._table._release(self)


class AcceptedSocket(socket.socket):
    """A socket that releases its slot when it is closed, by any event loop and in any state."""

    slot: Slot | None = None

    def close(self) -> None:
        super().close()
        self._release()

    def detach(self) -> int:
        """Close it without closing the descriptor, which uvloop closes itself."""
        descriptor = super().detach()
        self._release()
        return descriptor

    def _release(self) -> None:
        if self.slot is not None:
            self.slot.release()
