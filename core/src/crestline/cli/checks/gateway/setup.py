"""The input of the checks."""

from __future__ import annotations

from dataclasses import dataclass

from crestline.gateway.config import GatewayConfig


@dataclass(frozen=True)
class Setup:
    """A gateway's configuration, and the user to test with."""

    config: GatewayConfig
    user: str | None
    """A POSIX user of the systems to test with. None selects the users that the configuration names for monitoring."""
