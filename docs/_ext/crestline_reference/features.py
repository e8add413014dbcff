"""The additions to the wire, by the names that a gateway tells."""

from __future__ import annotations

from crestline.wire.extensions import FEATURES


def markdown() -> str:
    """The header, as a gateway of this version sends it."""
    return f"```text\nCrestline-Features: {' '.join(FEATURES)}\n```\n"
