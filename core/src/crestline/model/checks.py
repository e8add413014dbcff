"""Results of `crestline doctor`, one `Check` for each examined part."""

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
    """One result of `crestline doctor`.

    Attributes:
        name: name of the examined part.
        verdict: the result.
        message: what was found, one sentence.
        hint: what to do about it; empty if nothing.
    """

    name: str
    verdict: Verdict
    message: str
    hint: str = ""


def failed(name: str, error: CrestlineError) -> Check:
    """Return a failed check with the message and hint of an error."""
    return Check(name, Verdict.FAIL, error.message, error.hint)
