"""What carries requests in place of the network, for programs that open their systems deep inside: a simulation's own.

Other callers pass `transport` and `authorizer` to `crestline.connect`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

from crestline.client.auth import Authorizer

Network = tuple[httpx.AsyncBaseTransport | None, Authorizer | None]
_injected: ContextVar[Network] = ContextVar("crestline_network", default=(None, None))


def injected() -> Network:
    """The transport and the authorizer of the block that the caller runs in; None for each that is not injected."""
    return _injected.get()


@contextmanager
def use_network(transport: httpx.AsyncBaseTransport, authorizer: Authorizer) -> Iterator[None]:
    """Use these for systems that are made in the block, and in tasks that it starts, unless they are given others."""
    token = _injected.set((transport, authorizer))
    try:
        yield
    finally:
        _injected.reset(token)
