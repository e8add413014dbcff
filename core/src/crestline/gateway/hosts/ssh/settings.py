"""Settings of an SSH host: its address and limits."""

from __future__ import annotations

import msgspec

from crestline.wire.status import SshTimeouts


class SshSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The settings of a site. None of them disables the check of the host key."""

    host: str
    known_hosts: str
    """Absolute path of a known_hosts file, read at every login, or the text of one."""
    port: int = 22
    observer: str | None = None
    """User of health checks; None: check only the server's greeting."""
    max_sessions: int = 8
    """Maximum channels on one connection. Below sshd's `MaxSessions` (default 10), because a session ends some time
    after its use."""
    max_connections: int = 4
    """Maximum connections of one user."""
    max_clients: int = 100
    """Maximum connections of all users."""
    queue: float = 30
    """Seconds that a command waits for a slot."""
    stall: float = 30
    """Seconds without progress after which a file transfer fails."""
    timeout: SshTimeouts = msgspec.field(default_factory=SshTimeouts)
    """Time limits in seconds."""
