"""State that all triggers of a connection in a triggerer share: the system, its monitor, and a budget of requests."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from crestline import clock
from crestline.client import Policy, PollPolicy, System, connect
from crestline.model import GatewayUnavailableError, RateLimitedError
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.rendered import required, single

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_POLICY = Policy(poll=PollPolicy(min_interval=2.0, max_duty_cycle=0.1, unseen_timeout=None))
"""A triggerer handles an event only after a second or two, and has other work to do."""

_READS_AT_ONCE = 20
_READS_PER_SECOND = 0.4
_FOLLOWED = 100
"""Maximum number of running jobs whose output is followed at the same time. Output of others is read when they have
ended."""
_REOPEN_DELAY = 5.0
"""Seconds; some errors of a token endpoint arrive without any delay."""
_TRUSTED_FOR = 600.0
"""Seconds after which the connection is read again for later triggers, because it may have been edited."""


class RequestBudget:
    """Limits the requests for the output of running jobs: a burst at first, then less than one every two seconds.

    With a list request every other second, a triggerer sends at most one request per second for any number of jobs.
    """

    def __init__(self) -> None:
        self._places = _FOLLOWED
        self._left = float(_READS_AT_ONCE)
        self._filled_at = clock.monotonic()
        self._line = asyncio.Lock()

    def acquire_slot(self) -> bool:
        """Return whether one more job can be followed. If so, call `release_slot` afterwards."""
        if self._places == 0:
            return False
        self._places -= 1
        return True

    def release_slot(self) -> None:
        """Release the slot of a followed job."""
        self._places += 1

    async def wait(self) -> None:
        """Wait until a request can be sent, first come, first served."""
        async with self._line:
            if (missing := 1 - self._fill()) > 0:
                await asyncio.sleep(missing / _READS_PER_SECOND)
            self._left -= 1

    def _fill(self) -> float:
        now = clock.monotonic()
        self._left = min(_READS_AT_ONCE, self._left + (now - self._filled_at) * _READS_PER_SECOND)
        self._filled_at = now
        return self._left


@dataclass
class Shared:
    """An open system and its users."""

    hook: FirecRESTHook
    system: System | None = None
    budget: RequestBudget = field(default_factory=RequestBudget)
    finishing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    """For tasks that read the rest of a job's output without waiting for their turn."""
    opened_at: float = 0.0
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str | None], Shared]]
_shared = weakref.WeakKeyDictionary()


async def acquire(firecrest_conn_id: str, system: str | None) -> Shared:
    """Return the open system, which `release` releases. Waits without limit for an unavailable gateway.

    Raises:
        CrestlineError: the connection cannot be used.
        AirflowNotFoundException: the connection does not exist.
    """
    firecrest_conn_id = required(firecrest_conn_id, "firecrest_conn_id")
    system = single(system, "system")
    here = _shared.setdefault(asyncio.get_running_loop(), {})
    place = (firecrest_conn_id, system)
    shared = here.get(place)
    if shared is None or (shared.opened_at and clock.monotonic() - shared.opened_at > _TRUSTED_FOR):
        shared = here[place] = Shared(FirecRESTHook(firecrest_conn_id))
    shared.users += 1
    try:
        async with shared.lock:
            if shared.system is None:
                await outlast(firecrest_conn_id, lambda: _open(shared, firecrest_conn_id, system))
    except BaseException:
        await release(shared)
        raise
    return shared


async def _open(shared: Shared, firecrest_conn_id: str, system: str | None) -> None:
    shared.hook = FirecRESTHook(firecrest_conn_id)  # the connection may have been corrected since the last attempt
    await shared.hook.aget_conn(system)  # reads the connection
    shared.system = await connect(shared.hook.site(), system=system, policy=_POLICY).open()
    shared.opened_at = clock.monotonic()


async def outlast(firecrest_conn_id: str, action: Callable[[], Awaitable[_Result]]) -> _Result:
    """Retry an idempotent action until the gateway and its token issuer respond.

    Raises:
        CrestlineError: an error that waiting does not resolve.
    """
    while True:
        try:
            return await action()
        except (GatewayUnavailableError, RateLimitedError) as error:  # the client has tried for most of a minute
            _LOG.warning("Connection %s: %s", firecrest_conn_id, error)
            await asyncio.sleep(max(_REOPEN_DELAY, error.retry_after or 0.0))


async def release(shared: Shared) -> None:
    """Release the system. The last user closes it."""
    shared.users -= 1
    if shared.users:
        return
    here = _shared[asyncio.get_running_loop()]
    for place, other in list(here.items()):
        if other is shared:
            del here[place]
    if shared.system is not None:
        await shared.system.close()
