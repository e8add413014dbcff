"""The relay beside the fixtures that all parts share."""

from __future__ import annotations

from harness.relay import relay

__all__ = ["relay"]
