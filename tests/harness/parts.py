"""Parts that a machine may lack: Docker, a database server, a browser."""

from __future__ import annotations

import os

import pytest


def require(part_present: bool, what: str) -> None:
    """Skip the test where a part is absent; with CRESTLINE_REQUIRE_PARTS=1, as in CI, fail it.

    Args:
        what: the part that is missing and how to get it, as a sentence.
    """
    if part_present:
        return
    if os.environ.get("CRESTLINE_REQUIRE_PARTS") == "1":
        pytest.fail(f"CRESTLINE_REQUIRE_PARTS=1 is set, but: {what}", pytrace=False)
    pytest.skip(what)
