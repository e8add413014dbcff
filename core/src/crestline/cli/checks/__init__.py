"""What `crestline doctor` looks at: `connection` from here to a system, `gateway` a gateway's configuration."""

from __future__ import annotations

import enum

import msgspec

from crestline.model import CrestlineError

__all__ = ["Check", "Verdict", "failed"]


class Verdict(enum.StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One thing looked at."""

    name: str
    verdict: Verdict
    message: str
    hint: str = ""


def failed(name: str, error: CrestlineError) -> Check:
    """A check that ended with an error."""
    return Check(name, Verdict.FAIL, error.message, error.hint)
