"""What a diagnosis says: one `Check` for each thing looked at."""

from __future__ import annotations

import enum

import msgspec

from crestline.model.errors import CrestlineError


class Verdict(enum.StrEnum):
    """Result of a check: passed, passed with a warning, or failed."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One result of `crestline doctor`."""

    name: str
    verdict: Verdict
    message: str
    hint: str = ""


def failed(name: str, error: CrestlineError) -> Check:
    """A check that ended with an error."""
    return Check(name, Verdict.FAIL, error.message, error.hint)
