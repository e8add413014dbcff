"""Retry, polling and submission settings of the client, with defaults that suit a real site."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a request is repeated; times in seconds.

    >>> RetryPolicy(attempts=3, budget=20).longest_wait
    15.0
    """

    attempts: int = 8
    """repeats after the first try"""
    first_wait: float = 0.5
    longest_wait: float = 15.0
    """also of what a `Retry-After` asks for"""
    budget: float = 45.0
    """for one call, waits and answers together"""
    connect_timeout: float = 10.0
    answer_timeout: float = 30.0
    """without a byte from the server; FirecREST itself gives up after 5 to 10 s"""


class PollPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often the monitor looks; times in seconds.

    >>> PollPolicy(shortest=5, longest=120).jitter
    0.15
    """

    shortest: float = 1.0
    """between two lists while a watched job is new or has just changed"""
    longest: float = 10.0
    """between two lists while nothing has changed for long"""
    growth: float = 0.1
    """the interval is this share of the time since the last news"""
    busy_share: float = 0.2
    """of the time, at most this much is spent in requests: a slow list is asked for less often"""
    jitter: float = 0.15
    """an interval varies by this share to both sides, so that clients do not march in step"""
    streamed: float = 60.0
    """between two lists, as a matter of caution, while a Crestline gateway's event stream tells every change"""
    restream: float = 2.0
    """between two openings of an event stream, at least; grows to `relist` while it cannot be had"""
    lookups: int = 8
    """by-id requests in one round, for jobs that the list misses"""
    relist: float = 60.0
    """after lists that could not be had, the longest time to the next try"""
    gone_after: float = 60.0
    """a job is gone when it has been missing for this long, and in at least `gone_looks` looks"""
    gone_looks: int = 3
    unseen_timeout: float | None = 0.8
    """The same, in at least two looks, for an id that was given as text, that this connection has not submitted and
    that no look has ever found; None: as for any other, since such ids may come from a process that has just submitted
    them, and a plain FirecREST may not see a job for some seconds"""
    remember: float = 300.0
    """seconds for which a job is kept in memory after a caller last asked for it"""
    all_users: bool = False
    """list the jobs of all users, for a service that watches the jobs of others"""

    def interval(self, quiet: float, cost: float) -> float:
        """Seconds from one round to the next, before jitter.

        Args:
            quiet: seconds since the latest news of any watched job.
            cost: seconds that each of the last two rounds took at least.
        """
        wanted = min(max(self.growth * quiet, self.shortest), self.longest)
        return max(wanted, min(cost / self.busy_share, 3 * self.longest))


class SubmitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to believe that a submission did not happen; times in seconds.

    >>> SubmitPolicy(budget=600).visibility
    20.0
    """

    visibility: float = 20.0
    """a job may stay invisible in lists for this long after it was accepted"""
    look_every: float = 2.0
    budget: float = 180.0
    """until a submission's outcome is declared unknown"""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All retry, polling and submission settings of a connection.

    >>> patient = Policy(retry=RetryPolicy(budget=600), poll=PollPolicy(longest=60))
    >>> patient.submit.budget
    180.0

    Example: `crestline.connect("daint@cscs", policy=patient)`
    """

    retry: RetryPolicy = RetryPolicy()
    poll: PollPolicy = PollPolicy()
    submit: SubmitPolicy = SubmitPolicy()
