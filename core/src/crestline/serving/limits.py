"""The limits of a server, and the number of available file descriptors."""

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
    """`[limits]`: limits of one connection, and of their number."""

    max_connections: Positive | None = None
    """Maximum number of connections; None: half of the file descriptors of the process, at most 4,096. The rest is
    the reserve for the server's own files, sockets and programs."""
    max_connections_per_address: Positive | None = None
    """Maximum number of connections from one IPv4 address or IPv6 /64 network, except trusted proxies; None: half of
    `max_connections`."""
    max_head_size: Positive = 64 * 1024
    """Maximum size in bytes of a request's URL and headers. Above it, the response is 414 or 431."""
    max_header_count: Positive = 256
    """Maximum number of header lines of a request."""
    head_timeout: Seconds = 20.0
    """Seconds until a new connection is encrypted, and until a request's head is complete."""
    body_timeout: Seconds = 30.0
    """Seconds of silence within a request's body, or for which a client reads nothing of its response."""
    min_body_rate: Annotated[int, msgspec.Meta(ge=0)] = 512
    """Minimum average rate of a request's body in bytes per second over `body_timeout`."""
    keep_alive_timeout: Positive = 65
    """Seconds until a connection without a request is closed."""

    def resolve(self, descriptors: int) -> ConnectionLimits:
        """Return the limits with both numbers of connections set, for a process that can open `descriptors` files."""
        total = min(self.max_connections or _MOST_CONNECTIONS, max(descriptors // 2, _FEWEST_CONNECTIONS))
        per_address = min(self.max_connections_per_address or max(total // 2, 1), total)
        return msgspec.structs.replace(self, max_connections=total, max_connections_per_address=per_address)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files (RLIMIT_NOFILE) to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _started_with:
        _started_with.append(soft)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST_CONNECTIONS * 2 if hard == resource.RLIM_INFINITY else hard


def inherited_descriptor_limit() -> int | None:
    """Return the soft limit for programs that this process starts: the one before `raise_descriptor_limit`.

    None if it was not raised. Programs that use select(2) fail above 1,024, and Slurm passes the limit of its commands
    on to jobs.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _started_with[0] if _started_with and _started_with[0] != soft else None
