"""The limits of a server, and how many file descriptors there are for it."""

from __future__ import annotations

import resource
from typing import Annotated

import msgspec

_MOST_CONNECTIONS = 4096
_FEWEST_CONNECTIONS = 16

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

_started_with: list[int] = []


class ConnectionLimits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`[limits]`: what one connection may take, and how many there may be."""

    max_connections: Positive | None = None
    """connections at a time; None: half of the file descriptors of the process, 4,096 at most. The rest is the reserve
    for the server's own files, sockets and programs"""
    max_connections_per_address: Positive | None = None
    """from one IPv4 address or IPv6 /64 network, trusted proxies apart; None: half of `max_connections`"""
    max_head_size: Positive = 64 * 1024
    """bytes of a request's URL and headers; beyond them the answer is 414 or 431"""
    max_header_count: Positive = 256
    """header lines of a request"""
    head_timeout: Seconds = 20.0
    """seconds until a new connection is encrypted, and until a request's head is complete"""
    body_timeout: Seconds = 30.0
    """seconds of silence within a request's body, or of a client that takes nothing of its answer"""
    min_body_rate: Annotated[int, msgspec.Meta(ge=0)] = 512
    """bytes a second that a request's body brings on average over `body_timeout`"""
    keep_alive_timeout: Positive = 65
    """seconds until a connection without a request is closed"""

    def resolve(self, descriptors: int) -> ConnectionLimits:
        """The same with both numbers of connections, for a process that may open so many files."""
        total = min(self.max_connections or _MOST_CONNECTIONS, max(descriptors // 2, _FEWEST_CONNECTIONS))
        per_address = min(self.max_connections_per_address or max(total // 2, 1), total)
        return msgspec.structs.replace(self, max_connections=total, max_connections_per_address=per_address)


def raise_descriptor_limit() -> int:
    """Let this process open as many files as the system allows it (RLIMIT_NOFILE), and say how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _started_with:
        _started_with.append(soft)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST_CONNECTIONS * 2 if hard == resource.RLIM_INFINITY else hard


def inherited_descriptor_limit() -> int | None:
    """The soft limit that programs started from here should have: the one before `raise_descriptor_limit`.

    None where it was not raised. Programs that use select(2) break above 1,024, and Slurm hands the limit of its
    commands on to jobs.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _started_with[0] if _started_with and _started_with[0] != soft else None
