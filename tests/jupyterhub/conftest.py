"""One hub of the shipped example for all tests of it."""

from __future__ import annotations

from harness.example_hub import example_hub

__all__ = ["example_hub"]
