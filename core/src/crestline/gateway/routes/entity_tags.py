"""`If-None-Match` (RFC 9110, section 13.1.2)."""

from __future__ import annotations


def matches(known: str | None, tag: str) -> bool:
    """Whether the client has this version, by weak comparison; `*` matches every tag.

    Args:
        known: the header's value; None: no header.
        tag: the tag as in the `ETag` header, with quotes.
    """
    if known is None:
        return False
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags
