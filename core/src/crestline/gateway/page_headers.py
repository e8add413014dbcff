"""Headers of the gateway's own pages, `/` and `/docs`: nothing from elsewhere, no frames around them."""

from __future__ import annotations

COMMON = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""of every file of a page, beside `X-Content-Type-Options`, which every answer has"""


def page_headers(policy: dict[str, str]) -> dict[str, str]:
    """Headers of a page.

    Args:
        policy: what its Content-Security-Policy allows beyond nothing.
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
