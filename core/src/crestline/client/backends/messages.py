"""What passes between the client and a backend: requests, answers and the error of what was never sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from crestline.model import GatewayUnavailableError, Job, MaintenanceError, RateLimitedError


class NotSentError(GatewayUnavailableError):
    """What was asked has certainly not happened: the request never left, or the gateway says that it did not begin."""


class UnfinishedError(GatewayUnavailableError):
    """What was asked has begun, and was given up because it did not end in time."""


NOTHING_BEGAN = (NotSentError, RateLimitedError, MaintenanceError)
"""errors after which what was asked has certainly not happened"""


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs a list shall hold; a gateway that does not know a filter answers with more."""

    ids: tuple[str, ...] | None = None
    name: str | None = None
    names: tuple[str, ...] = ()
    """beside `name`; together at most 235 characters, commas included"""
    account: str | None = None
    all_users: bool = False
    window: int | None = None
    """only jobs that were active within the last so many seconds; None: all"""


class JobNews(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a stream of job events; one field is set."""

    job: Job | None = None
    """the job with its new state"""
    missing: tuple[str, ...] = ()
    """ids that the scheduler does not list, or no longer"""
    outage: str | None = None
    """why nothing is known about any of them"""


class TransferMethod(msgspec.Struct, frozen=True, kw_only=True):
    """Signed URLs for one large file; `part_size` in bytes."""

    job_id: str
    part_urls: tuple[str, ...] = ()
    complete_url: str | None = None
    download_url: str | None = None
    part_size: int = 0
    log: str = ""
    """path of the transfer job's output on the system"""
    error_log: str = ""
    """path of what its programs say of a failure; empty: in `log` too"""
    pieces: str = ""
    """directory on the system where the file lies in pieces of `part_size` bytes, `000000` and so on; empty: none"""

    @property
    def temporary(self) -> tuple[str, ...]:
        """What lies on the system until the transfer has ended."""
        return (self.pieces,) if self.pieces else ()


class BundleFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects files of one directory: those not older than a given file, and those that match a pattern.

    >>> BundleFilter(directory="output", target=Path("results"), patterns=("*.xml",)).since
    """

    directory: str
    """path relative to the remote directory; a directory that does not exist selects no files"""
    target: Path
    """the local directory"""
    since: str | None = None
    """name of a file in the directory; on plain FirecREST, which cannot compare ages, it selects all files"""
    patterns: tuple[str, ...] = ()
    """shell patterns for paths relative to the directory; `*` also matches `/`"""


class Description(msgspec.Struct):
    """An answer of `/status/systems`."""

    features: list[str]
    system: dict[str, Any]
    """the system's entry"""
    asked: float
    """time of the answer, seconds since the epoch"""
