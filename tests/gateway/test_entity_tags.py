"""`If-None-Match`, wherever the gateway reads it."""

from __future__ import annotations

import pytest

from crestline.gateway.routes.entity_tags import matches


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ('"a"', True), ('W/"a"', True), ('"b", W/"a"', True), ("*", True), (' "a" ', True),
        (None, False), ("", False), ('"b"', False), ('"ab"', False), ("a", False), ('"b","c"', False),
    ],
)  # fmt: skip
def test_weak_comparison(known: str | None, found: bool) -> None:
    assert matches(known, '"a"') is found
    assert matches(known, 'W/"a"') is found
