"""Retry, polling and submission settings of the client, with defaults that suit a real site."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When the client retries a request; times in seconds.

    >>> RetryPolicy(attempts=3, total_timeout=20).max_backoff
    15.0
    """

    attempts: int = 8
    """maximum number of retries after the first try"""
    initial_backoff: float = 0.5
    """wait before the first retry"""
    max_backoff: float = 15.0
    """longest wait between two tries; it also caps `Retry-After`"""
    total_timeout: float = 45.0
    """time for one call, including all tries and waits"""
    connect_timeout: float = 10.0
    """time to establish a connection"""
    read_timeout: float = 30.0
    """time without a byte from the server; FirecREST's own timeouts are 5 to 10 s"""


class PollPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often the monitor polls; times in seconds.

    >>> PollPolicy(min_interval=5, max_interval=120).jitter
    0.15
    """

    min_interval: float = 1.0
    """interval between two lists while a watched job is new or has just changed"""
    max_interval: float = 10.0
    """interval between two lists while no job has changed for long"""
    backoff_ratio: float = 0.1
    """the interval is this share of the time since the last change"""
    max_duty_cycle: float = 0.2
    """largest share of time that the monitor spends in requests; a slow list is fetched less often"""
    jitter: float = 0.15
    """share by which an interval varies to both sides, so that clients do not synchronize"""
    streaming_interval: float = 60.0
    """interval between two lists while the event stream of a Crestline gateway reports every change, as a safeguard"""
    stream_reconnect_delay: float = 2.0
    """shortest time between two openings of an event stream; grows to `list_retry_delay` while it fails"""
    lookups_per_round: int = 8
    """maximum number of requests by id in one round, for jobs that the list lacks"""
    list_retry_delay: float = 60.0
    """longest time between two tries while lists fail"""
    missing_timeout: float = 60.0
    """a job is gone once it has been missing for this long, in at least `missing_checks` lists"""
    missing_checks: int = 3
    """smallest number of lists without the job before it is gone"""
    unseen_timeout: float | None = 0.8
    """`missing_timeout`, in at least two lists, for an id given as text that this connection did not submit and that no
    list has ever shown. None: use `missing_timeout`. Choose None for ids from a process that has just submitted them,
    because a plain FirecREST may not show a new job for some seconds"""
    idle_ttl: float = 300.0
    """seconds for which a job is kept in memory after a caller last asked for it"""
    all_users: bool = False
    """list the jobs of all users, for a service that watches the jobs of others"""

    def interval(self, quiet: float, cost: float) -> float:
        """Return the seconds from one round to the next, before jitter.

        Args:
            quiet: seconds since the last change of any watched job.
            cost: shorter duration of the last two rounds, in seconds.
        """
        wanted = min(max(self.backoff_ratio * quiet, self.min_interval), self.max_interval)
        return max(wanted, min(cost / self.max_duty_cycle, 3 * self.max_interval))


class SubmitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a submission counts as not carried out; times in seconds.

    >>> SubmitPolicy(total_timeout=600).visibility_timeout
    20.0
    """

    visibility_timeout: float = 20.0
    """longest time that an accepted job may be missing from lists"""
    poll_interval: float = 2.0
    """interval between two attempts to resolve an unknown outcome"""
    total_timeout: float = 180.0
    """time after which the call fails with SubmitOutcomeUnknownError"""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All retry, polling and submission settings of a connection.

    >>> patient = Policy(retry=RetryPolicy(total_timeout=600), poll=PollPolicy(max_interval=60))
    >>> patient.submit.total_timeout
    180.0

    Example: `crestline.connect("daint@cscs", policy=patient)`
    """

    retry: RetryPolicy = RetryPolicy()
    """retries of single requests"""
    poll: PollPolicy = PollPolicy()
    """polling of watched jobs"""
    submit: SubmitPolicy = SubmitPolicy()
    """resolution of submissions with an unknown outcome"""
