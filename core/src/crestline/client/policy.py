"""Retry, polling and submission settings of the client, with defaults that suit a real site."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a request is repeated; times in seconds.

    >>> RetryPolicy(attempts=3, total_timeout=20).max_backoff
    15.0
    """

    attempts: int = 8
    """repeats after the first try"""
    initial_backoff: float = 0.5
    max_backoff: float = 15.0
    """also of what a `Retry-After` asks for"""
    total_timeout: float = 45.0
    """for one call, waits and answers together"""
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    """without a byte from the server; FirecREST itself gives up after 5 to 10 s"""


class PollPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often the monitor looks; times in seconds.

    >>> PollPolicy(min_interval=5, max_interval=120).jitter
    0.15
    """

    min_interval: float = 1.0
    """between two lists while a watched job is new or has just changed"""
    max_interval: float = 10.0
    """between two lists while nothing has changed for long"""
    backoff_ratio: float = 0.1
    """the interval is this share of the time since the last news"""
    max_duty_cycle: float = 0.2
    """of the time, at most this much is spent in requests: a slow list is asked for less often"""
    jitter: float = 0.15
    """an interval varies by this share to both sides, so that clients do not march in step"""
    streaming_interval: float = 60.0
    """between two lists, as a matter of caution, while a Crestline gateway's event stream tells every change"""
    stream_reconnect_delay: float = 2.0
    """between two openings of an event stream, at least; grows to `list_retry_delay` while it cannot be had"""
    lookups_per_round: int = 8
    """by-id requests in one round, for jobs that the list misses"""
    list_retry_delay: float = 60.0
    """after lists that could not be had, the longest time to the next try"""
    missing_timeout: float = 60.0
    """a job is gone when it has been missing for this long, and in at least `missing_checks` looks"""
    missing_checks: int = 3
    unseen_timeout: float | None = 0.8
    """The same, in at least two looks, for an id that was given as text, that this connection has not submitted and
    that no look has ever found; None: as for any other, since such ids may come from a process that has just submitted
    them, and a plain FirecREST may not see a job for some seconds"""
    idle_ttl: float = 300.0
    """seconds for which a job is kept in memory after a caller last asked for it"""
    all_users: bool = False
    """list the jobs of all users, for a service that watches the jobs of others"""

    def interval(self, quiet: float, cost: float) -> float:
        """Seconds from one round to the next, before jitter.

        Args:
            quiet: seconds since the latest news of any watched job.
            cost: seconds that each of the last two rounds took at least.
        """
        wanted = min(max(self.backoff_ratio * quiet, self.min_interval), self.max_interval)
        return max(wanted, min(cost / self.max_duty_cycle, 3 * self.max_interval))


class SubmitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to believe that a submission did not happen; times in seconds.

    >>> SubmitPolicy(total_timeout=600).visibility_timeout
    20.0
    """

    visibility_timeout: float = 20.0
    """a job may stay invisible in lists for this long after it was accepted"""
    poll_interval: float = 2.0
    total_timeout: float = 180.0
    """until a submission's outcome is declared unknown"""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All retry, polling and submission settings of a connection.

    >>> patient = Policy(retry=RetryPolicy(total_timeout=600), poll=PollPolicy(max_interval=60))
    >>> patient.submit.total_timeout
    180.0

    Example: `crestline.connect("daint@cscs", policy=patient)`
    """

    retry: RetryPolicy = RetryPolicy()
    poll: PollPolicy = PollPolicy()
    submit: SubmitPolicy = SubmitPolicy()
