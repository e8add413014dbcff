"""Checks the permission that each route requires."""

from __future__ import annotations

from typing import Any


def required_scope(method: str, opt: dict[str, Any]) -> str:
    """Return the scope that a route requires: its own `scope`, or its `area` with the kind of its method.

    Raises:
        KeyError: the route has neither.
    """
    own: str | None = opt.get("scope")
    return own or f"{opt['area']}:{'read' if method in ('GET', 'HEAD') else 'write'}"
