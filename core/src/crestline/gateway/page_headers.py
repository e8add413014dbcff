"""Headers of the gateway's own pages, `/` and `/docs`: no content from other servers, no frames."""

from __future__ import annotations

COMMON = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every file of a page, besides `X-Content-Type-Options`, which every response has."""


def page_headers(policy: dict[str, str]) -> dict[str, str]:
    """Return the headers of a page.

    Args:
        policy: directives of its Content-Security-Policy besides the defaults, which forbid everything.
    """
    rules = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    } | policy
    return {
        **COMMON,
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in rules.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }
