"""How to reach one machine, and how much of it to use."""

from __future__ import annotations

import msgspec

from crestline.wire.status import SshTimeouts


class SshSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a site writes; nothing in it turns the check of the host key off."""

    host: str
    known_hosts: str
    """a known_hosts file (an absolute path, read at every login), or the text of one"""
    port: int = 22
    observer: str | None = None
    """a user that health checks log in as; None: they look at the server's greeting alone"""
    max_sessions: int = 8
    """channels on one connection; below sshd's `MaxSessions` (default 10): a session ends some time after its use"""
    max_connections: int = 4
    """connections of one user"""
    max_clients: int = 100
    """connections of all users"""
    queue: float = 30
    """seconds that a command waits for its turn"""
    stall: float = 30
    """seconds without any progress after which a file transfer is given up"""
    timeout: SshTimeouts = msgspec.field(default_factory=SshTimeouts)
    """seconds"""
