"""Limits the number of submitted jobs of a run, as reported or learned from the scheduler's refusals."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterable

from crestline.model.hostlist import expand

_MIN_INTERVAL, _MAX_INTERVAL = 2.0, 60.0
"""Seconds after which one more job is tried: the first time after a refusal, and at most."""


class SubmitLimit:
    """Admits jobs as long as the scheduler accepts them; after a refusal, as many as it had accepted.

    From time to time it tries one more, at growing intervals, because other jobs of the user may have ended. Of the
    waiting jobs, those for idle nodes come first, so that the run spreads over the nodes to which tests are pinned.
    """

    def __init__(self, min_interval: float = _MIN_INTERVAL, max_interval: float = _MAX_INTERVAL) -> None:
        self._min_interval, self._max_interval = min_interval, max_interval
        self._interval = min_interval
        self._most: int | None = None
        """Number of jobs that the scheduler accepts; None: no limit is known."""
        self._admitted = 0
        """Jobs that were submitted and have not ended, or are about to be submitted."""
        self._load: Counter[str] = Counter()
        """Admitted jobs by their requested nodes."""
        self._busy: frozenset[str] = frozenset()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Waiting jobs by their requested nodes."""
        self._probe: asyncio.TimerHandle | None = None
        self._is_probing = False

    def set_most(self, most: int | None) -> None:
        """Set the initial limit; None: unlimited."""
        self._most = most

    def set_busy(self, nodes: Collection[str]) -> None:
        """Let jobs for these nodes wait for those for others, as long as the run has as few jobs there."""
        self._busy = frozenset(nodes)

    async def acquire(self, nodes: str = "") -> None:
        """Wait until a job can be submitted.

        Args:
            nodes: its requested hostlist; empty: any. Of jobs with the same hostlist, the one that has waited longest
                is first.
        """
        if self._has_room() and not self._waiting:
            self._count(nodes)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(nodes, deque()).append(turn)
        if self._probe is None:
            self._schedule_probe()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(nodes)
            raise

    def release(self, nodes: str = "") -> None:
        """Count a job that has ended, or that was not submitted."""
        self._discount([nodes])
        self._admit()

    def accepted(self) -> None:
        """Count a job that the scheduler has accepted."""
        if self._is_probing:
            self._is_probing, self._interval = False, self._min_interval
            self._schedule_probe()

    def refused(self, nodes: Collection[str]) -> None:
        """Count jobs, by their nodes, that the scheduler refused. The number of its accepted jobs is then the limit."""
        self._is_probing = False
        self._discount(nodes)
        # If it has accepted none of this run, the user's other jobs fill the limit, or it is smaller than one array.
        self._most = self._admitted or len(nodes) // 2
        self._admit()

    def _count(self, nodes: str) -> None:
        self._admitted += 1
        self._load[nodes] += 1

    def _discount(self, several: Iterable[str]) -> None:
        for nodes in several:
            self._admitted -= 1
            self._load[nodes] -= 1

    def _has_room(self) -> bool:
        return self._most is None or self._admitted < self._most

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            nodes = min(self._waiting, key=self._rank)
            turns = self._waiting[nodes]
            turn = turns.popleft()
            if not turns:
                del self._waiting[nodes]
            if not turn.done():
                self._count(nodes)
                turn.set_result(None)

    def _rank(self, nodes: str) -> tuple[int, bool]:
        """Return the sort key of a job for these nodes: the jobs before it there. A job for any node finds an idle
        one."""
        return (self._load[nodes] if nodes else 0, not self._busy.isdisjoint(expand(nodes)) if nodes else False)

    def _schedule_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if self._waiting:
            self._probe = asyncio.get_running_loop().call_later(self._interval, self._try_one_more)

    def _try_one_more(self) -> None:
        self._is_probing = True
        self._interval = min(2 * self._interval, self._max_interval)
        self._most = max(self._most or 0, self._admitted) + 1
        self._admit()
        self._schedule_probe()
