"""What each route asks for."""

from __future__ import annotations

from typing import Any


def required_scope(method: str, opt: dict[str, Any]) -> str:
    """The scope that a route needs: its own `scope`, or else `area` and whether its method changes anything.

    Raises:
        KeyError: the route says neither.
    """
    own: str | None = opt.get("scope")
    return own or f"{opt['area']}:{'read' if method in ('GET', 'HEAD') else 'write'}"
