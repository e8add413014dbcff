"""What the checks of a gateway's set-up are given."""

from __future__ import annotations

from dataclasses import dataclass

from crestline.gateway.config import GatewayConfig


@dataclass(frozen=True)
class Setup:
    """A site's set-up."""

    config: GatewayConfig
    user: str | None
    """a user of the systems to try things with, None: those that the configuration names for observing"""
