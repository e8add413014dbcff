"""Refused credentials: the first becomes a record, and similar ones within a minute become one more record together."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict

import msgspec

from crestline.gateway.audit.record import AuditRecord
from crestline.gateway.audit.trail import AuditTrail

_WINDOW = 60.0
"""Seconds for which similar refusals are combined."""
_MOST_KINDS = 1000
_MOST_ADDRESSES = 10_000
_OTHERS = "others"


class _Kind:
    """Similar refusals since the first of them was recorded."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.more = 0
        self.latest: AuditRecord | None = None


class FailedSignIns:
    """The refused credentials of one gateway, with a bounded number of addresses and kinds of refusals."""

    def __init__(self, trail: AuditTrail, most: int = 30) -> None:
        """`most`: failed sign-ins per minute from one address before it is limited."""
        self._trail = trail
        self._most = most
        self._addresses: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._kinds: OrderedDict[tuple[str, ...], _Kind] = OrderedDict()
        trail.before_sweep(self.flush)

    def retry_after(self, address: str) -> float | None:
        """Return the seconds until an address can fail again; None if it is below the limit."""
        since, count = self._addresses.get(_network(address), (0.0, 0))
        left = since + _WINDOW - time.monotonic()
        return left if count > self._most and left > 0 else None

    def note(self, address: str) -> None:
        network, now = _network(address), time.monotonic()
        since, count = self._addresses.pop(network, (now, 0))
        if now - since > _WINDOW:
            since, count = now, 0
        self._addresses[network] = (since, count + 1)
        while len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.popitem(last=False)

    async def record(self, record: AuditRecord) -> None:
        """Store a refusal, or count it if a similar one was stored less than a minute ago."""
        key: tuple[str, ...] = (record.client_id, record.username, _network(record.address), record.action)
        now = time.monotonic()
        if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            key = (_OTHERS,)
        kind = self._kinds.get(key)
        if kind is not None and now < kind.ends:
            kind.more += 1
            kind.latest = record
            return
        self._kinds[key] = _Kind(now + _WINDOW)
        if kind is not None:
            await self._store(kind)
        await self._trail.record(record)

    async def flush(self, *, all_kinds: bool = False) -> None:
        """Store the counts of kinds whose minute is over."""
        now = time.monotonic()
        over = [(key, kind) for key, kind in self._kinds.items() if all_kinds or now >= kind.ends]
        for key, _ in over:
            del self._kinds[key]
        await asyncio.gather(*(self._store(kind) for _, kind in over))

    async def _store(self, kind: _Kind) -> None:
        if kind.latest is not None:
            reason = f"{kind.latest.reason} ({kind.more} more like this within {_WINDOW:g} s)"
            await self._trail.record(msgspec.structs.replace(kind.latest, reason=reason))


def _network(address: str) -> str:
    """Return the address, or the /64 network of an IPv6 address, which one machine may own as a whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
