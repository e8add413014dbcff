"""The relay of one test."""

from harness.relay import relay

__all__ = ["relay"]
